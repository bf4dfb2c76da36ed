"""Pictures for codecs: drawn by the seed, of episodes that are held out and others, cameras of one size together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla.core.errors import ConfigError, UnknownNameError
from vla.datasets.dataset import Dataset
from vla.training.codes.frames import read_frames
from vla.training.codes.settings import FramesConfig


@pytest.fixture
def opened(dataset: Path) -> Dataset:
    return Dataset.open(dataset)


def _known(dataset: Dataset, camera: str, steps: np.ndarray) -> set[bytes]:
    return {dataset.frame(camera, step).tobytes() for step in steps}


def test_pictures_to_fit_to_and_to_report_of_are_of_different_episodes(opened: Dataset) -> None:
    frames = read_frames(opened, FramesConfig(pictures=40), 0)
    assert frames.held_out_episodes
    assert (len(frames.train), len(frames.held_out)) == (80, 8)
    assert frames.train.cameras == ("front", "wrist")
    assert frames.train.size == (32, 32)
    episode = np.repeat(np.arange(len(opened.episodes)), opened.episode_lengths)
    theirs = {picture.tobytes() for picture in frames.held_out.images[:4]}
    (number,) = {
        i for i in range(len(opened.episodes)) if theirs <= _known(opened, "front", np.flatnonzero(episode == i))
    }
    same = _known(opened, "front", np.flatnonzero(episode == number))
    assert not same & {picture.tobytes() for picture in frames.train.images[:40]}
    assert np.array_equal(frames.held_out.backgrounds, frames.train.backgrounds)


def test_the_seed_decides(opened: Dataset) -> None:
    one, same, other = (read_frames(opened, FramesConfig(pictures=20), seed).train.images for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_cameras_can_be_chosen(opened: Dataset) -> None:
    frames = read_frames(opened, FramesConfig(pictures=20, cameras=("wrist",)), 0)
    assert frames.train.cameras == ("wrist",)
    assert len(frames.train) == 20
    with pytest.raises(UnknownNameError, match="did you mean 'wrist'"):
        read_frames(opened, FramesConfig(cameras=("wirst",)), 0)


def _with(dataset: Dataset, **wrist: object) -> None:
    """The dataset as if its second camera were another."""
    front, other = dataset.contract.cameras
    dataset.contract = replace(dataset.contract, cameras=(front, replace(other, **wrist)))


def test_cameras_of_several_sizes_are_refused_with_these(opened: Dataset) -> None:
    _with(opened, height=16)
    with pytest.raises(ConfigError, match=r"cameras of several sizes \(front 32 x 32, wrist 16 x 32\)"):
        read_frames(opened, FramesConfig(), 0)


def test_depth_is_left_out_and_refused_where_it_is_named(opened: Dataset) -> None:
    _with(opened, kind="depth")
    assert read_frames(opened, FramesConfig(pictures=10), 0).train.cameras == ("front",)
    with pytest.raises(ConfigError, match="camera 'wrist' sees depth, and codes are made of colours; cameras: front"):
        read_frames(opened, FramesConfig(cameras=("front", "wrist")), 0)


def test_a_split_is_held_out(opened: Dataset) -> None:
    with pytest.raises(UnknownNameError, match="unknown split 'splt': known: train"):
        read_frames(opened, FramesConfig(split="splt"), 0)
    with pytest.raises(ConfigError, match="every episode is of split 'train', so nothing is left to fit to"):
        read_frames(opened, FramesConfig(split="train"), 0)
    uid = opened.episodes[4].uid
    opened.episodes.override({uid: {"split": "new"}})
    frames = read_frames(opened, FramesConfig(pictures=10, split="new"), 0)
    start, length = opened.episode_starts[4], opened.episode_lengths[4]
    own = _known(opened, "front", np.arange(start, start + length))
    assert own >= {picture.tobytes() for picture in frames.held_out.images[:1]}
    assert not own & {picture.tobytes() for picture in frames.train.images[:10]}


def test_of_a_single_episode_every_second_picture_is_held_out(dataset: Path) -> None:
    opened = Dataset.open(dataset)
    length = int(opened.episode_lengths[0])
    opened.episodes = opened.episodes.take(np.array([0]))
    opened._steps = length
    opened.episode_lengths = opened.episode_lengths[:1]
    frames = read_frames(opened, FramesConfig(pictures=10), 0)
    assert not frames.held_out_episodes
    assert len(frames.train) == 20


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match="pictures=9 must be at least 10"):
        FramesConfig(pictures=9)
