"""One drive after the other with the same loop: each has its own counts, and takes the arm as it stands."""

import time
from dataclasses import replace

import numpy as np
import pytest

from tests.deploy.control.arms import FAST, PERIOD_S, Arm, Right
from vla.core.errors import RobotError
from vla.core.types import Observation
from vla.deploy.control.drive import Step
from vla.deploy.control.loop import ControlLoop
from vla.deploy.control.operator import Operator, Order
from vla.deploy.robots.motion import Motion


class Half(Arm):
    """Nobody measures its second joint."""

    def __init__(self) -> None:
        super().__init__(FAST)
        self.contract = replace(self.contract, state=self.contract.state[:1])
        self.state = np.zeros(1, np.float32)

    def command(self, action: np.ndarray) -> None:
        super().command(action)
        self.state = action[:1].copy()


class Staged(Arm):
    """Its surroundings can be laid out; it is never done."""

    finished = success = False

    def begin(self, seed: int) -> None: ...


def test_each_drive_counts_what_is_its_own() -> None:
    arm = Arm(Motion(speed=5.0, acceleration=50.0, jump=np.inf))
    arm.state[:] = 2.0  # and the policy wants to be near zero
    loop = ControlLoop(Right(arm), arm)
    first = loop.run(20)
    assert first.gated["speed"] > 0
    time.sleep(6 * PERIOD_S)  # which belongs to no drive
    second = loop.run(10)
    loop.close()
    assert not second.gated
    assert second.steps == 10
    assert second.rhythm.ticks >= 10
    assert second.rhythm.missed < 5
    assert second.rhythm.drift_ms < 5 * 1e3 * PERIOD_S


def test_a_pause_in_a_scene_takes_of_its_time_though_somebody_listens() -> None:
    operator, arm, done = Operator(), Staged(), list[Step]()
    operator.listeners = 1

    def on_step(step: Step) -> None:
        done.append(step)
        if len(done) == 3:
            operator.give(Order.PAUSE)
        if len(done) == 30:
            operator.give(Order.QUIT)

    loop = ControlLoop(Right(arm), arm, operator=operator, on_step=on_step)
    found = loop.run(10)
    loop.close()
    assert (found.steps, found.ended) == (10, "time")


def test_an_arm_that_was_moved_by_others_is_taken_as_it_stands() -> None:
    operator, arm = Operator(), Arm(Motion(speed=5.0, acceleration=100.0))
    loop = ControlLoop(Right(arm), arm, operator=operator)
    loop.run(5)
    arm.state = np.array([0.7, -0.4], np.float32)
    loop.begin_anew()
    assert np.array_equal(loop.gate.sent, arm.state)
    operator.give(Order.PAUSE)
    loop.run(2)
    operator.give(Order.HOME)
    loop.run(20)
    loop.close()
    np.testing.assert_allclose(arm.commands[-1], [0.7, -0.4], atol=1e-6)  # home is where it stood then


def test_a_stop_and_what_nobody_measures_outlast_a_new_beginning() -> None:
    class Holding(Right):
        @staticmethod
        def command(look: int) -> np.ndarray:
            return np.array([0.0, 0.6], np.float32)

    arm = Half()
    loop = ControlLoop(Holding(arm), arm)
    loop.run(4)
    assert loop.gate.sent[1] == np.float32(0.6)
    loop.gate.stop()
    loop.begin_anew()
    assert loop.gate.sent[1] == np.float32(0.6)
    assert loop.gate.stopped
    loop.close()


def test_nothing_is_sent_to_an_arm_that_does_not_know_where_it_stands() -> None:
    class Lost(Arm):
        def measure(self) -> np.ndarray:
            return np.array([np.nan, 0.0], np.float32)

    arm = Lost()
    with pytest.raises(RobotError, match="measures NaN or infinity"):
        ControlLoop(Right(arm), arm)
    assert not arm.commands


def test_of_the_past_a_policy_hears_as_much_as_it_reads() -> None:
    arm = Arm()
    policy = Right(arm, execute=1)
    assert policy.contract.policy is not None
    policy.contract = replace(policy.contract, policy=replace(policy.contract.policy, history=3))
    loop = ControlLoop(policy, arm)
    loop.run(8)
    loop.run(8)
    loop.close()
    lengths = [len(seen.history) for seen in policy.seen[1:]]
    assert max(lengths) == 2
    assert lengths.count(0) >= 2  # each drive begins with none
    full = [seen for seen in policy.seen if len(seen.history) == 2]
    assert all([before.time_ns for before in seen.history] == [seen.time_ns - 2, seen.time_ns - 1] for seen in full)


def test_states_a_little_outside_are_counted() -> None:
    class Bent(Arm):
        def observe(self) -> Observation:
            return replace(super().observe(), state=np.array([10.0005, 0], np.float32))

    arm = Bent()
    policy = Right(arm)
    assert arm.contract.tolerance * 20 > 10.0005 - 10
    loop = ControlLoop(policy, arm)
    found = loop.run(3)
    loop.close()
    assert found.states_clipped == 3
    assert all(seen.state[0] == 10 for seen in policy.seen)
