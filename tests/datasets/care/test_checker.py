"""Every dataset keeps its promises, and a broken one is named. Imports of each format are checked beside its source."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.datasets.care.checker import check_dataset, check_mixture
from vla.datasets.dataset import Dataset
from vla.datasets.edit import keep_only
from vla.datasets.sampling.mixture import Mixture
from vla.datasets.sampling.settings import MixtureConfig, MixtureEntry
from vla.datasets.sampling.windows import Windows
from vla.datasets.selection import Selection
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

MakeDataset = Callable[..., Dataset]
LENGTHS = [[7, 1], [5, 30, 2]]


def test_recordings_of_the_tabletop(dataset: Path) -> None:
    check_dataset(dataset)
    check_dataset(Dataset.open(dataset))


def test_clocks_depth_and_simulators(make_rich_dataset: MakeDataset) -> None:
    check_dataset(make_rich_dataset(LENGTHS))


def test_a_mixture_of_robots(dataset: Path, make_dataset: MakeDataset, make_rich_dataset: MakeDataset) -> None:
    entries = (
        MixtureEntry(path=str(dataset)),
        MixtureEntry(path=make_dataset(LENGTHS).url, weight=2.0),
        MixtureEntry(path=make_rich_dataset(LENGTHS).url, cameras={"wrist": "front"}),
    )
    config = MixtureConfig(entries=entries, slots=("front", "wrist"), image_size=(16, 16))
    for history in (1, 3):
        check_mixture(Mixture(config, horizon=16, history=history))


def test_a_version_without_some_episodes(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(LENGTHS)
    keep_only(dataset, Selection(min_length=5), "only long ones")
    check_dataset(dataset.url)


def test_nothing_to_learn_from(make_dataset: MakeDataset, make_episode: Callable[..., Any], tmp_path: Path) -> None:
    dataset = make_dataset([[3]])
    with SegmentWriter(tmp_path / "data set", dataset.contract, {}) as writer:
        writer.append(make_episode(4, 9, valid=np.zeros(4, bool)))
        publish(dataset.url, [writer.seal()], "no labels")
    check_dataset(dataset.url)


def _with(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Dataset], None]:
    """Break one array of an open dataset."""

    def spoil(dataset: Dataset) -> None:
        array = change(np.array(getattr(dataset, name)))
        array.flags.writeable = False
        dataset.__dict__[name] = array

    return spoil


def _spoil(array: np.ndarray, place: Any, value: Any) -> np.ndarray:
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_with("state", lambda a: a.astype(np.float64)), r"state: expected float32 \(45, 5\), got float64"),
        (_with("action", lambda a: a[:, 1:]), r"action: expected float32 \(45, 4\), got float32 \(45, 3\)"),
        (_with("reward", lambda a: a[1:]), r"reward: expected float32 \(45,\), got float32 \(44,\)"),
        (_with("state", lambda a: _spoil(a, (3, 1), np.nan)), "state: expected finite numbers"),
        (
            _with("time_ns", lambda a: _spoil(a, 3, a[2])),
            "rising times within an episode, not so after step 2",
        ),
        (_with("action", lambda a: _spoil(a, (3, 1), 0.5)), "a copy: action: other values"),
        (_with("episode_lengths", lambda a: _spoil(a, 0, 0)), "lengths: expected at least 1 step"),
        (_with("episode_lengths", lambda a: _spoil(a, 1, 3)), "45 steps, its episodes 47"),
        (_with("episode_starts", lambda a: _spoil(a, 1, 6)), "first steps of the episodes: other values"),
        (lambda d: setattr(d, "frame", lambda camera, step: np.zeros((6, 8, 3), np.uint8)), "front at step 6: other"),
        (lambda d: setattr(d, "read_rows", lambda n: d.read_episode(max(n - 1, 0))), "episode 1: .* without images"),
        (lambda d: d.__dict__["state"].setflags(write=True), "state: expected it to be read-only"),
    ],
)
def test_broken_promises_are_named(make_dataset: MakeDataset, spoil: Callable[[Dataset], None], words: str) -> None:
    dataset = make_dataset(LENGTHS)
    assert len(dataset.state) == 45
    spoil(dataset)
    with pytest.raises(DatasetError, match=words):
        check_dataset(dataset)


@pytest.mark.parametrize("key", ["images", "state", "observation_valid", "actions", "action_valid", "index"])
def test_windows_that_read_something_else_are_named(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    original = Windows.batch

    def batch(self: Windows, items: np.ndarray) -> dict[str, np.ndarray]:
        found = original(self, items)
        return {**found, key: np.roll(found[key], 1, axis=0)}

    monkeypatch.setattr(Windows, "batch", batch)
    with pytest.raises(DatasetError, match=rf"windows of episode \d: {key}"):
        check_dataset(make_dataset(LENGTHS))


def test_a_mixture_that_hides_what_it_has_is_named(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (MixtureEntry(path=make_dataset(LENGTHS).url),)
    mixture = Mixture(MixtureConfig(entries=entries, slots=("front", "top"), image_size=(6, 8)), horizon=16)
    check_mixture(mixture)
    original = Mixture.batch

    def batch(self: Mixture, items: np.ndarray) -> dict[str, np.ndarray]:
        found = original(self, items)
        return {**found, "state_valid": ~found["state_valid"]}

    monkeypatch.setattr(Mixture, "batch", batch)
    with pytest.raises(DatasetError, match="state: expected zeros where the mask is false"):
        check_mixture(mixture)
