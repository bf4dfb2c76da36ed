"""Mixtures of three robots: shapes, masks and shares are exact, and a run resumes with the samples it has not seen."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.core.config import load_recipe
from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ConfigError, DatasetError
from vla.core.media.images import resize_frame
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.sampling.loader import Batches, tensors
from vla.datasets.sampling.mixture import Mixture
from vla.datasets.sampling.order import ResumableSampler
from vla.datasets.sampling.settings import MixtureConfig, MixtureEntry
from vla.datasets.sampling.windows import Windows
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

SIZE = (6, 8)
SLOTS = ("base", "wrist")


def _robot(robot: str, state: int, action: int, hz: float, *cameras: Camera) -> Contract:
    def joints(count: int) -> tuple[Dimension, ...]:
        return tuple(Dimension(name=f"j{i}", unit="rad" if i else "m", low=-3.0, high=3.0) for i in range(count))

    return Contract(robot=robot, cameras=cameras, state=joints(state), action=joints(action), control_hz=hz)


ROBOTS = {
    "arm": _robot("arm", 3, 5, 20.0, Camera(name="front", height=6, width=8), Camera(name="wrist", height=6, width=8)),
    "two arms": _robot("two arms", 6, 2, 10.0, Camera(name="top", height=12, width=16)),
    "depth": _robot(
        "arm",
        4,
        4,
        20.0,
        Camera(name="wrist", height=4, width=5),
        Camera(name="base", height=6, width=8, kind="depth"),
    ),
}
LENGTHS = {"arm": (9, 22, 4), "two arms": (20, 30), "depth": (17, 5)}


def _episode(contract: Contract, steps: int, seed: int, split: str) -> Episode:
    rng = np.random.default_rng(seed)

    def floats(width: int) -> np.ndarray:
        return rng.uniform(1, 2, (steps, width)).astype(np.float32)  # never 0, which is padding

    time_ns = np.arange(steps, dtype=np.int64) * int(1e9 / contract.control_hz)
    return Episode(
        images={c.name: rng.integers(1, 255, (steps, *c.shape)).astype(c.dtype) for c in contract.cameras},
        state=floats(len(contract.state)),
        action=floats(len(contract.action)),
        action_executed=floats(len(contract.action)),
        reward=np.zeros(steps, np.float32),
        done=np.arange(steps) == steps - 1,
        valid=rng.random(steps) < 0.9,
        time_ns=time_ns,
        command_time_ns=time_ns + 5,
        instruction=["pick it up", f"put it on the {contract.robot}"][seed % 2],
        task="t",
        split=split,
        seed=seed,
        success=True,
    )


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A dataset of each robot; the last episode of each is of split test."""
    base = tmp_path_factory.mktemp("three robots")
    for name, contract in ROBOTS.items():
        create_dataset(base / name, contract)
        with SegmentWriter(base / name, contract, {}) as writer:
            for i, steps in enumerate(LENGTHS[name]):
                writer.append(_episode(contract, steps, i, "test" if i == len(LENGTHS[name]) - 1 else "train"))
            publish(base / name, [writer.seal()], "test")
    return {name: str(base / name) for name in ROBOTS}


def _config(roots: dict[str, str], weights: tuple[float, ...] = (2, 1, 1), **changes: Any) -> MixtureConfig:
    cameras = {"arm": {"base": "front", "wrist": "wrist"}, "two arms": {"base": "top"}, "depth": {}}
    entries = tuple(
        MixtureEntry(path=roots[name], weight=float(weight), cameras=cameras[name])
        for name, weight in zip(ROBOTS, weights, strict=True)
    )
    return MixtureConfig(**({"entries": entries, "slots": SLOTS, "image_size": SIZE} | changes))


def _open(config: MixtureConfig, horizon: int = 4, **changes: Any) -> Mixture:
    return Mixture(config, **({"horizon": horizon, "history": 2} | changes))


def _entry(config: MixtureConfig, number: int, **changes: Any) -> MixtureConfig:
    """The same, with one entry changed."""
    entries = list(config.entries)
    entries[number] = dataclasses.replace(entries[number], **changes)
    return dataclasses.replace(config, entries=tuple(entries))


@pytest.fixture(scope="module")
def mixture(roots: dict[str, str]) -> Mixture:
    return _open(_config(roots))


def test_dtypes_and_shapes(mixture: Mixture) -> None:
    assert {key: (value.dtype.name, value.shape) for key, value in mixture.batch(np.array([0, 40, 75])).items()} == {
        "images": ("uint8", (3, 2, 2, 6, 8, 3)),
        "camera_valid": ("bool", (3, 2)),
        "state": ("float32", (3, 2, 6)),
        "state_valid": ("bool", (3, 6)),
        "observation_valid": ("bool", (3, 2)),
        "actions": ("float32", (3, 4, 5)),
        "executed": ("float32", (3, 4, 5)),
        "action_dim_valid": ("bool", (3, 5)),
        "action_valid": ("bool", (3, 4)),
        "instruction": ("int64", (3,)),
        "embodiment": ("int64", (3,)),
        "dataset": ("int64", (3,)),
        "index": ("int64", (3,)),
    }
    assert mixture.batch(np.array([], np.int64))["images"].shape == (0, 2, 2, 6, 8, 3)


@pytest.mark.parametrize("hz", [None, 5.0])
def test_every_item_is_the_window_of_its_dataset_padded_with_zeros(roots: dict[str, str], hz: float | None) -> None:
    mixture = _open(_config(roots, hz=hz))
    everything = mixture.batch(np.arange(len(mixture)))
    first = 0
    for number, (name, contract) in enumerate(ROBOTS.items()):
        data = Dataset.open(roots[name])
        windows = Windows(data, 4, cameras=[], history=2, hz=hz)
        expected = windows.batch(np.arange(len(windows)))
        got = {key: value[first : first + len(windows)] for key, value in everything.items()}
        s, d = len(contract.state), len(contract.action)
        np.testing.assert_array_equal(got["state"][..., :s], expected["state"])
        np.testing.assert_array_equal(got["actions"][..., :d], expected["actions"])
        assert (got["state"] != 0).any(axis=(0, 1)).tolist() == [True] * s + [False] * (6 - s)
        assert (got["actions"] != 0).any(axis=(0, 1)).tolist() == [True] * d + [False] * (5 - d)
        for mask, width, of in (("state_valid", s, 6), ("action_dim_valid", d, 5)):
            assert (got[mask] == (np.arange(of) < width)).all()
        for key in ("observation_valid", "action_valid", "index"):
            np.testing.assert_array_equal(got[key], expected[key])
        assert (got["dataset"] == number).all()
        spoken = [mixture.instructions[i] for i in got["instruction"]]
        assert spoken == [windows.instructions[i] for i in expected["instruction"]]
        first += len(windows)
    assert first == len(mixture)
    assert len(mixture.instructions) == 3


def test_one_item_is_one_row_of_a_batch(mixture: Mixture) -> None:
    items = np.array([70, 3, 3, 30])
    batch = mixture.batch(items)
    for row, item in enumerate(items):
        single = mixture[item]
        assert single.keys() == batch.keys()
        assert all(np.array_equal(single[key], batch[key][row]) for key in batch)


def test_cameras_go_to_their_slots(mixture: Mixture, roots: dict[str, str]) -> None:
    batch = mixture.batch(np.arange(len(mixture)))
    expected_slots = [{"base": "front", "wrist": "wrist"}, {"base": "top"}, {"wrist": "wrist"}]
    for number, (name, slots) in enumerate(zip(ROBOTS, expected_slots, strict=True)):
        data = Dataset.open(roots[name])
        mine = np.flatnonzero(batch["dataset"] == number)
        assert (batch["camera_valid"][mine] == [slot in slots for slot in SLOTS]).all()
        for row in mine:
            step = int(batch["index"][row])
            begins = data.episode_starts[np.searchsorted(data.episode_starts, step, side="right") - 1]
            for column, slot in enumerate(SLOTS):
                for t, seen in enumerate((max(step - 1, begins), step)):
                    picture = batch["images"][row, t, column]
                    if slot in slots:
                        np.testing.assert_array_equal(picture, resize_frame(data.frame(slots[slot], seen), SIZE))
                    else:
                        assert not picture.any()


def test_rates_give_the_same_spacing_in_time(roots: dict[str, str]) -> None:
    """At 5 Hz a robot of 20 Hz is seen every 4 steps, and one of 10 Hz every 2."""
    mixture = _open(_config(roots, hz=5.0), horizon=3)
    batch = mixture.batch(np.arange(len(mixture)))
    for number, name in enumerate(ROBOTS):
        data = Dataset.open(roots[name])
        whole = (
            batch["action_valid"].all(axis=1) & batch["observation_valid"].all(axis=1) & (batch["dataset"] == number)
        )
        assert whole.any()
        for row in np.flatnonzero(whole):
            width, step = data.action.shape[1], int(batch["index"][row])
            chunk = [int(np.flatnonzero((data.action == a[:width]).all(axis=1))[0]) for a in batch["actions"][row]]
            seen = [
                int(np.flatnonzero((data.state == s[: data.state.shape[1]]).all(axis=1))[0])
                for s in batch["state"][row]
            ]
            assert (data.time_ns[chunk] - data.time_ns[step]).tolist() == [0, 200_000_000, 400_000_000]
            assert (data.time_ns[seen] - data.time_ns[step]).tolist() == [-200_000_000, 0]


def test_a_slow_robot_may_keep_its_own_rate(roots: dict[str, str]) -> None:
    config = _config(roots, hz=15.0)
    with pytest.raises(DatasetError, match=r"two arms: hz=15 must be positive and at most the 10 Hz .* hz of its own"):
        _open(config)
    rows = _open(_entry(config, 1, hz=10.0)).summary()
    assert [any("set hz" in p for p in row.problems) for row in rows] == [True] * 3
    assert not any("set hz" in p for row in _open(_config(roots, hz=10.0)).summary() for p in row.problems)


def test_shares_are_exact(mixture: Mixture) -> None:
    order = mixture.order(7)
    assert order.size == len(mixture)
    for first in range(0, 400, 4):
        drawn = mixture.batch(order.at(np.arange(first, first + 4)))["dataset"]
        assert np.bincount(drawn, minlength=3).tolist() == [2, 1, 1]


def test_each_dataset_is_walked_whole(mixture: Mixture) -> None:
    drawn = np.bincount(mixture.order(0).at(np.arange(4000)), minlength=len(mixture))
    ends = np.cumsum([row.steps for row in mixture.summary()])
    assert all(np.ptp(part) <= 1 for part in np.split(drawn, ends[:-1]))
    assert [part.sum() for part in np.split(drawn, ends[:-1])] == [2000, 1000, 1000]


def test_balance_makes_every_step_as_likely(roots: dict[str, str]) -> None:
    mixture = _open(_config(roots, (1, 1, 1), balance=True))
    rows = mixture.summary()
    np.testing.assert_allclose(mixture.asked, [row.steps / len(mixture) for row in rows])
    assert np.ptp([row.epochs_per_million for row in rows]) < 1e-6 * rows[0].epochs_per_million
    doubled = _open(_config(roots, (2, 1, 1), balance=True)).summary()
    assert doubled[0].epochs_per_million == pytest.approx(2 * doubled[1].epochs_per_million, rel=0.02)


def test_small_shares(roots: dict[str, str]) -> None:
    with pytest.raises(DatasetError, match=r"at least 0\.001 of the samples, but \S.*two arms has 4\.\d+e-04\. Raise"):
        _open(_config(roots, (1, 0.0005, 0.05)))
    rows = _open(_config(roots, (1, 0.00150001, 0.3))).summary()
    assert any("drawn as 0.1%: shares are rounded to thousandths" in p for p in rows[1].problems)
    assert _open(_config(roots, (0.998, 0.001, 0.001))).summary()[1].share == 0.001


def test_summary(roots: dict[str, str]) -> None:
    rows = _open(_config(roots)).summary()
    sizes = [len(Windows(Dataset.open(root), 1, cameras=[])) for root in roots.values()]
    assert [(row.dataset, row.robot, row.embodiment, row.weight, row.share) for row in rows] == [
        (roots["arm"], "arm", 0, 2, 0.5),
        (roots["two arms"], "two arms", 1, 1, 0.25),
        (roots["depth"], "arm", 2, 1, 0.25),
    ]
    assert [row.steps for row in rows] == sizes
    assert [row.epochs_per_million for row in rows] == [500_000 / sizes[0], 250_000 / sizes[1], 250_000 / sizes[2]]
    assert [row.cameras for row in rows] == [("base=front", "wrist=wrist"), ("base=top",), ("wrist=wrist",)]
    assert not any("cameras" in p for p in rows[0].problems)
    assert "no slot shows its cameras base" in rows[2].problems


def test_what_cannot_be_scaled_is_in_the_summary(tmp_path: Path) -> None:
    contract = ROBOTS["arm"]
    episode = _episode(contract, 30, 0, "train")
    episode.action[:, 0] = 0.5
    create_dataset(tmp_path / "still", contract)
    with SegmentWriter(tmp_path / "still", contract, {}) as writer:
        writer.append(episode)
        publish(tmp_path / "still", [writer.seal()], "test")
    entry = MixtureEntry(path=str(tmp_path / "still"))
    (row,) = _open(MixtureConfig(entries=(entry,), slots=("wrist",), image_size=SIZE)).summary()
    assert row.problems[0].startswith("action j0 never changes: it is 0.5 in all ")


def test_embodiments_are_interfaces(mixture: Mixture, roots: dict[str, str]) -> None:
    """Two robots of one name and different joints are two; one robot in two datasets is one."""
    assert mixture.embodiments == ["arm", "two arms", "arm"]
    entries = tuple(MixtureEntry(path=roots["arm"], split=split) for split in ("train", "test"))
    twice = _open(_config(roots, entries=entries, slots=("front",)))
    assert twice.embodiments == ["arm"]
    assert set(twice.batch(np.arange(len(twice)))["embodiment"]) == {0}


def test_splits(roots: dict[str, str]) -> None:
    data = Dataset.open(roots["arm"])
    mixture = _open(_entry(_config(roots), 0, split="test"))
    assert mixture.summary()[0].steps == data.valid[data.episode_starts[2] :].sum()
    batch = mixture.batch(np.arange(mixture.summary()[0].steps))
    assert (batch["index"] >= data.episode_starts[2]).all()
    with pytest.raises(DatasetError, match=r"arm: unknown split 'tets': did you mean 'test'\? known: test, train"):
        _open(_entry(_config(roots), 0, split="tets"))


def test_the_version_is_pinned(roots: dict[str, str], mixture: Mixture) -> None:
    assert [entry.manifest for entry in mixture.config.entries] == [1, 1, 1]
    assert len(_open(mixture.config)) == len(mixture)


@pytest.mark.parametrize(
    ("number", "cameras", "message"),
    [
        (
            0,
            {"base": "frnt"},
            r"arm: cameras: unknown colour camera 'frnt': did you mean 'front'\? known: front, wrist",
        ),
        (1, {"bse": "top"}, r"two arms: cameras: unknown slot 'bse': did you mean 'base'\? known: base, wrist"),
        (1, {}, r"none of its cameras \(top\) is called like a slot \(base, wrist\); map them with cameras"),
        (2, {"base": "base"}, "unknown colour camera 'base': known: wrist"),
    ],
)
def test_unknown_cameras_and_slots(roots: dict[str, str], number: int, cameras: dict[str, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        _open(_entry(_config(roots), number, cameras=cameras))


def test_without_images(roots: dict[str, str]) -> None:
    entries = tuple(MixtureEntry(path=root) for root in roots.values())
    assert _open(_config(roots, entries=entries, slots=()))[0]["images"].shape == (2, 0, 6, 8, 3)


def test_a_dataset_without_steps_is_named(tmp_path: Path, roots: dict[str, str]) -> None:
    contract = ROBOTS["arm"]
    create_dataset(tmp_path / "none", contract)
    with SegmentWriter(tmp_path / "none", contract, {}) as writer:
        writer.append(dataclasses.replace(_episode(contract, 3, 0, "train"), valid=np.zeros(3, bool)))
        publish(tmp_path / "none", [writer.seal()], "test")
    with pytest.raises(DatasetError, match="none: no step of it may be learned from"):
        _open(_entry(_config(roots), 0, path=str(tmp_path / "none")))


def test_first_items_begin_episodes(mixture: Mixture, roots: dict[str, str]) -> None:
    batch = mixture.batch(mixture.first_items())
    expected = []
    for number, root in enumerate(roots.values()):
        windows = Windows(Dataset.open(root), 4, cameras=[])
        expected += [(number, int(windows.rows[i])) for i in windows.first_items()]
    assert list(zip(batch["dataset"].tolist(), batch["index"].tolist(), strict=True)) == expected
    assert len(expected) == 7


def test_episodes_are_chosen_from_each_dataset(roots: dict[str, str]) -> None:
    chosen = [np.array([1]), np.array([], np.int64), np.array([0, 1])]
    with pytest.raises(DatasetError, match="two arms: no step of it may be learned from"):
        _open(_config(roots), episodes=chosen)
    mixture = _open(_config(roots), episodes=chosen, may_be_empty=True)
    data = Dataset.open(roots["arm"])
    assert [len(part.windows) for part in mixture.parts] == [
        data.valid[data.episode_starts[1] : data.episode_starts[2]].sum(),
        0,
        Dataset.open(roots["depth"]).valid.sum(),
    ]
    assert set(mixture.batch(np.arange(len(mixture)))["dataset"].tolist()) == {0, 2}
    assert len(_open(_config(roots), episodes=[np.array([], np.int64)] * 3, may_be_empty=True)) == 0


def test_signals_are_unknown_where_a_dataset_does_not_offer_them(tmp_path: Path, roots: dict[str, str]) -> None:
    place = (Dimension(name="x", unit="m", low=0.0, high=3.0), Dimension(name="y", unit="m", low=0.0, high=3.0))
    contract = dataclasses.replace(ROBOTS["arm"], robot="teacher", signals={"place": place})
    episode = _episode(ROBOTS["arm"], 12, 0, "train")
    said = np.random.default_rng(3).uniform(1, 2, (12, 2)).astype(np.float32)
    create_dataset(tmp_path / "taught", contract)
    with SegmentWriter(tmp_path / "taught", contract, {}) as writer:
        writer.append(dataclasses.replace(episode, signals={"place": said}))
        publish(tmp_path / "taught", [writer.seal()], "test")
    config = _config(roots)
    entry = MixtureEntry(path=str(tmp_path / "taught"), cameras={"base": "front"})
    mixture = _open(dataclasses.replace(config, entries=(*config.entries, entry)))
    batch = mixture.batch(np.arange(len(mixture)))
    mine = batch["dataset"] == 3
    np.testing.assert_array_equal(batch["signals/place"][mine], said[episode.valid])
    assert np.isnan(batch["signals/place"][~mine]).all()
    assert batch["signals/place"].dtype == np.float32


def test_items_are_checked(mixture: Mixture) -> None:
    for item in (-1, len(mixture)):
        with pytest.raises(IndexError):
            mixture[item]


YAML = """
slots: [base, wrist]
image_size: [6, 8]
hz: 5
entries:
  - {path: a b, weight: 2, cameras: {base: front}}
  - {path: c, split: train, manifest: 3}
"""


def test_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mixture.yaml"
    path.write_text(YAML)
    assert load_recipe(MixtureConfig, path) == MixtureConfig(
        entries=(
            MixtureEntry(path="a b", weight=2.0, cameras={"base": "front"}),
            MixtureEntry(path="c", split="train", manifest=3),
        ),
        slots=SLOTS,
        image_size=SIZE,
        hz=5.0,
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight", "wieght", r"entries\[0\]: unknown key 'wieght': did you mean 'weight'"),
        ("weight: 2", "weight: 0", "a b: weight=0.0 must be positive"),
        ("front", "3", r"entries\[0\]\.cameras\.base must be str, got 3"),
        ("[6, 8]", "[6, 8, 3]", "two positive numbers"),
        ("[base, wrist]", "[base, base]", "each needs a name of its own"),
        ("path: c, split: train, manifest: 3", "path: a b", "a b .* is listed twice; add its weights up"),
        ("manifest: 3}", "manifest: 3.5}", r"entries\[1\]\.manifest must be int"),
    ],
)
def test_mistakes_in_yaml(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mixture.yaml"
    assert old in YAML
    path.write_text(YAML.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_recipe(MixtureConfig, path)
    with pytest.raises(ConfigError, match="at least one dataset"):
        MixtureConfig(entries=(), slots=SLOTS)


Ranks = st.tuples(st.integers(1, 4), st.integers(1, 5))


@settings(deadline=None, max_examples=30)
@given(before=Ranks, after=Ranks, steps=st.integers(0, 9), more=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_resumed_run_draws_what_it_has_not_seen(
    mixture: Mixture, before: tuple[int, int], after: tuple[int, int], steps: int, more: int, seed: int
) -> None:
    """With other ranks and batches, the two halves are the start of the order, each slot once."""
    order = mixture.order(seed)

    def drawn(ranks: tuple[int, int], start: int, count: int) -> np.ndarray:
        world, batch = ranks
        samplers = [ResumableSampler(order=order, batch=batch, rank=r, world=world, start=start) for r in range(world)]
        return np.concatenate([np.array([], np.int64), *(s.items(step) for step in range(count) for s in samplers)])

    first = drawn(before, 0, steps)
    state = ResumableSampler(order=order, batch=before[1], world=before[0]).state(steps)
    second = drawn(after, state["consumed"], more)
    expected = order.at(np.arange(len(first) + len(second)))
    assert sorted(first.tolist()) == sorted(expected[: len(first)].tolist())
    assert sorted(second.tolist()) == sorted(expected[len(first) :].tolist())


def _plain(mixture: Mixture, sampler: ResumableSampler, loaders: int) -> Iterable[dict[str, torch.Tensor]]:
    """Three batches, item by item, put together by torch, in forked processes."""
    rows: Any = [sampler.items(step).tolist() for step in range(3)]
    options: Any = {"num_workers": loaders, "multiprocessing_context": "fork" if loaders else None}
    return torch.utils.data.DataLoader(mixture, batch_sampler=rows, **options)  # type: ignore[arg-type]


def _whole(mixture: Mixture, sampler: ResumableSampler, loaders: int) -> Iterable[dict[str, torch.Tensor]]:
    """Three batches, each put together where it is read, in spawned processes."""
    options: Any = {"num_workers": loaders, "multiprocessing_context": "spawn" if loaders else None}
    return torch.utils.data.DataLoader(Batches(mixture, sampler, tensors), batch_size=None, sampler=range(3), **options)


@pytest.mark.parametrize("load", [_plain, _whole])
def test_loader_processes_resume_with_other_ranks(
    roots: dict[str, str], load: Callable[[Mixture, ResumableSampler, int], Iterable[dict[str, torch.Tensor]]]
) -> None:
    mixture = _open(_config(roots))
    order = mixture.order(3)
    everything = mixture.batch(order.at(np.arange(3 * 8 + 2 * 3 * 4)))

    def check(sampler: ResumableSampler, loaders: int, slots: range) -> None:
        batches = list(load(mixture, sampler, loaders))
        assert len(batches) == 3
        for step, batch in enumerate(batches):
            mine = slots[step * sampler.batch : (step + 1) * sampler.batch]
            assert all(np.array_equal(batch[key].numpy(), everything[key][mine]) for key in everything)

    alone = ResumableSampler(order=order, batch=8)
    check(alone, 2, range(24))
    seen = alone.state(3)["consumed"]
    for rank in range(2):
        resumed = ResumableSampler(order=order, batch=4, rank=rank, world=2, start=seen)
        check(resumed, 2 if load is _plain else 0, range(seen + rank, 48, 2))
