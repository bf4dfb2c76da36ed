"""Every way in which an episode can fail its contract is refused with what, expected, got and the fix."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.store.episode_check import check_episode
from vla.datasets.store.layout import LOW_DIMENSIONAL, check_names

MakeEpisode = Callable[..., Episode]


def spoil(episode: Episode, name: str, value: Any) -> Episode:
    """Sets a field without the type checks that tests add to the constructor."""
    object.__setattr__(episode, name, value)
    return episode


def test_good_episodes(
    contract: Contract, make_episode: MakeEpisode, rich_contract: Contract, make_rich_episode: MakeEpisode
) -> None:
    check_episode(make_episode(), contract)
    check_episode(make_episode(1), contract)
    check_episode(make_rich_episode(), rich_contract)
    check_episode(make_rich_episode(model=""), rich_contract)
    check_episode(make_rich_episode(model="", sim_state=None), rich_contract)


@pytest.mark.parametrize("name", LOW_DIMENSIONAL)
def test_shapes_and_dtypes(
    contract: Contract, make_episode: MakeEpisode, rich_contract: Contract, make_rich_episode: MakeEpisode, name: str
) -> None:
    for make, robot in ((make_episode, contract), (make_rich_episode, rich_contract)):
        array = getattr(make(), name)
        wrong = [array.astype(np.complex64), array[..., None], array[:0]]
        for value in wrong if name != "state" else wrong[:2]:  # the length of an episode is that of its states
            with pytest.raises(DatasetError, match=f"{name}: expected .*, got .*; "):
                check_episode(spoil(make(), name, value), robot)


@pytest.mark.parametrize("name", ["state", "action", "action_executed", "reward"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_finite(contract: Contract, make_episode: MakeEpisode, name: str, number: float) -> None:
    episode = make_episode()
    getattr(episode, name)[3] = number
    with pytest.raises(DatasetError, match=rf"{name}: expected finite numbers, got .* at step 3 of 7"):
        check_episode(episode, contract)


def test_signals(contract: Contract, make_episode: MakeEpisode) -> None:
    signals = make_episode().signals
    place, force = signals["place"], signals["force"]
    cases = [
        ({"place": place}, r"signals: expected \['place', 'force'\], got \['place'\]; give those of the contract"),
        ({**signals, "touch": force}, "signals: expected"),
        ({"place": force, "force": place}, r"signals/place: expected float32 \(7, 3\), got float32 \(7, 2\)"),
        ({"place": place, "force": force[:-1]}, r"signals/force: expected float32 \(7, 2\)"),
        ({"place": place.astype(np.float64), "force": force}, "got float64"),
        ({"place": place * np.float32(np.inf), "force": force}, "signals/place: expected finite numbers"),
    ]
    for value, message in cases:
        with pytest.raises(DatasetError, match=message):
            check_episode(spoil(make_episode(), "signals", value), contract)


def test_a_signal_that_is_not_known_is_nan(contract: Contract, make_episode: MakeEpisode) -> None:
    signals = make_episode().signals
    check_episode(
        spoil(make_episode(), "signals", {**signals, "place": signals["place"] * np.float32(np.nan)}), contract
    )


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


def test_depth_and_clocks(rich_contract: Contract, make_rich_episode: MakeEpisode) -> None:
    good = make_rich_episode()
    images, clocks = dict(good.images), dict(good.image_time_ns)
    fast = clocks["fast"]
    backwards, late = fast.copy(), fast - fast[0] + 3
    backwards[4] = backwards[3]
    cases: list[tuple[str, Any, str]] = [
        ("images", {**images, "depth": images["depth"][..., 0]}, r"images\['depth'\]: expected uint16 \(7, 5, 7, 1\)"),
        ("images", {**images, "depth": images["depth"].astype(np.uint8)}, "expected uint16 .* got uint8"),
        ("images", {**images, "fast": images["fast"][:-1]}, r"images\['fast'\]: expected uint8"),
        ("images", {**images, "fast": images["fast"][:7]}, r"images\['fast'\]: expected uint8"),
        ("image_time_ns", {}, r"image_time_ns: expected cameras \['fast', 'slow-depth'\], got \[\]"),
        ("image_time_ns", {**clocks, "front": good.time_ns}, "give times of exactly those cameras"),
        ("image_time_ns", {**clocks, "fast": fast.astype(np.float64)}, "expected rising int64 times, got float64"),
        ("image_time_ns", {**clocks, "fast": fast[:, None]}, "expected rising int64 times"),
        ("image_time_ns", {**clocks, "fast": fast[:0]}, "expected rising int64 times"),
        ("image_time_ns", {**clocks, "fast": backwards}, "expected rising int64 times"),
        ("image_time_ns", {**clocks, "fast": late}, r"the first frame comes 3 ns after step 0; drop the steps"),
    ]
    for name, value, message in cases:
        with pytest.raises(DatasetError, match=message):
            check_episode(spoil(make_rich_episode(), name, value), rich_contract)


def test_each_step_has_a_frame(rich_contract: Contract, make_rich_episode: MakeEpisode) -> None:
    time_ns = make_rich_episode().time_ns.copy()
    time_ns[4] = -1000
    with pytest.raises(DatasetError, match="the first frame comes"):
        check_episode(make_rich_episode(time_ns=time_ns), rich_contract)


def test_simulator(rich_contract: Contract, make_rich_episode: MakeEpisode) -> None:
    states = make_rich_episode().sim_state
    assert states is not None
    spoilt = states.copy()
    spoilt[3, 1] = np.inf
    cases: list[tuple[Any, str]] = [
        (states[:-1], r"sim_state: expected float64 \(7, m\), got \(6, 6\)"),
        (states[:, :0], r"sim_state: expected float64 \(7, m\), got \(7, 0\)"),
        (states[:, 0], r"sim_state: expected float64 \(7, m\), got \(7,\)"),
        (spoilt, "sim_state: expected finite numbers"),
        (None, "model: a simulator model needs sim_state"),
    ]
    for value, message in cases:
        with pytest.raises(DatasetError, match=message):
            check_episode(spoil(make_rich_episode(), "sim_state", value), rich_contract)


@pytest.mark.parametrize("name", ["instruction", "instruction_alternatives", "task", "split", "model"])
def test_text(rich_contract: Contract, make_rich_episode: MakeEpisode, name: str) -> None:
    def given(text: str) -> Episode:
        return make_rich_episode(**{name: (text,) if name == "instruction_alternatives" else text})

    check_episode(given("拿起红色的积木 🧱"), rich_contract)
    with pytest.raises(DatasetError, match="expected text that UTF-8 can hold"):
        check_episode(given("\ud800"), rich_contract)


def test_an_empty_instruction(contract: Contract, make_episode: MakeEpisode) -> None:
    with pytest.raises(DatasetError, match="empty string"):
        check_episode(make_episode(instruction="  "), contract)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_seeds_have_64_bits(contract: Contract, make_episode: MakeEpisode, seed: int) -> None:
    for good in (2**63 - 1, -(2**63)):
        check_episode(replace(make_episode(), seed=good), contract)
    with pytest.raises(DatasetError, match="seed: expected 64 bits"):
        check_episode(replace(make_episode(), seed=seed), contract)


@pytest.mark.parametrize("value", [float("nan"), np.float32(1), {1, 2}, b"x", "\ud800", np.zeros(3)])
def test_provenance_is_json(contract: Contract, make_episode: MakeEpisode, value: Any) -> None:
    check_episode(make_episode(provenance={"file": "größe", "episode": [1, None, {"a": 0.5}]}), contract)
    with pytest.raises(DatasetError, match=r"provenance: expected JSON, got .*; use plain values"):
        check_episode(make_episode(provenance={"x": [value]}), contract)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "__reserved", "zarr.json", "a b", "ä", "a\n"])
def test_names(contract: Contract, rich_contract: Contract, name: str) -> None:
    check_names(contract)
    check_names(rich_contract)
    with pytest.raises(DatasetError, match=r"camera .*rename it"):
        check_names(replace(contract, cameras=(Camera(name=name, height=1, width=1),)))
    with pytest.raises(DatasetError, match=r"signal .*rename it"):
        check_names(replace(contract, signals={name: ()}))


@pytest.mark.parametrize("name", ["state", "action", "action_executed"])
def test_what_is_far_outside_of_its_limits_is_refused(contract: Contract, make_episode: MakeEpisode, name: str) -> None:
    episode = make_episode()
    dimension = (contract.state if name == "state" else contract.action)[0]
    span = dimension.high - dimension.low
    getattr(episode, name)[3, 0] = dimension.high + 0.4 * span  # measured a little too far
    check_episode(episode, contract)
    getattr(episode, name)[3, 0] = 57 * max(span, 1.0)
    with pytest.raises(DatasetError, match=rf"{name} {dimension.name}: expected .* at step 3 of 7; correct its unit"):
        check_episode(episode, contract)
