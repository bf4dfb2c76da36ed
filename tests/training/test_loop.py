"""The loop, end to end in this process: resuming is exact, stopping is clean, divergence is said."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.core.errors import CheckpointError, ContractError, VlaError
from vla.datasets.dataset import Dataset
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.models.checkpoint import load_model, read_tensors
from vla.training import state
from vla.training.augmentation.config import AugmentationConfig
from vla.training.engines import Stopped, train
from vla.training.loop import STOP
from vla.training.metrics import read_metrics
from vla.training.precision import PrecisionRates
from vla.training.recipe import TrainConfig
from vla.training.state import newest_state

MakeRecipe = Callable[..., TrainConfig]


def _stop_at(run: Path, step: int) -> Callable[[dict[str, Any]], None]:
    """A log that asks the run to stop once it has done ``step`` steps."""

    def log(line: dict[str, Any]) -> None:
        if line["step"] == step:
            (run / STOP).touch()

    return log


def _state(run: Path) -> dict[str, Tensor]:
    newest = newest_state(run)
    assert newest is not None
    return read_tensors(newest, "state.safetensors")


@pytest.mark.parametrize("loaders", [0, 1])
def test_two_steps_and_two_more_are_four(make_recipe: MakeRecipe, tmp_path: Path, loaders: int) -> None:
    config = make_recipe(data={"loaders": loaders})
    train(make_recipe(), tmp_path / "whole")
    with pytest.raises(Stopped, match="resume"):
        train(config, tmp_path / "halves", _stop_at(tmp_path / "halves", 2))
    assert not (tmp_path / "halves" / "checkpoint").exists()
    train(config, tmp_path / "halves")
    whole, halves = _state(tmp_path / "whole"), _state(tmp_path / "halves")
    assert whole.keys() == halves.keys()
    assert any(name.startswith("optimiser.1.") for name in whole), "Muon has no state"
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"augmentation": {"shift": 0.2, "brightness": 0.2, "contrast": 0.2}},
        {"model": {"history": 2, "head": {"kind": "tokens", "codec": {"bins": 16}}}},
        {"model": {"head": {"layout": "joint"}, "auxiliaries": {"grounding": None, "pointing": None}}},
        {"precision": "bfloat16"},
    ],
    ids=["augmentation", "tokens", "joint", "bfloat16"],
)
def test_whatever_is_trained_resumes_exactly(changes: dict[str, Any], make_recipe: MakeRecipe, tmp_path: Path) -> None:
    config = make_recipe(**changes)
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "halves", _stop_at(tmp_path / "halves", 2))
    checkpoint = train(config, tmp_path / "halves")
    whole, halves = _state(tmp_path / "whole"), _state(tmp_path / "halves")
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    assert {v.dtype for name, v in whole.items() if name.startswith(("model.", "average."))} == {torch.float32}
    load_model(checkpoint)


def test_augmentation_is_seen_by_training_alone(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    plain, changed = make_recipe(validate_s=1e-6, steps=1), {"brightness": 0.5}
    train(plain, tmp_path / "plain")
    train(dataclasses.replace(plain, augmentation=AugmentationConfig(**changed)), tmp_path / "changed")
    lines = [read_metrics(tmp_path / name) for name in ("plain", "changed")]
    assert lines[0][0]["loss"] != lines[1][0]["loss"]
    assert lines[0][1].keys() == lines[1][1].keys()


def test_a_run_keeps_the_precision_that_it_began_with(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(float32: float, bfloat16: float) -> None:
        rates = PrecisionRates(float32=float32, bfloat16=bfloat16)
        monkeypatch.setattr(state, "measure_precision", lambda device: rates)

    config = make_recipe(precision="auto")
    measure(1.0, 9.0)
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", _stop_at(tmp_path / "run", 2))
    measure(9.0, 1.0)
    train(config, tmp_path / "run")
    origin = json.loads((tmp_path / "run" / "checkpoint" / "provenance.json").read_text())
    assert origin["training"]["precision"] == "bfloat16"
    train(make_recipe(precision="bfloat16"), tmp_path / "forced")
    run, forced = _state(tmp_path / "run"), _state(tmp_path / "forced")
    assert all(torch.equal(run[name], forced[name]) for name in run)


def test_the_loss_falls(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(steps=30, log_steps=10), tmp_path)
    first, _, last = read_metrics(tmp_path)
    for name in ("action_loss", "grounding_loss", "pointing_loss"):
        assert last[name] < first[name], name
    assert last["loss"] < 0.85 * first["loss"]


def test_the_same_seed_gives_the_same_curve(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    def curve(name: str, seed: int) -> list[float]:
        train(make_recipe(seed=seed), tmp_path / name)
        return [line["loss"] for line in read_metrics(tmp_path / name)]

    assert curve("a", 3) == curve("b", 3) != curve("c", 4)


def test_the_final_checkpoint_loads_and_holds_the_average(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    checkpoint = train(make_recipe(), tmp_path)
    blueprint, model = load_model(checkpoint)
    average = {k.removeprefix("average."): v for k, v in _state(tmp_path).items() if k.startswith("average.")}
    assert all(torch.equal(average[k], v) for k, v in model.state_dict().items())
    assert [version.manifest for version in blueprint.datasets] == [1]
    origin = json.loads((checkpoint / "provenance.json").read_text())
    assert origin["training"]["step"] == 4
    assert origin["training"]["consumed"] == 32
    assert origin["training"]["precision"] == "float32"
    assert origin["recipe"]["seed"] == 3
    assert origin["parameters"] == sum(p.numel() for p in model.parameters())


def test_a_finished_run_is_not_trained_again(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(), tmp_path)
    before = _state(tmp_path)
    lines: list[dict[str, Any]] = []
    train(make_recipe(), tmp_path, lines.append)
    assert not lines
    assert all(torch.equal(before[k], v) for k, v in _state(tmp_path).items())


def test_metrics_have_no_step_twice_after_a_crash(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    config = make_recipe(steps=6)
    with pytest.raises(Stopped):
        train(config, tmp_path, _stop_at(tmp_path, 3))
    with (tmp_path / "metrics.jsonl").open("a") as file:  # steps that were logged and never saved, and a torn line
        for step in (4, 5):
            file.write(json.dumps({"kind": "train", "step": step, "loss": 1e9}) + "\n")
        file.write('{"kind": "tr')
    train(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert all(line["loss"] < 1e6 for line in lines)
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_time_ends_a_run_too(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(steps=1_000_000, minutes=0.005, log_steps=1000), tmp_path)
    origin = json.loads((tmp_path / "checkpoint" / "provenance.json").read_text())
    assert 0 < origin["training"]["step"] < 1_000_000
    assert 0.3 <= origin["training"]["seconds"] < 60  # one step of a busy machine more


def test_validation_looks_at_the_average_and_leaves_the_weights_alone(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(), tmp_path / "without")
    train(make_recipe(validate_s=1e-6), tmp_path / "with")
    lines = [line for line in read_metrics(tmp_path / "with") if line["kind"] == "validation"]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(0 < line["first_frame_grounding_error"] < 1 for line in lines)
    without, validated = _state(tmp_path / "without"), _state(tmp_path / "with")
    assert all(torch.equal(without[k], v) for k, v in validated.items())


@pytest.mark.parametrize("share", [0.02, 0.0])
def test_what_is_not_held_out_is_not_measured_and_that_is_said(
    share: float, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    heard: list[dict[str, Any]] = []
    train(make_recipe(steps=2, validate_s=1e-6, data={"validation": share}), tmp_path, heard.append)
    assert [line["kind"] for line in heard if line["kind"] != "note"] == ["train", "train"]
    notes = [line["text"] for line in heard if line["kind"] == "note"]
    assert len(notes) == bool(share), "nobody asked for any"
    for note in notes:
        assert re.match(r"nothing is held out: 0\.02 of \d+ episodes is less than one", note)


def test_signals_that_the_data_lacks_are_in_no_line(make_recipe: MakeRecipe, bare: Path, tmp_path: Path) -> None:
    train(make_recipe(steps=2, validate_s=1e-6, data={"path": str(bare)}), tmp_path)
    names = {name for line in read_metrics(tmp_path) for name in line}
    assert "action_loss" in names
    assert not [name for name in names if "grounding" in name or "pointing" in name]


@pytest.mark.parametrize("log_steps", [1, 1000])
def test_divergence_is_one_clear_error_and_no_checkpoint(
    make_recipe: MakeRecipe, tmp_path: Path, log_steps: int
) -> None:
    config = make_recipe(steps=12, log_steps=log_steps, optimiser={"lr": 1e30}, warmup_steps=0)
    with pytest.raises(VlaError, match=r"diverged at step \d+.*optimiser\.lr"):
        train(config, tmp_path)
    assert not (tmp_path / "checkpoint").exists()
    assert not list(tmp_path.glob("states/*"))
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_run_of_another_recipe_is_left_alone(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(), tmp_path)
    with pytest.raises(CheckpointError, match="batch: 8 there, 2 here"):
        train(make_recipe(batch=2), tmp_path)


def test_a_stop_left_over_from_before_does_not_stop(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / STOP).touch()
    assert (train(make_recipe(), tmp_path) / "weights.safetensors").exists()


def test_a_run_resumes_from_a_moved_folder(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(make_recipe(), tmp_path / "here", _stop_at(tmp_path / "here", 2))
    shutil.move(tmp_path / "here", tmp_path / "there")
    train(make_recipe(), tmp_path / "there")
    assert [line["step"] for line in read_metrics(tmp_path / "there")] == [1, 2, 3, 4]


@pytest.fixture
def growing(dataset: Path, tmp_path: Path) -> tuple[Path, Callable[[], None]]:
    """A copy of the dataset, and what publishes three more episodes of it."""
    root = tmp_path / "growing"
    shutil.copytree(dataset, root)

    def grow() -> None:
        data = Dataset.open(root)
        with SegmentWriter(root, data.contract, {}) as writer:
            for number in range(3):
                episode = data.read_episode(number)
                writer.append(dataclasses.replace(episode, action=episode.action * 0.9, state=episode.state * 0.9))
            publish(root, [writer.seal()], "more")

    return root, grow


def test_a_run_is_not_resumed_on_a_dataset_that_grew(
    make_recipe: MakeRecipe, tmp_path: Path, growing: tuple[Path, Callable[[], None]]
) -> None:
    """The latest version is another than it was; naming the one that it began with resumes, exactly."""
    root, grow = growing
    run = tmp_path / "run"
    config = make_recipe(data={"path": str(root)})
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, run, _stop_at(run, 2))
    before = _state(run)
    grow()
    with pytest.raises(
        ContractError,
        match=r"run/contract\.json was fitted to other data \(statistics of the training data: [0-9a-f]{32} there, "
        r"[0-9a-f]{32} here; .*policy\.datasets differs.*--data\.manifest 1\), or choose another --out",
    ):
        train(config, run)
    assert all(torch.equal(before[k], v) for k, v in _state(run).items())
    train(make_recipe(data={"path": str(root), "manifest": 1}), run)
    whole, resumed = _state(tmp_path / "whole"), _state(run)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(CheckpointError, match=r"data\.manifest: None there, 2 here"):
        train(make_recipe(data={"path": str(root), "manifest": 2}), run)


def test_a_finished_run_keeps_its_checkpoint_when_the_dataset_grows(
    make_recipe: MakeRecipe, tmp_path: Path, growing: tuple[Path, Callable[[], None]]
) -> None:
    root, grow = growing
    config = make_recipe(data={"path": str(root)})
    checkpoint = train(config, tmp_path / "run")
    before = (checkpoint / "contract.json").read_bytes()
    grow()
    with pytest.raises(ContractError, match="statistics of the training data"):
        train(config, tmp_path / "run")
    assert (checkpoint / "contract.json").read_bytes() == before


def test_a_checkpoint_of_other_statistics_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(), tmp_path / "mine")
    other = train(make_recipe(seed=4), tmp_path / "other")
    shutil.rmtree(tmp_path / "mine" / "checkpoint")
    shutil.copytree(other, tmp_path / "mine" / "checkpoint")
    with pytest.raises(
        ContractError, match=r"mine/checkpoint/contract\.json was fitted to other data \(statistics.*restore"
    ):
        train(make_recipe(), tmp_path / "mine")


def test_states_without_their_contract_are_not_resumed(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(), tmp_path / "run")
    (tmp_path / "run" / "contract.json").unlink()
    with pytest.raises(ContractError, match=r"run/contract\.json does not exist"):
        train(make_recipe(), tmp_path / "run")


def test_a_run_logs_how_hard_each_loss_pulls_every_so_many_steps_and_is_the_same_run(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    names = [f"gradient_norm/{name}" for name in ("action", "grounding", "pointing")]
    curves = {}
    for every in (0, 1, 2, 500):
        train(make_recipe(gradient_steps=every), tmp_path / str(every))
        curves[every] = read_metrics(tmp_path / str(every))
    said = {every: [line["step"] for line in lines if names[0] in line] for every, lines in curves.items()}
    assert said == {0: [], 1: [1, 2, 3, 4], 2: [1, 3], 500: [1]}
    losses = {every: [line["loss"] for line in lines] for every, lines in curves.items()}
    assert all(values == losses[0] for values in losses.values())
    first = curves[1][0]
    assert all(first[name] > 0 for name in names)
    # What the head has of its own is in the whole, and in none of these.
    assert first["gradient_norm"] < 1.2 * sum(first[name] for name in names)
