"""Windows against a reference that goes step by step through whole episodes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.care.checker import check_dataset
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.sampling.windows import Windows
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

MakeDataset = Callable[[list[list[int]]], Dataset]
LENGTHS = [[3, 5, 1], [7, 4]]


def naive(
    data: Dataset, horizon: int, episodes: Sequence[int], cameras: Sequence[str], history: int = 1, stride: int = 1
) -> list[dict[str, Any]]:
    items = []
    for e in episodes:
        episode = data.read_episode(e)
        for t in range(len(episode)):
            if not episode.valid[t]:
                continue
            actions, executed, valid = [], [], []
            for k in range(t, t + horizon * stride, stride):
                actions.append(episode.action[min(k, len(episode) - 1)])
                executed.append(episode.action_executed[min(k, len(episode) - 1)])
                valid.append(k < len(episode) and bool(episode.valid[k]))
            past = [t - k * stride for k in reversed(range(history))]
            seen = [max(k, 0) for k in past]
            items.append(
                {
                    "images": np.stack([np.stack([episode.images[c][k] for c in cameras]) for k in seen]),
                    "state": np.stack([episode.state[k] for k in seen]),
                    "observation_valid": np.array([k >= 0 for k in past]),
                    "actions": np.stack(actions),
                    "executed": np.stack(executed),
                    "action_valid": np.array(valid),
                    "signals/place": episode.signals["place"][t],
                    "signals/force": episode.signals["force"][t],
                    "instruction": episode.instruction,
                    "step_fraction": np.float32(t / (len(episode) - 1) if len(episode) > 1 else 0),
                    "index": int(data.episode_starts[e]) + t,
                    "episode": e,
                }
            )
    return items


@pytest.mark.parametrize("horizon", [1, 3, 50])
@pytest.mark.parametrize("episodes", [None, [4, 0, 1]])
@pytest.mark.parametrize("cameras", [None, ["wrist"], ["wrist", "front"]])
@pytest.mark.parametrize(("history", "stride"), [(1, 1), (3, 1), (2, 2)])
def test_like_the_reference(
    make_dataset: MakeDataset,
    horizon: int,
    episodes: list[int] | None,
    cameras: list[str] | None,
    history: int,
    stride: int,
) -> None:
    data = make_dataset(LENGTHS)
    windows = Windows(data, horizon, episodes, cameras, history=history, hz=20.0 / stride)
    expected = naive(data, horizon, episodes or range(5), cameras or ["front", "wrist"], history, stride)
    assert len(windows) == len(expected) > 5
    batch = windows.batch(np.arange(len(windows)))
    for i, reference in enumerate(expected):
        item = windows[i]
        assert item.keys() == reference.keys() == batch.keys()
        for key, value in reference.items():
            got = windows.instructions[item[key]] if key == "instruction" else item[key]
            np.testing.assert_array_equal(got, value)
            np.testing.assert_array_equal(batch[key][i], item[key])


def test_dtypes_and_shapes(make_dataset: MakeDataset) -> None:
    batch = Windows(make_dataset(LENGTHS), 6).batch(np.array([3, 3, 0]))
    assert {key: (value.dtype.name, value.shape) for key, value in batch.items()} == {
        "images": ("uint8", (3, 1, 2, 6, 8, 3)),
        "state": ("float32", (3, 1, 5)),
        "observation_valid": ("bool", (3, 1)),
        "actions": ("float32", (3, 6, 4)),
        "executed": ("float32", (3, 6, 4)),
        "action_valid": ("bool", (3, 6)),
        "signals/place": ("float32", (3, 3)),
        "signals/force": ("float32", (3, 2)),
        "instruction": ("int64", (3,)),
        "step_fraction": ("float32", (3,)),
        "index": ("int64", (3,)),
        "episode": ("int64", (3,)),
    }
    assert batch["action_valid"][:, 0].all()


def test_instructions_agree_between_selections(make_dataset: MakeDataset) -> None:
    data = make_dataset(LENGTHS)
    assert Windows(data, 1, [4]).instructions == Windows(data, 1, [0, 1]).instructions
    assert len(Windows(data, 1).instructions) == 3


def test_nothing_selected(make_dataset: MakeDataset) -> None:
    windows = Windows(make_dataset(LENGTHS), 2, [])
    assert len(windows) == 0
    assert windows.batch(np.array([], np.int64))["actions"].shape == (0, 2, 4)


def test_without_cameras(make_dataset: MakeDataset) -> None:
    batch = Windows(make_dataset(LENGTHS), 2, cameras=[]).batch(np.array([1, 0]))
    assert batch["images"].shape == (2, 1, 0, 0, 0, 3)


def test_errors(make_dataset: MakeDataset) -> None:
    data = make_dataset([[2, 3]])
    for arguments, message in [
        ((0,), "horizon"),
        ((1, [2]), "expected 0 to 1"),
        ((1, [0, 0]), "twice"),
        ((1, None, ["side"]), "expected some of"),
    ]:
        with pytest.raises(DatasetError, match=message):
            Windows(data, *arguments)
    for keywords, message in [({"history": 0}, "history"), ({"hz": 21.0}, "at most 20"), ({"hz": 0.0}, "at most 20")]:
        with pytest.raises(DatasetError, match=message):
            Windows(data, 1, **keywords)
    windows = Windows(data, 1)
    for index in (-1, len(windows)):
        with pytest.raises(IndexError):
            windows[index]


def test_no_chunk_crosses_a_hole_in_time(
    tmp_path: Path, contract: Contract, make_episode: Callable[..., Episode]
) -> None:
    """Steps behind it are steps of their own, and labels of none before it."""
    episode = make_episode(6)
    late = episode.time_ns + np.array([0, 0, 0, 10**10, 10**10, 10**10])
    root = tmp_path / "d"
    create_dataset(root, contract)
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(replace(episode, time_ns=late, command_time_ns=late, valid=np.ones(6, bool)))
        publish(root, [writer.seal()], "x")
    windows = Windows(Dataset.open(root), 4, cameras=[])
    actions, valid = windows.chunks(np.arange(6, dtype=np.int64))
    assert valid.sum(axis=1).tolist() == [3, 2, 1, 3, 2, 1]
    assert np.array_equal(actions[1], episode.action[[1, 2, 2, 2]])
    assert np.array_equal(actions[3], episode.action[[3, 4, 5, 5]])
    check_dataset(root)
