"""A run folder belongs to one recipe and to one fit, whatever is left of it; only its length may change."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.core.contract import Contract
from vla.core.errors import CheckpointError, ConfigError, ContractError, VlaError
from vla.core.files import locked
from vla.core.policy_spec import DatasetVersion, PolicySpec
from vla.models.checkpoint import load_model, open_checkpoint, read_tensors
from vla.training.claims import claim_data, claim_run, read_claim
from vla.training.engines import Stopped, train
from vla.training.loop import STOP
from vla.training.recipe import TrainConfig
from vla.training.state import newest_state, states

MakeRecipe = Callable[..., TrainConfig]


def _state(run: Path) -> dict[str, Tensor]:
    state = newest_state(run)
    assert state is not None
    return read_tensors(state, "state.safetensors")


def _equal(a: Path, b: Path) -> bool:
    ours, theirs = _state(a), _state(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _stop_at(run: Path, step: int) -> Callable[[dict[str, Any]], None]:
    def log(line: dict[str, Any]) -> None:
        if line.get("step") == step:
            (run / STOP).touch()

    return log


def _saved(run: Path) -> None:
    """As far as a claim looks: there is a state."""
    (run / "states" / "00000001").mkdir(parents=True)


def test_a_run_that_has_states_belongs_to_its_recipe(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    claim_run(tmp_path, make_recipe())
    _saved(tmp_path)
    claim_run(tmp_path, make_recipe())
    with pytest.raises(CheckpointError, match=r"optimiser\.lr: 0\.002 there, 0\.5 here.*--out"):
        claim_run(tmp_path, make_recipe(optimiser={"lr": 0.5}))


def test_a_run_that_saved_nothing_may_change_its_recipe(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    claim_run(tmp_path, make_recipe())
    claim_run(tmp_path, make_recipe(batch=2))
    _saved(tmp_path)
    with pytest.raises(CheckpointError, match="batch: 2 there, 8 here"):
        claim_run(tmp_path, make_recipe())


def test_a_recipe_that_is_lost_or_damaged_is_not_replaced(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    claim_run(tmp_path, make_recipe())
    _saved(tmp_path)
    path = tmp_path / "recipe.json"
    whole = path.read_text()
    for text, said in (
        (whole.replace('"batch": 8', '"batch": 9'), "it fails its checksum"),
        (json.dumps({"batch": 8}), r"has no checksum.*vla 2\.0 or older"),
        (whole[:-30], r"recipe\.json: "),
    ):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=said):
            claim_run(tmp_path, make_recipe())
    path.unlink()
    with pytest.raises(CheckpointError, match=r"recipe\.json does not exist.*--init"):
        claim_run(tmp_path, make_recipe())


@pytest.mark.parametrize("kept", ["states", "checkpoint"])
def test_a_finished_run_is_never_overwritten_by_another_recipe(
    kept: str, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    checkpoint = train(make_recipe(steps=2), tmp_path)
    shutil.rmtree(tmp_path / ("states" if kept == "checkpoint" else "checkpoint"))
    for prolong in (False, True):
        with pytest.raises(CheckpointError, match="batch: 8 there, 2 here"):
            train(make_recipe(steps=2, batch=2), tmp_path, prolong=prolong)
    assert checkpoint.exists() == (kept == "checkpoint")
    assert train(make_recipe(steps=2), tmp_path) == checkpoint
    load_model(checkpoint)


def test_a_run_without_its_states_is_finished_or_cannot_go_on(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    checkpoint = train(make_recipe(steps=2), tmp_path)
    shutil.rmtree(tmp_path / "states")
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    assert train(make_recipe(steps=2), tmp_path) == checkpoint
    with pytest.raises(CheckpointError, match=r"no states to go on from; .*--init .*/checkpoint"):
        train(make_recipe(steps=4), tmp_path, prolong=True)
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before


def test_a_folder_is_one_dataset_however_it_is_spelled(
    make_recipe: MakeRecipe, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset.parent)
    (tmp_path / "link").symlink_to(dataset)
    spelled = [dataset.name, f"./{dataset.name}/", str(dataset), f"file://{dataset}", str(tmp_path / "link")]
    with pytest.raises(Stopped):
        train(make_recipe(data={"path": spelled[0]}), tmp_path / "run", _stop_at(tmp_path / "run", 2))
    for path in spelled[1:]:
        train(make_recipe(data={"path": path}), tmp_path / "run")
    assert states(tmp_path / "run")[-1].name == "00000004"


def test_two_at_a_time_are_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(VlaError, match="lock is being written by another process"):
        train(make_recipe(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_the_lock_lasts_as_long_as_the_run(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    def another(line: dict[str, Any]) -> None:
        with pytest.raises(VlaError, match="another process"):
            train(make_recipe(batch=2), tmp_path)

    train(make_recipe(steps=1), tmp_path, another)
    assert read_claim(tmp_path).recipe.batch == 8


@pytest.mark.parametrize("before", ["finished", "stopped"])
def test_a_longer_run_is_that_of_its_length_where_the_rate_had_not_fallen(
    before: str, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Bit for bit."""
    short, long = make_recipe(steps=4, constant=0.9), make_recipe(steps=8, constant=0.9)
    train(long, tmp_path / "whole")
    run, told = tmp_path / "run", list[str]()
    if before == "finished":
        train(short, run)
    else:
        with pytest.raises(Stopped):
            train(short, run, _stop_at(run, 2))
    checkpoint = train(long, run, lambda line: told.append(line.get("text", "")), prolong=True)
    assert _equal(tmp_path / "whole", run)
    assert any("8 steps instead of 4; what it has trained is what a run of this length trains" in t for t in told)
    assert read_claim(run).recipe.steps == 8
    origin = json.loads((checkpoint / "provenance.json").read_text())
    at = {"finished": 4, "stopped": 2}[before]
    assert origin["training"]["prolonged"] == [{"step": at, "steps": 4, "minutes": 1e6, "exact": True}]
    train(long, run)


def test_a_rate_that_had_fallen_rises_again_and_that_is_said(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(steps=4), tmp_path)
    told: list[str] = []
    train(make_recipe(steps=8), tmp_path, lambda line: told.append(line.get("text", "")), prolong=True)
    assert any("learning rate had come to 36% and goes on from 89%: the result is not" in text for text in told)
    assert states(tmp_path)[-1].name == "00000008"
    assert [entry.exact for entry in read_claim(tmp_path).prolonged] == [False]


def test_a_longer_run_is_asked_for(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(steps=2), tmp_path)
    with pytest.raises(CheckpointError, match=rf"steps: 2 there, 4 here.*vla train --resume {tmp_path} --steps 4$"):
        train(make_recipe(steps=4), tmp_path)
    for prolong in ({"steps": 2}, {"steps": 1}, {"steps": 4, "minutes": 1e-9}):
        with pytest.raises(ConfigError, match=r"trained 2 steps in .* nothing to train; give more"):
            train(dataclasses.replace(make_recipe(), **prolong), tmp_path, prolong=True)
    assert read_claim(tmp_path).recipe.steps == 2
    train(make_recipe(steps=4), tmp_path, prolong=True)


def test_a_run_that_was_never_begun_is_not_prolonged(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"recipe\.json does not exist"):
        read_claim(tmp_path)
    train(make_recipe(steps=2), tmp_path, prolong=True)  # an empty folder becomes the run's


def test_a_damaged_checkpoint_is_written_again_from_the_state(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    checkpoint = train(make_recipe(steps=2), tmp_path)
    (checkpoint / "weights.safetensors").write_bytes(b"damaged")
    assert list(open_checkpoint(train(make_recipe(steps=2), tmp_path)).damage()) == []


def test_data_is_claimed_by_one_worker_and_checked_by_all(tmp_path: Path) -> None:
    mine, other = (
        Contract(
            robot="arm", cameras=(), state=(), action=(), control_hz=10.0,
            policy=PolicySpec(
                kind="unified", horizon=8, execute=4, relative_to=(), robots=("arm",), statistics=(digest,),
                datasets=(DatasetVersion(path="d", manifest=1),), preprocessor=digest, tokenizer="t", model={},
            ),
        )
        for digest in ("aa", "bb")
    )  # fmt: skip
    claim_data(tmp_path, mine, write=False)
    assert not (tmp_path / "contract.json").exists()
    claim_data(tmp_path, other, write=True)
    claim_data(tmp_path, mine, write=True)  # nothing has been trained on the other
    _saved(tmp_path)
    for write in (True, False):
        claim_data(tmp_path, mine, write=write)
        with pytest.raises(ContractError, match=r"statistics of the training data: aa there, bb here.*restore"):
            claim_data(tmp_path, other, write=write)
