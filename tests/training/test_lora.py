"""Low-rank adaptation in training: its weights alone change, a run resumes exactly, and checkpoints are plain ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.core.config import from_dict, to_dict
from vla.core.errors import ConfigError, UnknownNameError
from vla.core.sealed import seal_folder
from vla.models.checkpoint import load_model, read_tensors
from vla.models.lora import adapt, is_factor, merged
from vla.training.claims import read_claim
from vla.training.engines import Stopped, train
from vla.training.loop import STOP
from vla.training.optimiser import build_optimisers
from vla.training.recipe import OptimiserConfig, TrainConfig
from vla.training.state import newest_state, states

MakeRecipe = Callable[..., TrainConfig]
_LORA: dict[str, Any] = {"rank": 2, "alpha": 4.0}


@pytest.fixture(scope="module")
def parent(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(make_recipe(steps=2), tmp_path_factory.mktemp("parent"))


def _state(run: Path, kind: str) -> dict[str, Tensor]:
    newest = newest_state(run)
    assert newest is not None
    tensors = read_tensors(newest, "state.safetensors")
    return {name.removeprefix(f"{kind}."): value for name, value in tensors.items() if name.startswith(f"{kind}.")}


def test_its_weights_alone_change(parent: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Three steps, under weight decay, Muon, averages and evaluations in between; every tensor is looked at."""
    checkpoint = train(make_recipe(init=str(parent), lora=_LORA, steps=3, validate_s=1e-6), tmp_path)
    before = load_model(parent)[1].state_dict()
    for kind in ("model", "average"):
        after = _state(tmp_path, kind)
        adapted = {name.removesuffix(".base") for name in after if name.endswith(".base")}
        assert adapted == {f"trunk.blocks.0.{part}" for part in ("qkv", "out", "up", "down")}
        for name, value in after.items():
            if is_factor(name):
                assert value.abs().max() > 0, name  # B began at zero
            else:
                assert torch.equal(value, before[name.replace(".base", ".weight")]), name
    blueprint, model = load_model(checkpoint)
    assert to_dict(blueprint.config) == to_dict(load_model(parent)[0].config)
    expected = merged(_state(tmp_path, "average"), 4.0)
    assert model.state_dict().keys() == before.keys() == expected.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name
        changed = name.startswith("trunk.") and "norm" not in name
        assert torch.equal(value, before[name]) != changed, name


def test_what_is_named_is_trained_whole_beside_it(parent: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    lora = _LORA | {"targets": ["trunk.*.qkv.weight"], "train": ["head.*", "table.weight"]}
    checkpoint = train(make_recipe(init=str(parent), lora=lora, steps=3), tmp_path)
    before, after = (load_model(path)[1].state_dict() for path in (parent, checkpoint))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    own = {name for name in after if name.startswith("head.")}
    assert own
    assert changed == {"trunk.blocks.0.qkv.weight", "table.weight"} | own


def test_factors_are_no_matrices_to_orthogonalise(parent: Path) -> None:
    model = load_model(parent)[1]
    factors = adapt(model, ["trunk.*.qkv.weight"], rank=2, alpha=4.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    adam, muon = (
        [names[id(p)] for p in one.param_groups[0]["params"]] for one in build_optimisers(model, OptimiserConfig())
    )
    assert factors <= set(adam)
    assert "trunk.blocks.0.out.weight" in muon


def test_a_run_resumes_exactly(parent: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    config = make_recipe(init=str(parent), lora=_LORA)
    whole = load_model(train(config, tmp_path / "whole"))[1].state_dict()
    run = tmp_path / "halves"

    def log(line: dict[str, Any]) -> None:
        if line["step"] == 2:
            (run / STOP).touch()

    with pytest.raises(Stopped):
        train(config, run, log)
    assert any(is_factor(name) for name in _state(run, "model"))
    halves = load_model(train(config, run))[1].state_dict()
    assert all(torch.equal(whole[name], value) for name, value in halves.items())


def test_an_older_recipe_says_nothing_of_it_and_is_what_it_was(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    config = make_recipe(steps=1)
    checkpoint = train(config, tmp_path)
    said = to_dict(config)
    del said["lora"]
    assert from_dict(TrainConfig, said, where="an older version") == config
    assert read_claim(tmp_path).recipe.lora.rank == 0
    names = load_model(checkpoint)[1].state_dict().keys()
    assert names == _state(tmp_path, "model").keys()
    origin = json.loads((checkpoint / "provenance.json").read_text())
    del origin["recipe"]["lora"]  # a run of a version that did not know it, of which only the checkpoint is left
    (checkpoint / "provenance.json").write_text(json.dumps(origin))
    seal_folder(checkpoint)
    for state in states(tmp_path):
        shutil.rmtree(state)
    assert train(config, tmp_path) == checkpoint


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"lora": {"rank": -1}}, ConfigError, r"train\.lora\.rank=-1 must be at least 0"),
        ({"lora": {"rank": 2, "alpha": 0.0}}, ConfigError, r"train\.lora\.alpha=0\.0 must be positive"),
        ({"lora": {"rank": 2, "targets": []}}, ConfigError, r"train\.lora\.targets names no layer"),
        ({"lora": {"rnk": 2}}, ConfigError, "lora: unknown key 'rnk': did you mean 'rank'"),
        ({"lora": _LORA, "freeze": ["head.*"]}, ConfigError, "lora freezes all that it does not adapt"),
        ({"lora": _LORA | {"targets": ["trnk.*"]}}, UnknownNameError, r"did you mean trunk"),
        ({"lora": _LORA | {"train": ["hed.*"]}}, UnknownNameError, r"lora\.train 'hed\.\*' fits no weight"),
        (
            {"lora": _LORA | {"train": ["trunk.*"]}},
            ConfigError,
            r"trunk\.blocks\.0\.\w+\.weight is adapted by lora\.tar",
        ),
    ],
)
def test_mistakes_are_told(
    changes: dict[str, Any], error: type[Exception], message: str, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        train(make_recipe(**changes), tmp_path)
