"""A simulated robot keeps what every robot promises."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vla.core.errors import ConfigError, ContractError, UnknownNameError
from vla.deploy.robots.robot import Robot, check_robot
from vla.deploy.robots.simulated import SimulatedRobot
from vla.deploy.robots.table import ROBOTS, make_robot

SMALL = {"env": "tabletop/place", "settings": {"image_size": 32}}


@pytest.fixture
def robot() -> Iterator[Robot]:
    robot = make_robot("simulated", SMALL)
    yield robot
    robot.close()


def test_it_keeps_every_promise() -> None:
    """The others of the table are tested with what stands at the other end of their bus."""
    assert "simulated" in ROBOTS
    check_robot(make_robot("simulated", SMALL))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": np.zeros(3, np.float32)}, "state"),
        ({"state": np.full(8, np.nan, np.float32)}, "finite numbers"),
        ({"images": {}}, "expected cameras"),
        ({"time_ns": 0}, "does not come after"),
    ],
)
def test_a_robot_that_breaks_a_promise_is_found(change: dict[str, Any], message: str) -> None:
    from dataclasses import replace

    class Broken(SimulatedRobot):
        def observe(self) -> Any:
            return replace(super().observe(), **change)

    broken = Broken(**SMALL)
    with pytest.raises((AssertionError, ContractError), match=message):
        check_robot(broken)
    broken.close()


def test_scenes_follow_each_other(robot: SimulatedRobot) -> None:
    said, times = set(), []
    hold = robot.observe().state
    for _ in range(260):  # two episodes in which nothing is done
        seen = robot.observe()
        said.add(seen.instruction)
        times.append(seen.time_ns)
        robot.command(hold)
    assert robot.episodes >= 2
    assert robot.successes == 0
    assert np.diff(times).min() > 0


def test_wrong_names_and_settings_are_named() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'simulated'\?"):
        make_robot("simulate", {})
    with pytest.raises(ConfigError, match="colour"):
        make_robot("simulated", {"colour": "red"})
