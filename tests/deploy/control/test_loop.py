"""The loop keeps its rate, its limits, and what a policy was promised; it waits for nobody, and splices exactly."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.deploy.control.arms import FAST, HZ, PERIOD_S, Arm, Right
from vla.core.chunks import Execution
from vla.core.errors import ConfigError, ContractError, RobotError, ServeError
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.control.drive import Drive, Pace, Step
from vla.deploy.control.loop import ControlLoop
from vla.deploy.control.operator import Operator, Order
from vla.deploy.robots.motion import Motion
from vla.deploy.robots.robot import Robot
from vla.deploy.robots.simulated import SimulatedRobot
from vla.policies.random import RandomPolicy

SMALL = {"image_size": 32}
AHEAD = Pace(ahead=True)


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedRobot]:
    robot = SimulatedRobot("tabletop/place", settings=SMALL)
    yield robot
    robot.close()


def drive(policy: Policy, robot: Robot, steps: int, **settings: Any) -> tuple[Drive, list[Step]]:
    done: list[Step] = []
    also = settings.pop("on_step", lambda step: None)

    def on_step(step: Step) -> None:
        done.append(step)
        also(step)

    loop = ControlLoop(policy, robot, on_step=on_step, **settings)
    try:
        return loop.run(steps), done
    finally:
        loop.close()


def test_it_keeps_the_rate_of_the_robot(simulated: SimulatedRobot) -> None:
    began = time.monotonic()
    pace = Pace(execution=Execution(execute=3))
    found, _ = drive(RandomPolicy(simulated.contract, 4, 0), simulated, 12, pace=pace)
    assert time.monotonic() - began >= 12 / simulated.contract.control_hz
    assert (found.steps, found.inferences, found.clipped, found.ended) == (12, 4, 0, "time")
    assert found.rhythm.ticks >= 12


def test_commands_stay_inside_the_limits_and_are_counted() -> None:
    class High(Right):
        @staticmethod
        def command(look: int) -> np.ndarray:
            return np.array([11, 10], np.float32)

    arm = Arm()
    found, steps = drive(High(arm), arm, 8)
    assert found.clipped == sum(step.mode == "policy" for step in steps) >= 4  # a busy machine holds in between
    assert all((np.abs(command) <= 10).all() for command in arm.commands)


def test_the_instruction_can_be_said() -> None:
    arm = Arm()
    policy = Right(arm)
    drive(policy, arm, 2, instruction="stop waving")
    assert {seen.instruction for seen in policy.seen} == {"stop waving"}


def test_numbers_that_are_not_finite_never_reach_the_robot() -> None:
    class Broken(Right):
        @staticmethod
        def command(look: int) -> np.ndarray:
            return np.full(2, np.nan, np.float32)

    arm = Arm()
    with pytest.raises(ContractError, match="NaN or infinity"):
        drive(Broken(arm), arm, 3)
    assert not arm.commands


def test_the_gate_stands_before_the_robot() -> None:
    """A policy that jumps from end to end moves it as its description allows, and the result says so."""

    class Jumping(Right):
        @staticmethod
        def command(look: int) -> np.ndarray:
            return np.full(2, 10 if look % 7 < 3 else -10, np.float32)

    arm = Arm(Motion(speed=0.5, acceleration=2.0, jerk=40.0, jump=np.inf))
    found, _ = drive(Jumping(arm), arm, 60)
    sent = np.stack([np.zeros(2)] * 3 + arm.commands).astype(np.float64)
    speed = np.diff(sent, axis=0) * HZ
    acceleration = np.diff(speed, axis=0) * HZ
    assert (np.abs(speed) <= 0.5).all()
    assert (np.abs(acceleration) <= 2.0).all()
    assert (np.abs(np.diff(acceleration, axis=0)) * HZ <= 40.0).all()
    assert found.gated["speed"] > 40
    assert np.array_equal(sent[-1], sent[-2])  # at rest when the drive is over


def test_another_robots_policy_is_refused() -> None:
    arm = Arm()
    policy = Right(arm)
    policy.contract = replace(policy.contract, robot="else")
    with pytest.raises(ContractError, match="robot: 'else'"):
        drive(policy, arm, 1)


def test_no_steps_are_refused() -> None:
    arm = Arm()
    with pytest.raises(ConfigError, match="steps=0"):
        drive(Right(arm), arm, 0)


def test_who_is_waited_for_holds_the_robot_and_nothing_else() -> None:
    """An answer that comes late begins with its first row; what was sent meanwhile is the last command."""
    arm = Arm()
    policy = Right(arm, 4, execute=4, periods=[2.5])
    found, steps = drive(policy, arm, 40)
    assert found.starved >= 2 * found.inferences
    for before, step in itertools.pairwise(steps):
        if step.mode == "hold":
            assert np.array_equal(step.verdict.command, before.verdict.command)
    rows = [step.asked for step in steps if step.mode == "policy"]
    firsts = [seen.time_ns for seen in policy.seen[1:]]
    expected = [Right.command(first + row) for first in firsts for row in range(4)]
    assert len(rows) >= 12
    assert all(np.array_equal(a, b) for a, b in zip(rows, expected, strict=False) if a is not None)


def test_ahead_of_the_policy_not_a_step_is_lost_or_done_twice() -> None:
    """Whatever the delay, the command of a step is the one that is right for it, from the second answer on."""
    cases = [(c, p) for c in (0, 6) for p in ([0.0], [1.5], [4.5], [0.5, 6.0, 2.5])]
    with ThreadPoolExecutor(len(cases)) as beside:  # they sleep most of the time
        for found in [beside.submit(_spliced_exactly, *case) for case in cases]:
            found.result()


def _spliced_exactly(committed: int, periods: list[float]) -> None:
    arm = Arm()
    policy = Right(arm, 16, execute=2, committed=committed, periods=periods)
    found, steps = drive(policy, arm, 60, pace=AHEAD)
    first = next(i for i, step in enumerate(steps) if step.mode == "policy")
    assert found.starved == first  # for the first answer everybody waits, and never again
    shift = steps[first].seen.time_ns - policy.seen[1].time_ns
    for step in steps[first:]:
        assert step.asked is not None
        right = [Right.command(step.seen.time_ns), Right.command(step.seen.time_ns - shift)]
        assert any(np.array_equal(step.asked, one) for one in right)
    assert np.array_equal(steps[-1].asked, Right.command(steps[-1].seen.time_ns))
    assert found.inferences > 60 / 16


def test_what_the_policy_is_told_will_run_is_what_runs() -> None:
    arm = Arm()
    policy = Right(arm, 16, execute=4, committed=6, periods=[2.5])
    _, steps = drive(policy, arm, 50, pace=AHEAD)
    ran = {step.seen.time_ns: step.asked for step in steps}
    told = [seen for seen in policy.seen if seen.committed is not None]
    assert len(told) > 4
    for seen in told[:-1]:
        assert seen.committed is not None
        assert 3 <= len(seen.committed) <= 6  # as many as the delay that was measured, and no more than it knows
        for k, command in enumerate(seen.committed):
            assert np.array_equal(ran[seen.time_ns + k], command)
    naive = Right(arm, 16, execute=4, committed=6, periods=[2.5])
    drive(naive, arm, 20, pace=replace(AHEAD, committed=False))
    assert all(seen.committed is None for seen in naive.seen)


def test_the_first_inference_is_no_delay() -> None:
    arm = Arm()
    policy = Right(arm, 16, execute=4, committed=12, periods=[15.0] + [0.0] * 99)
    drive(policy, arm, 30, pace=AHEAD)
    assert max(len(seen.committed) for seen in policy.seen if seen.committed is not None) < 8


def test_a_policy_that_fails_is_asked_again_as_in_a_new_episode() -> None:
    arm = Arm()
    policy = Right(arm, 4, execute=4)

    def fail_once(step: Step) -> None:
        if len(arm.commands) == 10:
            policy.error = ServeError("the connection is gone")

    found, steps = drive(policy, arm, 50, on_step=fail_once)
    assert (found.failures, policy.resets) == (1, 3)  # warming up, at first, after the failure
    assert found.starved >= 3  # it is not asked again at once
    assert steps[-1].mode == "policy"


def test_an_error_that_is_for_a_person_ends_the_drive_at_rest() -> None:
    arm = Arm(Motion(speed=5.0, acceleration=20.0))
    policy = Right(arm, 4, execute=4)

    def fail(step: Step) -> None:
        policy.error = ContractError("it does not fit") if len(arm.commands) == 10 else policy.error

    with pytest.raises(ContractError, match="it does not fit"):
        drive(policy, arm, 50, on_step=fail)
    assert np.array_equal(arm.commands[-1], arm.commands[-2])


def test_a_policy_that_hangs_leaves_the_robot_at_rest_and_then_ends_the_drive() -> None:
    arm = Arm(Motion(speed=5.0, acceleration=20.0, stale_s=0.3, hold_s=0.8))
    policy = Right(arm, 4, execute=4)

    def hang(step: Step) -> None:
        if len(arm.commands) == 10:
            policy.hang.set()

    began = time.monotonic()
    with pytest.raises(RobotError, match=r"no command for \d\.\d s: the robot was held"):
        drive(policy, arm, 500, on_step=hang)
    assert time.monotonic() - began < 5
    held = np.stack(arm.commands[-5:])
    assert (held == held[0]).all()
    assert np.diff(arm.sent_s).max() < 0.5  # commands went on all the time


def test_between_two_targets_the_servos_go_straight() -> None:
    arm = Arm(replace(FAST, servo_hz=5 * HZ))
    _, steps = drive(Right(arm), arm, 20)
    assert len(arm.commands) > 40  # a busy machine misses ticks
    targets = np.stack([step.asked for step in steps if step.asked is not None])
    sent = np.stack(arm.commands)
    if len(sent) == 100 and len(targets) == 20:  # no tick was missed
        on_line = np.interp(np.arange(1, 101) / 5, np.arange(21), np.concatenate([[0.0], targets[:, 0]]))
        np.testing.assert_allclose(sent[:, 0], on_line, atol=1e-5)
    np.testing.assert_allclose(sent[:, 1], -sent[:, 0] / 2, atol=1e-5)


def test_servo_rates_that_do_not_divide_are_refused() -> None:
    arm = Arm(replace(FAST, servo_hz=70.0))
    with pytest.raises(ConfigError, match="whole multiple of the 20 Hz"):
        drive(Right(arm), arm, 1)


def _at(place: int, do: Callable[[], None]) -> Callable[[Step], None]:
    count = iter(range(10_000))
    return lambda step: do() if next(count) == place else None


def test_a_stop_is_final_until_somebody_says_go() -> None:
    operator, arm = Operator(), Arm(Motion(speed=5.0, acceleration=20.0))
    done: list[Step] = []

    def on_step(step: Step) -> None:
        done.append(step)
        if len(done) == 10:
            operator.give(Order.STOP)
        if len(done) == 30:
            operator.say("never mind")
            operator.give(Order.PAUSE)
        if len(done) == 40:
            operator.give(Order.GO)

    drive(Right(arm), arm, 60, operator=operator, on_step=on_step)
    modes = [step.mode for step in done]
    assert modes[:10] == ["policy"] * 10
    assert set(modes[11:40]) == {"stop"}
    held = np.stack(arm.commands[25:39])
    assert (held == held[0]).all()
    assert modes[-1] == "policy"
    assert done[-1].seen.instruction == "never mind"


def test_a_stop_does_not_wait_for_the_period_to_end() -> None:
    """Servo ticks go on through it: the next of them brakes."""
    operator, arm = Operator(), Arm(Motion(speed=5.0, acceleration=200.0, servo_hz=100.0), hz=2.0)
    policy = Right(arm)
    loop = ControlLoop(policy, arm, operator=operator)
    threading.Timer(0.75, operator.give, (Order.STOP,)).start()
    began = time.monotonic()
    loop.run(3)
    loop.close()
    moves = np.flatnonzero(np.diff(np.stack(arm.commands), axis=0).any(axis=1))
    assert 0.7 < arm.sent_s[moves[-1] + 1] - began < 0.95  # and not at the end of its period, after one second


def test_pause_home_instructions_and_quit() -> None:
    operator, arm = Operator(), Arm(Motion(speed=5.0, acceleration=50.0))
    arm.state = np.array([0.3, 0.2], np.float32)
    policy, done = Right(arm), list[Step]()
    says: dict[int, Callable[[], None]] = {
        5: lambda: operator.give(Order.PAUSE),
        15: lambda: operator.give(Order.HOME),
        60: lambda: operator.say("wave twice"),
        61: lambda: operator.give(Order.GO),
        70: lambda: operator.give(Order.QUIT),
    }

    def on_step(step: Step) -> None:
        done.append(step)
        says.get(len(done), lambda: None)()

    found, _ = drive(policy, arm, 300, operator=operator, on_step=on_step)
    assert found.ended == "quit"
    assert found.steps <= 72
    assert {step.mode for step in done[6:15]} == {"pause"}
    assert done[16].mode == "travel"
    np.testing.assert_allclose(done[58].verdict.command, [0.3, 0.2], atol=1e-5)
    assert done[58].mode == "pause"
    assert policy.seen[-1].instruction == "wave twice"
    assert policy.resets == 3


def test_a_far_first_target_is_approached_slowly_or_refused() -> None:
    class Far(Right):
        @staticmethod
        def command(look: int) -> np.ndarray:
            return np.array([1.0, 0.1], np.float32)

    motion = Motion(speed=2.0, acceleration=200.0)  # a quarter of a second at that speed
    arm = Arm(motion)
    _, steps = drive(Far(arm), arm, 100)
    assert "travel" in {step.mode for step in steps}
    assert np.abs(np.diff(np.stack(arm.commands), axis=0)).max() * HZ <= 2.0 / 4 * 1.01
    np.testing.assert_allclose(arm.commands[-1], [1.0, 0.1], atol=1e-5)
    assert steps[-1].mode == "policy"
    with pytest.raises(RobotError, match="first target of pan is 1 from where it stands"):
        drive(Far(arm := Arm(motion)), arm, 60, pace=Pace(refuse=True))
    assert not arm.commands


def test_chunks_that_disagree_are_noted_and_may_pause() -> None:
    class Wavering(Right):
        def act(self, observations: Any) -> list[ActionChunk | None]:
            (chunk,) = super().act(observations)
            assert chunk is not None
            return [replace(chunk, actions=chunk.actions + np.float32(len(self.seen) % 2))]

    arm = Arm()
    found, steps = drive(Wavering(arm), arm, 30)
    assert found.unsure_max == pytest.approx(1 / 20, rel=0.1)
    assert {step.mode for step in steps} == {"policy"}
    found, steps = drive(Wavering(arm := Arm()), arm, 30, pace=Pace(unsure=0.03))
    assert steps[-1].mode == "pause"
    found, _ = drive(Right(arm := Arm()), arm, 30)
    assert found.unsure_max == pytest.approx(0, abs=1e-6)


def test_reaction_is_from_what_was_seen_to_what_rests_on_the_next_look() -> None:
    arm = Arm()
    found, _ = drive(Right(arm, 16, execute=10), arm, 45)
    assert found.reaction_p50_ms == pytest.approx(10 * 1e3 / HZ, abs=4e3 * PERIOD_S)
    arm = Arm()
    found, _ = drive(Right(arm, 16, execute=2, periods=[2.5]), arm, 60, pace=AHEAD)
    assert found.reaction_p50_ms is not None
    assert 4 < found.reaction_p50_ms / 1e3 / PERIOD_S < 8  # asked every three steps, and three until the answer runs
    assert len(found.delays_ms) == found.inferences
    assert 2.4 < found.delays_ms[len(found.delays_ms) // 2] / 1e3 / PERIOD_S < 4


def test_a_pause_lasts_beyond_the_time_of_a_drive_where_somebody_listens() -> None:
    operator, arm = Operator(), Arm()
    operator.listeners = 1
    done: list[Step] = []

    def on_step(step: Step) -> None:
        done.append(step)
        if len(done) == 3:
            operator.give(Order.PAUSE)
        if len(done) == 30:
            operator.give(Order.GO)

    found, _ = drive(Right(arm), arm, 10, operator=operator, on_step=on_step)
    assert {step.mode for step in done[4:30]} == {"pause"}
    assert found.steps > 30
    assert found.ended == "time"


def test_a_pause_and_a_stop_survive_the_next_drive() -> None:
    for order, mode in ((Order.PAUSE, "pause"), (Order.STOP, "stop")):
        operator, arm = Operator(), Arm()
        done: list[Step] = []
        loop = ControlLoop(Right(arm), arm, operator=operator, on_step=done.append)
        operator.give(order)
        loop.run(5)
        loop.begin_anew()
        loop.run(5)
        loop.close()
        assert {step.mode for step in done} == {mode}


def test_words_do_not_take_back_a_stop() -> None:
    operator, arm = Operator(), Arm()
    done: list[Step] = []
    loop = ControlLoop(Right(arm), arm, operator=operator, on_step=done.append)
    operator.say("wave again")
    operator.give(Order.STOP)
    operator.say("please")
    loop.run(5)
    loop.close()
    assert {step.mode for step in done} == {"stop"}
    assert done[-1].seen.instruction == "please"
    assert not any(command.any() for command in arm.commands)


@pytest.mark.parametrize("order", [Order.PAUSE, Order.STOP])
def test_travel_ends_with_a_pause_or_a_stop(order: Order) -> None:
    operator, arm = Operator(), Arm(Motion(speed=2.0, acceleration=20.0))
    done: list[Step] = []

    def on_step(step: Step) -> None:
        done.append(step)
        if len(done) == 15:
            operator.give(Order.HOME)
        if len(done) == 20:
            operator.give(order)

    drive(Right(arm, execute=16), arm, 40, operator=operator, on_step=on_step)
    assert "travel" in {step.mode for step in done[15:20]}
    assert {step.mode for step in done[21:]} == {order.value}
    assert np.array_equal(arm.commands[-1], arm.commands[-8])


def test_a_robot_that_was_not_told_waits() -> None:
    operator, arm = Operator(), Arm()
    arm.instruction = ""
    done: list[Step] = []

    def on_step(step: Step) -> None:
        done.append(step)
        if len(done) == 10:
            operator.say("wave")

    policy = Right(arm)
    drive(policy, arm, 20, operator=operator, on_step=on_step)
    assert {step.mode for step in done[:10]} == {"pause"}
    assert done[-1].mode == "policy"
    assert [seen.instruction for seen in policy.seen[1:]].count("") == 0


def test_who_is_told_something_else_while_moving_comes_to_rest_and_does_not_turn_back() -> None:
    operator, arm = Operator(), Arm(Motion(speed=2.0, acceleration=4.0))

    class Far(Right):
        @staticmethod
        def command(look: int) -> np.ndarray:
            return np.array([9.0, 0.0], np.float32)

    policy = Far(arm, 64, execute=64, periods=[0.0, 0.0, 40.0])  # the answer to the second instruction never comes
    drive(policy, arm, 30, operator=operator, on_step=_at(12, lambda: operator.say("stop waving")))
    pan = np.stack(arm.commands)[:, 0]
    assert (np.diff(pan) >= -1e-6).all()
    assert pan[-1] == pan[-3]


def test_a_period_keeps_its_length_when_looking_takes_longer_than_a_servo_tick() -> None:
    class Slow(Arm):
        def observe(self) -> Observation:
            time.sleep(0.3 * PERIOD_S)
            return super().observe()

    arm = Slow(replace(FAST, servo_hz=5 * HZ))
    loop = ControlLoop(Right(arm), arm)
    began = time.monotonic()
    loop.run(20)
    took = time.monotonic() - began
    loop.close()
    assert took < 26 * PERIOD_S  # and not a tick longer each


def test_the_end_of_a_scene_does_not_undo_that_somebody_left() -> None:
    class Finishing(Arm):
        finished = success = False

        def begin(self, seed: int) -> None: ...

        def command(self, action: np.ndarray) -> None:
            super().command(action)
            self.finished = len(self.commands) >= 5

    operator, arm = Operator(), Finishing()
    found, _ = drive(Right(arm), arm, 20, operator=operator, on_step=_at(3, lambda: operator.give(Order.QUIT)))
    assert found.ended == "quit"


def test_scenes_end_a_drive(simulated: SimulatedRobot) -> None:
    class Still:
        contract = simulated.contract

        def reset(self, slot: int) -> None: ...

        def act(self, observations: Any) -> list[ActionChunk | None]:
            (seen,) = observations
            return [ActionChunk(actions=seen.state[None, :8], time_ns=seen.time_ns)]

    short = SimulatedRobot("tabletop/place", settings={**SMALL, "max_steps": 5, "control_hz": 20})
    short.begin(3)
    Still.contract = short.contract
    found, _ = drive(Still(), short, 50)
    assert (found.steps, found.ended, short.finished, short.success) == (5, "failure", True, False)
    short.close()


def test_cameras_and_history_reach_the_policy(simulated: SimulatedRobot) -> None:
    seen: list[Observation] = []

    class Looking(RandomPolicy):
        def act(self, observations: Any) -> list[ActionChunk | None]:
            seen.extend(o for o in observations if o is not None)
            return super().act(observations)

    drive(Looking(simulated.contract, 4, 0), simulated, 5)
    assert set(seen[0].images) == {"front", "wrist"}
