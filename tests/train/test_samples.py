"""From a dataset to batches: the split, the stratum of the approach, the order, what is fitted."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vla.core.errors import DatasetError, UnknownNameError
from vla.core.scaling import Statistics, compute_statistics
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.edit import relabel
from vla.datasets.sampling.order import ResumableSampler, StratifiedOrder
from vla.datasets.sampling.windows import Windows
from vla.datasets.selection import Selection
from vla.train.recipe import DataConfig, TrainConfig
from vla.train.samples import Batches, Samples, before_first_grasp, open_run

MakeRecipe = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def samples(make_recipe: MakeRecipe) -> Samples:
    return Samples.open(make_recipe().data, horizon=8, seed=3)


def test_no_episode_is_on_both_sides(samples: Samples) -> None:
    train, held_out = set(samples.train.owner.tolist()), set(samples.validation.owner.tolist())
    assert not train & held_out
    assert train | held_out == set(range(len(samples.train.dataset.episodes)))
    assert held_out


def test_the_split_depends_on_the_seed_alone(make_recipe: MakeRecipe, samples: Samples) -> None:
    def held_out(seed: int, **data: float) -> list[int]:
        return Samples.open(make_recipe(data=data).data, horizon=4, seed=seed).validation.episodes.tolist()

    assert held_out(3, approach=0.0) == samples.validation.episodes.tolist()
    assert len({tuple(held_out(seed)) for seed in range(6)}) > 1


def test_the_approach_ends_before_the_gripper_closes(samples: Samples) -> None:
    windows, data = samples.train, samples.train.dataset
    gripper = [d.name for d in data.contract.action].index("gripper")
    opening = data.contract.action[gripper].high
    approach = before_first_grasp(windows, data.contract)
    for episode in windows.episodes:
        mine = windows.rows[(windows.owner == episode) & approach]
        start, length = data.episode_starts[episode], data.episode_lengths[episode]
        commands = data.action[start : start + length, gripper]
        assert len(mine), f"episode {episode} has no approach"
        assert (data.action[mine, gripper] > 0.6 * opening).all()
        assert commands[: mine.max() - start + 2].min() > 0.6 * opening, "the gripper closed before the stratum ended"
        assert commands.min() < 0.6 * opening, "an episode that succeeded closed its gripper"


def test_the_approach_has_at_least_its_share_of_every_batch(samples: Samples) -> None:
    approach = before_first_grasp(samples.train, samples.train.dataset.contract)
    sampler = ResumableSampler(order=samples.order, batch=16)
    assert isinstance(samples.order, StratifiedOrder)
    assert all(approach[sampler.items(step)].sum() >= 8 for step in range(50))


def test_a_robot_without_gripper_has_no_approach(samples: Samples) -> None:
    import dataclasses

    contract = dataclasses.replace(samples.train.dataset.contract, gripper=None)
    assert not before_first_grasp(samples.train, contract).any()


def test_batches_are_the_same_from_loader_processes(make_recipe: MakeRecipe) -> None:
    samples, parts = open_run(make_recipe())
    batches = Batches(samples.train, parts, ResumableSampler(order=samples.order, batch=4, start=20))
    here = batches.loader(0)
    there = batches.loader(2)
    for mine, theirs in itertools.islice(zip(here, there, strict=True), 5):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    there.close()  # type: ignore[attr-defined]


def test_what_is_fitted_contains_the_data(make_recipe: MakeRecipe) -> None:
    samples, parts = open_run(make_recipe())
    batch = Batches(samples.train, parts, ResumableSampler(order=samples.order, batch=1))
    everything = batch.collate(samples.train.batch(np.arange(len(samples.train))))
    low, high = parts.state_range
    state = everything["state"].numpy()
    assert (low < state.min(axis=0)).all()
    assert (high > state.max(axis=0)).all()
    offsets = parts.actions.offsets(everything["state"], everything["actions"]).numpy()
    codec = parts.actions.codec
    inside = (offsets >= codec.low) & (offsets <= codec.high)
    assert inside.mean() > 0.998
    margin = 0.1 * (codec.high - codec.low)
    assert ((offsets > codec.low - margin) & (offsets < codec.high + margin)).all()
    truth = everything["grounding"].numpy()[:, : len(parts.grounding.low)]
    assert ((truth >= parts.grounding.low) & (truth <= parts.grounding.high)).all()


def test_the_contract_names_the_version_of_the_dataset(make_recipe: MakeRecipe, dataset: Path) -> None:
    _, parts = open_run(make_recipe())
    assert parts.contract.policy["dataset"] == {"path": dataset.name, "manifest": 1}


def test_the_contract_holds_the_statistics_of_the_training_episodes(make_recipe: MakeRecipe) -> None:
    samples, parts = open_run(make_recipe())
    horizon = parts.config.horizon
    windows = Windows(samples.train.dataset, horizon, samples.train.episodes, cameras=[])
    everything = windows.batch(np.arange(len(windows)))
    offsets = parts.actions.transform.apply(everything["state"][:, -1], everything["actions"])
    stored = parts.contract.policy["statistics"]
    assert stored.keys() == {"hash", "state", "action"}
    for name, rows in (("state", everything["state"][:, -1]), ("action", offsets[everything["action_valid"]])):
        found, expected = Statistics.from_json(stored[name], where="here"), compute_statistics(rows)
        assert (found.count, found.q01, found.q99) == (expected.count, expected.q01, expected.q99)
    assert open_run(make_recipe())[1].contract == parts.contract
    assert open_run(make_recipe(seed=4))[1].contract.policy["statistics"]["hash"] != stored["hash"]  # another split


def test_no_instruction_is_cut_off(make_recipe: MakeRecipe) -> None:
    samples, parts = open_run(make_recipe())
    sentences = samples.train.instructions
    text, valid = parts.tokenizer.encode(sentences, parts.config.text_tokens)
    spoken = [parts.tokenizer.decode(row[ok].tolist()) for row, ok in zip(text, valid, strict=True)]
    assert spoken == sentences


def test_first_frames_are_first(samples: Samples, make_recipe: MakeRecipe) -> None:
    _, parts = open_run(make_recipe())
    batches = Batches(samples.train, parts, ResumableSampler(order=samples.order, batch=1))
    first = batches.first_frames(samples.validation)
    data = samples.validation.dataset
    assert first is not None
    expected = data.state[data.episode_starts[samples.validation.episodes]]
    np.testing.assert_array_equal(first["state"].numpy(), expected)
    assert batches.first_frames(Windows(data, 8, [])) is None
    assert batches.any_frames(Windows(data, 8, []), seed=0) is None


def test_an_empty_dataset_is_refused(dataset: Path, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    create_dataset(tmp_path / "empty", Dataset.open(dataset).contract)
    with pytest.raises(DatasetError, match="nothing has been published"):
        Samples.open(make_recipe(data={"path": str(tmp_path / "empty")}).data, horizon=8, seed=0)


def test_selected_episodes_and_a_split_that_is_held_out(dataset: Path, tmp_path: Path) -> None:
    dataset = shutil.copytree(dataset, tmp_path / "copy")
    data = Dataset.open(dataset)
    longest = int(np.argmax(data.episode_lengths))
    config = DataConfig(path=str(dataset), select=Selection(min_length=int(data.episode_lengths[longest])))
    assert set(Samples.open(config, 4, 0).train.owner) == {longest}
    relabel(data, {data.episodes[longest].uid: {"split": "held"}}, "test")
    version = Dataset.open(dataset).manifest.number
    samples = Samples.open(DataConfig(path=str(dataset), manifest=version, held_out="held"), 4, 0)
    assert set(samples.validation.owner) == {longest}
    assert len(set(samples.train.owner)) == len(data.episodes) - 1
    with pytest.raises(UnknownNameError, match="did you mean 'held'"):
        Samples.open(DataConfig(path=str(dataset), manifest=version, held_out="hld"), 4, 0)
