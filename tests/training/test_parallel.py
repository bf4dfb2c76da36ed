"""Workers that share one model: alone, and two that learn what one would from twice the batch."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vla.core.config import to_dict
from vla.core.errors import ConfigError, UnknownNameError
from vla.datasets.dataset import Dataset
from vla.models.checkpoint import load_model
from vla.sound.bank import speak
from vla.training.engines import train
from vla.training.metrics import read_metrics
from vla.training.parallel import PARALLEL, Parallel, Single, join
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples

MakeRecipe = Callable[..., TrainConfig]
PROCESS = Path(__file__).with_name("ddp_process.py")


def _train_together(config: TrainConfig, run: Path, world: int) -> None:
    """Two processes of one group; what they say is shown where one fails."""
    run.mkdir()
    recipe = run.with_suffix(".json")
    recipe.write_text(json.dumps(to_dict(config)))
    command = [sys.executable, str(PROCESS), str(recipe), str(run)]
    processes = [
        subprocess.Popen([*command, str(rank), str(world)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for rank in range(world)
    ]
    said = [process.communicate(timeout=120)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * world, "\n".join(said)


def test_alone_everything_is_as_it_is(make_recipe: MakeRecipe) -> None:
    parallel = join(make_recipe())
    assert isinstance(parallel, Single)
    assert isinstance(parallel, Parallel)
    assert (parallel.rank, parallel.world, parallel.device) == (0, 1, torch.device("cpu"))
    model, values = nn.Linear(2, 2), torch.ones(3)
    assert parallel.wrap(model) is model
    assert parallel.broadcast(values) is values
    assert parallel.sum(values) is values


def test_kinds_by_name(make_recipe: MakeRecipe) -> None:
    assert set(PARALLEL) >= {"single", "ddp"}
    assert isinstance(join(make_recipe(parallel="single")), Single)
    with pytest.raises(UnknownNameError, match="unknown kind of parallelism 'dpp': did you mean 'ddp'"):
        join(make_recipe(parallel="dpp"))
    with pytest.raises(ConfigError, match="cuda:99"):
        join(make_recipe(device="cuda:99"))


def test_two_processes_learn_what_one_does_from_twice_the_batch(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Without what is drawn for each rank, and with losses that are means over as many values on both ranks.

    What is logged is of both, too.
    """
    config = make_recipe(
        model={
            "horizon": 1,
            "execute": 1,
            "readers": {"images": {"channels": 8, "tokens": 4}, "state": {"dropout": 0.0}},
            "auxiliaries": {"pointing": None},
        },
        optimiser={"lr": 1e-3},
        augmentation={"words": 0.0},
        batch=8,
        steps=3,
        evaluators=["held_out"],
        validate_s=1e-6,
    )
    alone = load_model(train(config, tmp_path / "alone"))[1].state_dict()
    together = replace(config, batch=4, engine="ray", workers=2)
    _train_together(together, tmp_path / "together", 2)
    shared = load_model(tmp_path / "together" / "checkpoint")[1].state_dict()
    assert alone.keys() == shared.keys()

    fresh = load_model(train(replace(config, steps=1), tmp_path / "fresh"))[1].state_dict()
    assert max((alone[name] - fresh[name]).abs().max().item() for name in alone) > 1e-2
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, atol=1e-4, rtol=1e-4, msg=name)
    ours, theirs = (read_metrics(tmp_path / name) for name in ("alone", "together"))
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine["kind"], mine["step"]) == (other["kind"], other["step"])
        names = ["action_loss", "grounding_loss", *(["loss", "gradient_norm"] if mine["kind"] == "train" else [])]
        assert [mine[name] for name in names] == pytest.approx([other[name] for name in names], rel=1e-4)
    origin = json.loads((tmp_path / "together" / "checkpoint" / "provenance.json").read_text())
    assert (origin["training"]["step"], origin["training"]["consumed"]) == (3, 3 * 4 * 2)


@pytest.mark.parametrize("auxiliaries", [{"grounding": None}, {}], ids=["nobody reads the end", "grounding does"])
def test_an_expert_that_reads_keys_and_values_alone_is_trained_together(
    auxiliaries: dict[str, Any], make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Then nothing reaches the end of the trunk's last block, unless an auxiliary asks the trunk: both are the same."""
    model = {
        "trunk": {"width": 32, "layers": 2, "heads": 2},
        "head": {"kind": "flow", "width": 8, "passes": 1},
        "auxiliaries": {"pointing": None, **auxiliaries},
    }
    config = make_recipe(model=model, batch=4, steps=3, engine="ray", workers=2, evaluators=[])
    _train_together(config, tmp_path / "run", 2)
    began = open_samples(config)
    torch.manual_seed(config.seed)
    fresh = began.blueprint.build()
    assert fresh.all_taught == ("grounding" not in auxiliaries)
    weights = load_model(tmp_path / "run" / "checkpoint")[1].state_dict()
    still = {name for name, value in fresh.state_dict().items() if torch.equal(value, weights[name])}
    ends = {"trunk.norm.weight"} | {f"trunk.blocks.1.{part}.weight" for part in ("out", "norm_mlp", "up", "down")}
    assert still == (ends if "grounding" in auxiliaries else set())


def test_who_hears_nothing_waits_for_nobody(make_recipe: MakeRecipe, dataset: Path, tmp_path: Path) -> None:
    """In most steps one of the two has nobody who speaks, and no gradient for what listens."""
    texts, _ = Dataset.open(dataset).episodes.column("instruction")
    bank = speak(tmp_path / "bank", texts, ("en-us",))
    readers = {"sound": {"kind": "sound", "layers": 1, "channels": 8}}
    config = make_recipe(
        model={"trunk": {"width": 32, "layers": 1, "heads": 2}, "readers": readers},
        augmentation={"speech": str(bank.path), "spoken": 0.2},
        batch=2,
        steps=6,
        engine="ray",
        workers=2,
        evaluators=[],
    )
    _train_together(config, tmp_path / "run", 2)
    assert [line["step"] for line in read_metrics(tmp_path / "run") if line["kind"] == "train"] == list(range(1, 7))
