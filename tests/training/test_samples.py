"""From a dataset to batches: the split, the order, and what is fitted to the training data."""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE

from vla.core.errors import ConfigError, ContractError, DatasetError, UnknownNameError
from vla.core.policy_spec import DatasetVersion
from vla.core.scaling import compute_statistics
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.edit import relabel
from vla.datasets.sampling.loader import iterate_steps
from vla.datasets.sampling.order import Order, ResumableSampler, StratifiedOrder
from vla.datasets.sampling.windows import Windows
from vla.datasets.store import episode_check
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.models.trunk.inputs import Batch
from vla.training.recipe import TrainConfig
from vla.training.samples import Samples, open_samples
from vla.training.strata import before_first_grasp

MakeRecipe = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def samples(make_recipe: MakeRecipe) -> Samples:
    return open_samples(make_recipe())


def _windows(source: Any) -> Windows:
    assert isinstance(source, Windows)
    return source


def _everything(samples: Samples) -> Batch:
    """All that is trained on, as it is learned."""
    preprocessor = samples.blueprint.preprocessor
    arrays = samples.train.batch(np.arange(len(samples.train)))
    return preprocessor.samples(arrays, preprocessor.texts(samples.train.instructions))


def _assert_equal(ours: Batch, theirs: Batch) -> None:
    for mine, other in ((ours.inputs, theirs.inputs), (ours.targets, theirs.targets)):
        for f in fields(mine):
            a, b = getattr(mine, f.name), getattr(other, f.name)
            if f.name in ("signals", "written"):
                assert a.keys() == b.keys()
                assert all(torch.equal(a[name], b[name]) for name in a)
            elif a is None:
                assert b is None, f.name
            else:
                assert torch.equal(a, b), f.name


def test_no_episode_is_on_both_sides(samples: Samples) -> None:
    train, held_out = (set(_windows(source).owner.tolist()) for source in (samples.train, samples.validation))
    assert not train & held_out
    assert train | held_out == set(range(len(_windows(samples.train).dataset.episodes)))
    assert held_out


def test_the_split_depends_on_the_seed_alone(make_recipe: MakeRecipe, samples: Samples) -> None:
    def held_out(seed: int, **changes: Any) -> list[int]:
        return _windows(open_samples(make_recipe(seed=seed, **changes)).validation).episodes.tolist()

    assert held_out(3, data={"strata": {}}, model={"horizon": 4}) == _windows(samples.validation).episodes.tolist()
    assert len({tuple(held_out(seed)) for seed in range(6)}) > 1


def test_the_approach_has_at_least_its_share_of_every_batch(samples: Samples) -> None:
    approach = before_first_grasp(_windows(samples.train))
    sampler = ResumableSampler(order=samples.order, batch=16)
    assert isinstance(samples.order, StratifiedOrder)
    assert all(approach[sampler.items(step)].sum() >= 8 for step in range(50))


def test_without_strata_everything_is_drawn_alike(make_recipe: MakeRecipe) -> None:
    samples = open_samples(make_recipe(data={"strata": {}}))
    assert isinstance(samples.order, Order)
    items = ResumableSampler(order=samples.order, batch=len(samples.train)).items(0)
    assert sorted(items.tolist()) == list(range(len(samples.train)))


def test_an_unknown_stratum_is_answered_with_the_list(make_recipe: MakeRecipe) -> None:
    with pytest.raises(UnknownNameError, match="unknown stratum 'aproach': did you mean 'approach'"):
        open_samples(make_recipe(data={"strata": {"aproach": 0.5}}))


def test_batches_are_the_same_from_loader_processes(samples: Samples) -> None:
    batches = samples.batches(batch=4, rank=0, world=1, start=20)
    here, there = iterate_steps(batches, 0), iterate_steps(batches, 2)
    for mine, theirs in itertools.islice(zip(here, there, strict=True), 5):
        _assert_equal(mine, theirs)
    there.close()


def test_ranks_share_the_batches_of_one(samples: Samples) -> None:
    whole = samples.batches(batch=8, rank=0, world=1, start=24)[1]
    ranks = [samples.batches(batch=4, rank=rank, world=2, start=24)[1] for rank in range(2)]
    order = [row for pair in zip(range(4), range(4, 8), strict=True) for row in pair]
    for name in ("images", "state", "text", "embodiment"):
        both = torch.cat([getattr(batch.inputs, name) for batch in ranks])
        assert torch.equal(both[order], getattr(whole.inputs, name))
    assert torch.equal(torch.cat([batch.targets.actions for batch in ranks])[order], whole.targets.actions)


def test_what_is_fitted_contains_the_data(samples: Samples) -> None:
    batch, head = _everything(samples), samples.blueprint.fitted["head"]
    low, high = torch.tensor(head["low"]), torch.tensor(head["high"])
    inside = (batch.targets.actions >= low) & (batch.targets.actions <= high)
    assert inside.float().mean() > 0.998
    margin = 0.1 * (high - low)
    assert ((batch.targets.actions > low - margin) & (batch.targets.actions < high + margin)).all()
    assert 0.3 < batch.inputs.state.abs().mean() < 1
    for name, dimensions in samples.blueprint.preprocessor.signals.items():
        limits = torch.tensor([[d.low, d.high] for d in dimensions]).T
        truth = batch.targets.signals[name]
        if name == "grounding":
            assert ((truth >= limits[0]) & (truth <= limits[1])).all()
    assert samples.blueprint.preprocessor.signals.keys() == {"grounding", "approach", "pointing"}


def test_labels_are_scaled_by_their_quantiles(samples: Samples) -> None:
    """Of what is valid, a hundredth is below -1 and another above 1; the padding does not count."""
    batch = _everything(samples)
    robot = samples.blueprint.preprocessor.embodiments[0]
    actions = batch.targets.actions[batch.targets.valid.all(dim=-1)].double().numpy()
    for i, kind in enumerate(robot.action.kind):
        ends = np.quantile(actions[:, i], [0.01, 0.99]) if kind == "ok" else [actions[:, i].min(), actions[:, i].max()]
        if kind != "constant":
            np.testing.assert_allclose(ends, [-1, 1], atol=1e-4)


def test_the_contract_names_the_version_of_the_dataset(samples: Samples, dataset: Path) -> None:
    assert samples.blueprint.datasets == (DatasetVersion(path=dataset.name, manifest=1),)
    spec = samples.blueprint.contract.policy
    assert spec is not None
    assert spec.datasets == samples.blueprint.datasets


def test_the_preprocessor_holds_the_statistics_of_the_training_episodes(
    make_recipe: MakeRecipe, samples: Samples
) -> None:
    train = _windows(samples.train)
    windows = Windows(train.dataset, samples.blueprint.config.horizon, train.episodes, cameras=[])
    everything = windows.batch(np.arange(len(windows)))
    robot = samples.blueprint.preprocessor.embodiments[0]
    offsets = robot.space.apply(everything["state"][:, -1], everything["actions"])
    for found, rows in ((robot.state, everything["state"][:, -1]), (robot.action, offsets[everything["action_valid"]])):
        expected = compute_statistics(rows)
        assert (found.count, found.q01, found.q99) == (expected.count, expected.q01, expected.q99)
    again, other = open_samples(make_recipe()).blueprint, open_samples(make_recipe(seed=4)).blueprint  # another split
    assert again.contract == samples.blueprint.contract
    assert again.statistics != other.statistics
    assert again.preprocessor.digest() != other.preprocessor.digest()


def test_every_wording_that_was_recorded_is_known_and_fits_twice_over(samples: Samples) -> None:
    sentences, preprocessor = samples.train.instructions, samples.blueprint.preprocessor
    ids, valid = preprocessor.texts(sentences)
    spoken = [preprocessor.tokenizer.decode(row[ok].tolist()) for row, ok in zip(ids, valid, strict=True)]
    assert spoken == [text.replace(",", "") for text in sentences]
    episodes = _windows(samples.train).dataset.episodes
    others = {text for episode in episodes for text in episode.instruction_alternatives}
    assert others - set(sentences)
    assert set(" ".join([*sentences, *others]).replace(",", "").split()) == set(preprocessor.words)
    assert preprocessor.text_tokens == preprocessor.tokenizer.room_for([*sentences, *others])


def test_an_instruction_longer_than_the_recipe_says_is_refused_by_name(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ContractError, match=r"the instruction '.*' has \d+ tokens, and the policy reads at most 5"):
        open_samples(make_recipe(model={"text_tokens": 5}))


def test_a_tokenizer_that_does_not_fit_the_data_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """One of letters that no instruction has, and none that is unknown: every instruction would read as nothing."""
    Tokenizer(BPE({"Z": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    tokenizer = {"kind": "pretrained", "path": str(tmp_path)}
    with pytest.raises(ContractError, match=r"reads nothing of the instruction '.*': expected a token or more"):
        open_samples(make_recipe(model={"tokenizer": tokenizer}))


def test_samples_speak_their_own_instruction(samples: Samples) -> None:
    batch, preprocessor = _everything(samples), samples.blueprint.preprocessor
    windows = _windows(samples.train)
    for row in range(0, len(windows), 17):
        said = preprocessor.tokenizer.decode(batch.inputs.text[row][batch.inputs.text_valid[row]].tolist())
        assert said == windows.dataset.episodes[int(windows.owner[row])].instruction.replace(",", "")


def test_held_out_items_are_those_of_validation(samples: Samples) -> None:
    validation = _windows(samples.validation)
    items = validation.first_items()
    batch = samples.held_out(items)
    data = validation.dataset
    expected = data.state[data.episode_starts[validation.episodes]]
    robot = samples.blueprint.preprocessor.embodiments[0]
    np.testing.assert_array_equal(batch.inputs.state[:, -1].numpy(), robot.state.normalise(expected))


def test_history_begins_with_the_episode(make_recipe: MakeRecipe) -> None:
    samples = open_samples(make_recipe(model={"history": 3}))
    first = samples.held_out(samples.validation.first_items())
    assert first.inputs.observed.tolist() == [[False, False, True]] * len(first)
    assert first.inputs.images.shape[1] == first.inputs.state.shape[1] == 3
    assert samples.blueprint.preprocessor.interface.history == 3


def test_no_dataset_is_asked_for(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ConfigError, match="which dataset"):
        open_samples(make_recipe(data={"path": ""}))


def test_an_empty_dataset_is_refused(dataset: Path, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    create_dataset(tmp_path / "empty", Dataset.open(dataset).contract)
    with pytest.raises(DatasetError, match="nothing has been published"):
        open_samples(make_recipe(data={"path": str(tmp_path / "empty")}))


def test_a_selection_of_nothing_is_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(DatasetError, match=r"has no frame to learn from .*min_length=9999.*select more episodes"):
        open_samples(make_recipe(data={"select": {"min_length": 9999}}))


def test_selected_episodes_and_a_split_that_is_held_out(dataset: Path, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    dataset = shutil.copytree(dataset, tmp_path / "copy")
    data = Dataset.open(dataset)
    longest = int(np.argmax(data.episode_lengths))
    select = {"min_length": int(data.episode_lengths[longest])}
    only = open_samples(make_recipe(data={"path": str(dataset), "select": select}))
    assert set(_windows(only.train).owner) == {longest}
    relabel(data, {data.episodes[longest].uid: {"split": "held"}}, "test")
    version = Dataset.open(dataset).manifest.number
    samples = open_samples(make_recipe(data={"path": str(dataset), "manifest": version, "held_out": "held"}))
    assert set(_windows(samples.validation).owner) == {longest}
    assert len(set(_windows(samples.train).owner)) == len(data.episodes) - 1
    with pytest.raises(UnknownNameError, match="did you mean 'held'"):
        open_samples(make_recipe(data={"path": str(dataset), "manifest": version, "held_out": "hld"}))


def test_data_far_outside_of_its_limits_is_not_learned_from(
    make_recipe: MakeRecipe, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Dataset.open(bare)
    state = source.read_episode(0).state.copy()
    state[2, 0] = 57.3
    episode = replace(source.read_episode(0), state=state)
    create_dataset(tmp_path / "data", source.contract)
    with monkeypatch.context() as patch:
        patch.setattr(episode_check, "check_within_limits", lambda rows, contract: None)  # as older versions
        with SegmentWriter(tmp_path / "data", source.contract, {}) as writer:
            writer.append(episode)
            publish(tmp_path / "data", [writer.seal()], "degrees")
    with pytest.raises(DatasetError, match=r"episode 0 .*state joint1: expected .*, got 57.3 at step 2"):
        open_samples(make_recipe(data={"path": str(tmp_path / "data")}))
