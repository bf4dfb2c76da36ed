"""Every way in which an episode can fail its contract is refused with what, expected, got and the fix."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.episode_check import check_cameras, check_episode
from vla.datasets.layout import LOW_DIMENSIONAL

MakeEpisode = Callable[..., Episode]


def spoil(episode: Episode, name: str, value: Any) -> Episode:
    """Sets a field without the type checks that tests add to the constructor."""
    object.__setattr__(episode, name, value)
    return episode


def test_a_good_episode(contract: Contract, make_episode: MakeEpisode) -> None:
    check_episode(make_episode(), contract)


@pytest.mark.parametrize("name", LOW_DIMENSIONAL)
def test_shapes_and_dtypes(contract: Contract, make_episode: MakeEpisode, name: str) -> None:
    array = getattr(make_episode(), name)
    wrong = [array.astype(np.complex64), array[..., None], array[:0]]
    for value in wrong if name != "state" else wrong[:2]:  # the length of an episode is that of its states
        with pytest.raises(DatasetError, match=f"{name}: expected .*, got .*; "):
            check_episode(spoil(make_episode(), name, value), contract)


@pytest.mark.parametrize("name", ["state", "action", "action_executed", "reward", "grounding"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_finite(contract: Contract, make_episode: MakeEpisode, name: str, number: float) -> None:
    episode = make_episode()
    getattr(episode, name)[3] = number
    with pytest.raises(DatasetError, match=rf"{name}: expected finite numbers, got .* at step 3 of 7"):
        check_episode(episode, contract)


def test_no_steps(contract: Contract, make_episode: MakeEpisode) -> None:
    with pytest.raises(DatasetError, match="no steps"):
        check_episode(make_episode(0), contract)


def test_images(contract: Contract, make_episode: MakeEpisode) -> None:
    images = dict(make_episode().images)
    cases = [
        ({"front": images["front"]}, "expected cameras"),
        ({**images, "third": images["front"]}, "expected cameras"),
        ({**images, "wrist": images["wrist"][:-1]}, r"images\['wrist'\]: expected uint8 \(7, 6, 8, 3\)"),
        ({**images, "wrist": images["wrist"].transpose(0, 2, 1, 3)}, r"got uint8 \(7, 8, 6, 3\)"),
        ({**images, "wrist": images["wrist"].astype(np.float32)}, "got float32"),
    ]
    for value, message in cases:
        with pytest.raises(DatasetError, match=message):
            check_episode(spoil(make_episode(), "images", value), contract)


def test_text(contract: Contract, make_episode: MakeEpisode) -> None:
    check_episode(make_episode(instruction="拿起红色的积木 🧱"), contract)
    with pytest.raises(DatasetError, match="empty string"):
        check_episode(make_episode(instruction="  "), contract)
    with pytest.raises(DatasetError, match="UTF-8"):
        check_episode(make_episode(instruction="\ud800"), contract)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "__reserved", "zarr.json"])
def test_camera_names(contract: Contract, name: str) -> None:
    check_cameras(contract)
    with pytest.raises(DatasetError, match="rename it"):
        check_cameras(replace(contract, cameras=(Camera(name=name, height=1, width=1),)))
