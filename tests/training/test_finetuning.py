"""Starting from a checkpoint: what comes along, what is new, what stays frozen, and that all of it is said."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla.core.errors import CheckpointError, UnknownNameError
from vla.core.scaling import Statistics
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.library import train as vla_train
from vla.models.checkpoint import load_model
from vla.models.transfer import Parent, transfer
from vla.training.engines import Stopped, train
from vla.training.loop import STOP
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples

MakeRecipe = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def parent(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(make_recipe(steps=2), tmp_path_factory.mktemp("parent"))


def _other(dataset: Path, root: Path, *, robot: str, words: str = "") -> Path:
    """The same episodes by another robot, or of other words."""
    source = Dataset.open(dataset)
    contract = dataclasses.replace(source.contract, robot=robot)
    create_dataset(root, contract)
    with SegmentWriter(root, contract, {}) as writer:
        for number in range(len(source.episodes)):
            episode = source.read_episode(number)
            writer.append(dataclasses.replace(episode, instruction=f"{episode.instruction}{words}"))
        publish(root, [writer.seal()], "changed")
    return root


def _fates(run: Path) -> dict[str, tuple[str, str]]:
    origin = json.loads((run / "checkpoint" / "provenance.json").read_text())
    return {fate["part"]: (fate["verdict"], fate["why"]) for fate in origin["init"]["fates"]}


def test_without_a_step_it_answers_what_the_checkpoint_does(parent: Path, make_recipe: MakeRecipe) -> None:
    samples = open_samples(make_recipe(init=str(parent), seed=9))
    assert samples.parent is not None
    model = samples.blueprint.build()
    transfer(samples.parent, samples.blueprint, model)
    blueprint, old = load_model(parent)
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in model.state_dict().items())
    ours, theirs = (b.preprocessor.embodiments[0] for b in (samples.blueprint, blueprint))
    assert (ours.state, ours.action) == (theirs.state, theirs.action)


def test_another_seed_holds_other_episodes_out_and_keeps_the_scale(
    parent: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    heard: list[dict[str, Any]] = []
    train(make_recipe(init=str(parent), seed=9, steps=1), run, heard.append)
    (event,) = [line for line in heard if line["kind"] == "init"]
    assert event["checkpoint"] == str(parent)
    fates = _fates(run)
    assert fates["words"][0] == "taken"
    assert fates["scale of tabletop-panda"][0] == "taken"
    assert "in which the data reaches" in fates["scale of tabletop-panda"][1]
    assert [part for part, (verdict, _) in fates.items() if verdict != "taken"] in ([], ["codec of actions"])


def test_new_words_are_added_and_begin_as_unknown_ones(
    parent: Path, make_recipe: MakeRecipe, dataset: Path, tmp_path: Path
) -> None:
    path = _other(dataset, tmp_path / "worded", robot="tabletop-panda", words=" beside the zebra")
    samples = open_samples(make_recipe(init=str(parent), data={"path": str(path)}))
    old = Parent.open(parent)
    theirs, ours = old.blueprint.preprocessor.tokenizer, samples.blueprint.preprocessor.tokenizer
    assert set(ours.pieces()) - set(theirs.pieces()) == {"beside", "zebra"}
    assert ours.pieces()[: len(theirs)] == theirs.pieces()
    model = samples.blueprint.build()
    fates = {fate.part: fate for fate in transfer(old, samples.blueprint, model)}
    assert "new: text beside, text zebra" in fates["table.weight"].why
    rows, before = model.state_dict()["table.weight"], old.model.state_dict()["table.weight"]
    assert torch.equal(rows[: len(theirs)], before[: len(theirs)])
    assert torch.equal(rows[len(ours) :], before[len(theirs) :]), "specials, signals and actions move with their names"
    assert torch.equal(rows[ours.ids("zebra")[0]], before[theirs.ids("zebra")[0]])
    (fate,) = [fate for fate in samples.fates if fate.part == "words"]
    assert (fate.verdict, fate.why.split("; ")[-1]) == ("partly", f"all {len(theirs)}, and 2 new: beside, zebra")


def test_another_robot_has_its_own_scale(parent: Path, make_recipe: MakeRecipe, dataset: Path, tmp_path: Path) -> None:
    path = _other(dataset, tmp_path / "other", robot="another-arm")
    samples = open_samples(make_recipe(init=str(parent), data={"path": str(path)}))
    fates = {fate.part: fate for fate in samples.fates}
    assert fates["scale of another-arm"].verdict == "new"
    assert "other robot" in fates["scale of another-arm"].why
    model = samples.blueprint.build()
    fates = {fate.part: fate for fate in transfer(Parent.open(parent), samples.blueprint, model)}
    assert fates["readers.state.embodiment"].why.endswith("new: robot another-arm")


def test_what_does_not_fit_is_new_and_what_has_no_place_is_left(
    parent: Path, make_recipe: MakeRecipe, bare: Path, tmp_path: Path
) -> None:
    train(make_recipe(init=str(parent), data={"path": str(bare)}, steps=1, model={"head": {"bins": 12}}), tmp_path)
    fates = _fates(tmp_path)
    assert fates["auxiliaries.grounding.position"] == ("left", "not in this model")
    assert "new: action 0 of" in fates["table.weight"][1]
    assert fates["codec of actions"][0] == "new"


def test_another_width_takes_nothing(parent: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    model = {"trunk": {"width": 16, "layers": 1, "heads": 2}, "readers": {"images": {"channels": 4, "tokens": 2}}}
    with pytest.raises(CheckpointError, match="none of its weights fits this model"):
        train(make_recipe(init=str(parent), model=model), tmp_path)


@pytest.mark.parametrize("flip", [False, True])
def test_a_checkpoint_that_is_missing_or_damaged_is_refused(
    flip: bool, parent: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    if flip:
        shutil.copytree(parent, path)
        data = bytearray((path / "weights.safetensors").read_bytes())
        data[-9] ^= 1
        (path / "weights.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=f"--init {path}: .*{'fails its checksum' if flip else 'does not exist'}"):
        train(make_recipe(init=str(path)), tmp_path / "run")


def test_what_is_frozen_is_equal_to_the_last_bit(parent: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Weights and their average, under weight decay, Muon and evaluations in between; the rest moves."""
    patterns = ["trunk.*", "readers.images.*"]
    config = make_recipe(init=str(parent), freeze=patterns, steps=3, validate_s=1e-6)
    checkpoint = train(config, tmp_path)
    before, after = (load_model(path)[1].state_dict() for path in (parent, checkpoint))
    for name, value in after.items():
        assert torch.equal(value, before[name]) == name.startswith(("trunk.", "readers.images.")), name


def test_a_pattern_that_fits_nothing_ends_the_run_before_it_begins(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"freeze 'trnk\.\*' fits no weight.*did you mean trunk\.\*"):
        train(make_recipe(freeze=["trnk.*"]), tmp_path)


def test_a_run_that_started_from_a_checkpoint_resumes_exactly(
    parent: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    config = make_recipe(init=str(parent), freeze=["readers.images.*"], seed=9)
    whole = load_model(train(config, tmp_path / "whole"))[1].state_dict()
    run = tmp_path / "halves"

    def log(line: dict[str, Any]) -> None:
        if line["step"] == 2:
            (run / STOP).touch()

    with pytest.raises(Stopped):
        train(config, run, log)
    halves = load_model(train(config, run))[1].state_dict()
    assert all(torch.equal(whole[name], value) for name, value in halves.items())


def test_patches_and_bins_of_the_state_come_along_by_what_they_mean(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """With a longer history: the view of a camera, the age of a moment and the bins of the state by their names."""
    readers = {
        "images": {"kind": "patches", "size": 8},
        "state": {"kind": "state-bins", "bins": 16},
    }
    sizes = {"trunk": {"width": 32, "layers": 1, "heads": 2}, "head": {"bins": 16}}
    model = {**sizes, "readers": readers, "auxiliaries": {"grounding": {"bins": 8}, "pointing": None}}
    train(make_recipe(model=model, steps=2), tmp_path / "parent")
    longer = make_recipe(model={**model, "history": 2}, init=str(tmp_path / "parent" / "checkpoint"))
    samples = open_samples(longer)
    assert samples.parent is not None
    ours = samples.blueprint.build()
    fates = {fate.part: fate for fate in transfer(samples.parent, samples.blueprint, ours)}
    theirs = samples.parent.model.state_dict()
    found = ours.state_dict()
    for name in ("readers.images.time", "readers.state.time"):
        assert fates[name].verdict == "partly"
        assert torch.equal(found[name][1], theirs[name][0])  # the present is the last of them
    assert {part for part, fate in fates.items() if fate.verdict != "taken"} == {
        "readers.images.time",
        "readers.state.time",
    }
    assert torch.equal(found["table.weight"], theirs["table.weight"])
    assert torch.equal(found["readers.images.view.weight"], theirs["readers.images.view.weight"])
    rows = ours.rows(samples.blueprint.preprocessor.tokenizer.pieces(), ["tabletop-panda"])
    assert rows["readers.images.view.weight"] == ["camera front", "camera wrist"]
    assert rows["readers.state.embodiment"] == ["robot tabletop-panda"]
    assert [row for row in rows["table.weight"] if row.startswith("state 0 of")]


def test_the_library_does_the_same(parent: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    config = dataclasses.replace(make_recipe(steps=1), init=str(parent), freeze=("trunk.*",))
    trained = vla_train(config, tmp_path)
    before, after = (load_model(path)[1].state_dict() for path in (parent, trained.checkpoint))
    assert all(torch.equal(before[name], after[name]) for name in after if name.startswith("trunk."))
    assert trained.steps == 1
    longer = vla_train(None, tmp_path, resume=True, changes={"steps": 2})
    assert longer.steps == 2


def test_the_reach_is_in_units_of_the_scale() -> None:
    from vla.models.transfer import _reach

    scale, data = Statistics.between([-1.0], [1.0]), Statistics.between([-3.0], [0.5])
    assert _reach(scale, data) == pytest.approx(3.0)
    assert np.isfinite(_reach(scale, scale))
