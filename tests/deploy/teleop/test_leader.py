"""A leader arm is only measured, and its joints are this robot's by name."""

from dataclasses import replace

import numpy as np
import pytest

from tests.deploy.control.arms import FAST, Arm
from vla.core.contract import Dimension
from vla.core.errors import ConfigError, RobotError
from vla.deploy.control.drive import Step
from vla.deploy.control.loop import ControlLoop
from vla.deploy.robots.motion import Motion
from vla.deploy.teleop.table import make_teleoperator

HAND = "tests.deploy.teleop.test_leader:Hand"


class Hand(Arm):
    """What a person moves: tilt first, the roll beside it, and whoever looks at it or commands it is wrong."""

    last: "Hand"

    def __init__(self, unit: str = "rad", roll: str = "roll") -> None:
        super().__init__(FAST)
        found = [Dimension(name=n, unit=unit, low=-10.0, high=10.0) for n in ("tilt", roll, "pan")]
        self.contract = replace(self.contract, robot="hand", state=tuple(found), action=tuple(found))
        self.state = np.array([0.2, 9.0, -0.1], np.float32)
        self.closed = 0
        Hand.last = self

    def observe(self) -> None:
        raise AssertionError("a leader is not looked at")

    def command(self, action: np.ndarray) -> None:
        raise AssertionError("a leader is not commanded")

    def close(self) -> None:
        self.closed += 1


def test_the_follower_goes_where_the_leader_is() -> None:
    arm = Arm()
    leader = make_teleoperator("leader", arm, {"arm": HAND})

    asked: list[np.ndarray] = []

    def move(step: Step) -> None:
        Hand.last.state = Hand.last.state + np.array([0.01, 1.0, -0.02], np.float32)
        asked.extend([] if step.asked is None or step.mode != "policy" else [step.asked])

    loop = ControlLoop(leader, arm, on_step=move, instruction="move")
    assert loop.run(10).inferences >= 5  # a busy machine holds in between
    loop.close()
    places = [(-0.1 - k * 0.02, 0.2 + k * 0.01) for k in range(10)]  # of the leader, in the order of the arm
    assert all(np.isclose(places, one, atol=1e-6).all(axis=1).any() for one in asked)
    assert len({tuple(one) for one in asked}) >= 5
    leader.close()
    assert Hand.last.closed == 1


def test_a_leader_that_stands_elsewhere_is_approached_slowly() -> None:
    arm = Arm(Motion(speed=5.0, acceleration=100.0, jump=0.1))
    leader = make_teleoperator("leader", arm, {"arm": HAND})
    modes: list[str] = []
    loop = ControlLoop(leader, arm, on_step=lambda step: modes.append(step.mode), instruction="move")
    loop.run(15)
    loop.close()
    assert "travel" in modes
    assert modes[-1] == "policy"
    np.testing.assert_allclose(arm.commands[-1], [-0.1, 0.2], atol=1e-6)


def test_names_scales_and_offsets() -> None:
    arm = Arm()
    settings = {"arm": HAND, "settings": {"unit": "deg", "roll": "head"}, "joints": {"pan": "head"}}
    with pytest.raises(ConfigError, match=r"leader: pan is in rad, and the leader's head in deg; say scale\.pan"):
        make_teleoperator("leader", arm, settings)
    assert Hand.last.closed == 1
    settings |= {"scale": {"pan": 0.1, "tilt": -2}, "offset": {"tilt": 1.5}}
    leader = make_teleoperator("leader", arm, settings)
    (chunk,) = leader.act([arm.observe()])
    assert chunk is not None
    np.testing.assert_allclose(chunk.actions, [[0.9, 1.5 - 0.4]], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"joints": {"pan": "elbow"}}, "pan: the leader has no elbow, but tilt, roll, pan"),
        ({"joints": {"elbow": "pan"}}, r"joints\.elbow: this robot has pan, tilt"),
        ({"scale": {"pan": float("nan")}}, "must be finite"),
    ],
)
def test_wrong_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_teleoperator("leader", Arm(), {"arm": HAND, **settings})
    assert Hand.last.closed == 1


def test_a_leader_that_measures_nothing_ends_the_drive() -> None:
    arm = Arm()
    leader = make_teleoperator("leader", arm, {"arm": HAND})

    def unplug(step: object) -> None:
        Hand.last.state = np.full(3, np.nan, np.float32)

    loop = ControlLoop(leader, arm, on_step=unplug, instruction="move")
    with pytest.raises(RobotError, match="the leader: expected 3 finite numbers"):
        loop.run(50)
    loop.close()
    assert np.array_equal(arm.commands[-1], arm.commands[-2])
