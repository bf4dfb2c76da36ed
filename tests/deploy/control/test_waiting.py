"""What a loop does while it has no answer, or none that is for it: for how long a robot is held, and by what."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.deploy.control.arms import FAST, HZ, PERIOD_S, Arm, Mortal, Right
from tests.deploy.policies import slowly
from vla.core.errors import RobotError
from vla.core.types import ActionChunk, Observation
from vla.deploy.control.drive import Drive, Pace, Step
from vla.deploy.control.loop import ControlLoop
from vla.deploy.control.operator import Operator, Order
from vla.deploy.engines.policy_process import PolicyProcess
from vla.deploy.robots.motion import Motion


class Obeying(Right):
    """Goes to one side where it is told to wave, and to the other where it is told to nod."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        (chunk,) = super().act(observations)
        (seen,) = observations
        assert seen is not None
        assert chunk is not None
        side = 0.5 if seen.instruction == "wave" else -0.5
        return [ActionChunk(actions=np.full_like(chunk.actions, side), time_ns=chunk.time_ns)]


def drive(policy: Any, arm: Arm, steps: int, **about: Any) -> tuple[Drive, list[Step]]:
    done: list[Step] = []
    also = about.pop("on_step", lambda steps: None)

    def on_step(step: Step) -> None:
        done.append(step)
        also(done)

    with closing(ControlLoop(policy, arm, on_step=on_step, **about)) as loop:
        return loop.run(steps), done


def test_an_answer_to_what_it_was_told_before_is_not_run() -> None:
    operator, arm = Operator(), Arm()
    said = list[int]()

    def on_step(done: list[Step]) -> None:
        if done[-1].mode == "hold" and len(done) > 8 and not said:  # a question is on its way
            operator.say("nod")
            said.append(len(done))

    policy = Obeying(arm, 4, execute=4, periods=[2.5])
    _, done = drive(policy, arm, 50, operator=operator, on_step=on_step)
    assert said
    sides = {(step.seen.instruction, float(step.asked[0])) for step in done if step.mode == "policy"}  # type: ignore[index]
    assert sides == {("wave", 0.5), ("nod", -0.5)}


@pytest.mark.parametrize("told", ["die", "hang"])
def test_a_policy_that_is_begun_anew_may_take_its_time(told: str) -> None:
    """Longer than the robot is held otherwise."""
    operator, arm = Operator(), Arm(Motion(speed=2.0, acceleration=20.0, hold_s=0.6))
    engine = PolicyProcess(partial(slowly, Mortal, 0.8), slots=1, start_s=60.0)

    def on_step(done: list[Step]) -> None:
        if len(done) == 10:
            operator.say(told)
        if len(done) > 15 and done[-1].mode == "hold" and done[-1].seen.instruction == told:
            operator.say("wave")
        if len(done) > 30 and done[-1].mode == "policy":
            operator.give(Order.QUIT)

    with closing(engine):
        found, done = drive(engine, arm, 600, operator=operator, on_step=on_step)
    assert found.ended == "quit"
    held = [step.mode for step in done].count("hold")
    assert held * PERIOD_S > 0.6


def test_a_robot_that_waits_to_be_told_is_not_let_go_of() -> None:
    """However long, and though the policy needs a moment when it is."""
    arm = Arm(Motion(speed=2.0, acceleration=20.0, hold_s=0.4))
    arm.instruction = ""

    def on_step(done: list[Step]) -> None:
        if len(done) == 15:
            arm.instruction = "wave"

    policy = Right(arm, 16, execute=8, periods=[3.0])
    _, done = drive(policy, arm, 40, on_step=on_step)
    assert {step.mode for step in done[:15]} == {"pause"}
    assert done[-1].mode in ("policy", "hold")
    assert "policy" in {step.mode for step in done}


def test_commands_that_rest_on_too_old_a_look_come_to_rest() -> None:
    """Of a chunk that is run for longer than the robot says."""
    arm = Arm(Motion(speed=5.0, acceleration=100.0, stale_s=0.3, jump=np.inf))
    found, done = drive(Right(arm, 16, execute=16), arm, 16)
    stale = ["stale" in step.verdict.reasons for step in done if step.mode == "policy"]
    assert stale[0] is False
    assert stale[-1] is True
    assert found.gated["stale"] == sum(stale) >= 5


def test_what_is_held_grows_old_too() -> None:
    """And is not held against what has changed since."""
    arm = Arm(Motion(speed=5.0, acceleration=100.0, stale_s=0.3, hold_s=30.0, jump=np.inf))
    policy = Right(arm, 4, execute=4, periods=[0.0, 0.0, 20.0])
    found, done = drive(policy, arm, 20)
    held = ["stale" in step.verdict.reasons for step in done if step.mode == "hold"]
    assert held[-1]
    assert not held[0]
    assert found.gated["stale"] >= 5


def test_commands_that_leave_late_are_counted() -> None:
    class Slow(Arm):
        def observe(self) -> Observation:
            seen = super().observe()
            time.sleep(0.7 * PERIOD_S if self.looks % 3 == 0 else 0.0)
            return seen

    arm = Slow()
    found, _ = drive(Right(arm), arm, 12)
    assert found.late >= 3
    assert found.rhythm.ticks * 1 / HZ >= 0.5


def test_ticks_that_a_period_lost_at_its_end_are_not_done_by_the_next() -> None:
    """A period is as long as it is, however slow the line to the servos."""

    class Slow(Arm):
        def measure(self) -> np.ndarray:
            time.sleep(1.5 * PERIOD_S / 4)  # of one tick and a half
            return super().measure()

    arm = Slow(replace(FAST, servo_hz=4 * HZ))
    with closing(ControlLoop(Right(arm), arm)) as loop:
        began_s = time.monotonic()
        loop.run(24)
        assert time.monotonic() - began_s < 27 * PERIOD_S  # and not five ticks of four


def test_where_a_scene_is_over_nothing_moves_any_more() -> None:
    class Finishing(Arm):
        success = False

        def begin(self, seed: int) -> None: ...

        @property
        def finished(self) -> bool:
            return len(self.commands) >= 8

    arm = Finishing(Motion(speed=5.0, acceleration=20.0, jump=np.inf))
    found, _ = drive(Right(arm), arm, 30)
    assert found.ended == "failure"
    assert len(arm.commands) == 8
    assert not np.array_equal(arm.commands[-1], arm.commands[-2])  # it would have come to rest


def test_nobody_waits_for_ever_for_a_policy_that_says_nothing() -> None:
    arm = Arm(Motion(speed=5.0, acceleration=20.0, hold_s=0.4))
    policy = Right(arm, 4, execute=4, periods=[0.0, 0.0, 0.0, 40.0])
    with pytest.raises(RobotError, match=r"no command for 0\.\d s"):
        drive(policy, arm, 400, pace=Pace(ahead=True))


def test_who_goes_on_after_a_pause_begins_anew() -> None:
    """What was decided before rests on a world that may have changed."""
    operator, arm = Operator(), Arm()

    def on_step(done: list[Step]) -> None:
        if len(done) == 5:
            operator.give(Order.PAUSE)
        if len(done) == 15:
            operator.give(Order.GO)

    policy = Right(arm, 64, execute=64)
    _, done = drive(policy, arm, 25, operator=operator, on_step=on_step)
    assert {step.mode for step in done[6:15]} == {"pause"}
    after = [step for step in done[15:] if step.mode == "policy"]
    assert len(after) > 5
    for step in after:  # to the look, of which a busy machine may hold one or two
        assert step.asked is not None
        assert step.seen.time_ns - 3 <= round(float(step.asked[0]) * 100) <= step.seen.time_ns
    assert policy.resets == 3  # warming up, at first, and then


def test_an_answer_whose_steps_are_over_is_wasted_and_counted() -> None:
    class Shorter(Right):
        """Its second chunk in an episode is over before it is there."""

        def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
            (chunk,) = super().act(observations)
            assert chunk is not None
            short = len(self.seen) == 3
            return [ActionChunk(actions=chunk.actions[:2] if short else chunk.actions, time_ns=chunk.time_ns)]

    arm = Arm()
    policy = Shorter(arm, 16, execute=4, periods=[0.0, 0.0, 4.5, 0.0])
    found, _ = drive(policy, arm, 30, pace=Pace(ahead=True))
    assert found.wasted == 1
    assert found.starved <= 2


def test_what_a_policy_was_told_runs_though_it_answers_sooner() -> None:
    """And though the new chunk says otherwise: it was made to go on from there."""

    class Wavering(Right):
        def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
            (chunk,) = super().act(observations)
            assert chunk is not None
            return [ActionChunk(actions=chunk.actions + np.float32(len(self.seen) % 5), time_ns=chunk.time_ns)]

    arm = Arm(replace(FAST, jump=np.inf))
    policy = Wavering(arm, 16, execute=4, committed=8, periods=[0.0, 0.0, 4.5, 0.0, 0.0, 0.0])
    _, done = drive(policy, arm, 50, pace=Pace(ahead=True))
    ran = {step.seen.time_ns: step.asked for step in done}
    told = [seen for seen in policy.seen if seen.committed is not None]
    assert max(len(seen.committed) for seen in told if seen.committed is not None) >= 5
    for seen in told[:-1]:
        assert seen.committed is not None
        for k, command in enumerate(seen.committed):
            assert np.array_equal(ran[seen.time_ns + k], command)
