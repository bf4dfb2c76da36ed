"""Episodes begin and end when a person says so, are kept as they say, and nothing else is recorded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deploy.control.arms import Arm
from vla.core.errors import ConfigError, DatasetError
from vla.core.types import ActionChunk, Observation
from vla.datasets.dataset import Dataset
from vla.deploy.control.loop import Step
from vla.deploy.control.operator import Order
from vla.deploy.control.recording import DriveRecorder
from vla.deploy.robots.motion import Motion
from vla.deploy.teleop.director import Director, Mark, hear, meaning
from vla.deploy.teleop.session import Demonstration, demonstrate


class Clock:
    """Moves pan by a thousandth with each look, from where it is."""

    def __init__(self, arm: Arm) -> None:
        self.contract = arm.contract
        self.keys: list[str] = []
        self.help = "none"

    def press(self, key: str) -> None:
        self.keys.append(key)

    def reset(self, slot: int) -> None: ...

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        (seen,) = observations
        assert seen is not None
        return [ActionChunk(actions=seen.state[None] + np.float32([[0.001, 0]]), time_ns=seen.time_ns)]


def session(
    root: Path, says: dict[int, Sequence[Order | Mark | str]], arm: Arm | None = None, **settings: Any
) -> tuple[list[Demonstration], list[tuple[Step, bool]]]:
    """Drive; at the numbered steps, counted over the whole session, the person says what is listed."""
    arm = arm or Arm()
    director, steps = Director(), list[tuple[Step, bool]]()

    def on_step(step: Step) -> None:
        steps.append((step, director.recording))
        assert len(steps) < 300
        for said in says.get(len(steps), ()):
            director.operator.say(said) if isinstance(said, str) else director.give(said)

    with DriveRecorder(root, arm.contract, {}, task="wave") as recorder:
        settings = {"episodes": 9, "seconds": 5.0, **settings}
        return list(demonstrate(Clock(arm), arm, director, recorder, on_step=on_step, **settings)), steps


def test_what_is_kept_is_what_was_driven_between_two_marks(tmp_path: Path) -> None:
    says: dict[int, list[Any]] = {
        5: [Mark.SUCCESS, Mark.BEGIN, Mark.BEGIN],
        15: [Mark.BEGIN, Mark.SUCCESS, Mark.FAILURE],
        20: ["wave twice"],
        21: [Mark.BEGIN],
        30: [Mark.DISCARD],
        33: [Mark.BEGIN],
        40: [Mark.FAILURE],
        45: [Order.QUIT],
    }
    done, steps = session(tmp_path / "d", says)
    assert [(found.kept, found.success) for found in done] == [(True, True), (False, None), (True, False)]
    dataset = Dataset.open(tmp_path / "d")
    assert [(e.instruction, e.success) for e in dataset.episodes] == [("wave", True), ("wave twice", False)]
    recorded = [step for step, recording in steps if recording]
    assert len(recorded) == sum(found.drive.steps for found in done)
    assert len(steps) > len(recorded) + 15
    first = dataset.read_episode(0)
    mine = recorded[: len(first)]
    assert first.valid.tolist() == [step.mode == "policy" for step in mine]
    assert first.valid.sum() >= 7
    asked = np.stack([step.asked for step in mine if step.mode == "policy"])  # type: ignore[misc]
    np.testing.assert_array_equal(first.action[first.valid], asked)


def test_time_ends_an_episode_that_nobody_judged(tmp_path: Path) -> None:
    done, _ = session(tmp_path / "d", {3: [Mark.BEGIN]}, episodes=1, seconds=0.4)
    assert [(found.kept, found.success, found.drive.steps) for found in done] == [(True, None, 8)]


def test_who_leaves_in_an_episode_throws_it_away(tmp_path: Path) -> None:
    done, _ = session(tmp_path / "d", {3: [Mark.BEGIN], 9: [Order.QUIT]})
    assert [found.kept for found in done] == [False]
    with pytest.raises(DatasetError, match="nothing has been published"):
        Dataset.open(tmp_path / "d")


def test_a_stop_outlasts_the_episode_and_a_pause_does_not(tmp_path: Path) -> None:
    says: dict[int, list[Any]] = {
        3: [Order.PAUSE],
        8: [Mark.BEGIN],
        15: [Order.STOP],
        20: [Mark.FAILURE],
        25: [Mark.BEGIN],
        30: [Order.GO],
        36: [Mark.SUCCESS, Order.QUIT],
    }
    arm = Arm(Motion(speed=5.0, acceleration=100.0))
    _, steps = session(tmp_path / "d", says, arm)
    modes = [step.mode for step, _ in steps]
    assert set(modes[4:8]) == {"pause"}
    assert modes[13] == "policy"
    assert set(modes[16:30]) == {"stop"}
    assert modes[34] == "policy"
    episode = Dataset.open(tmp_path / "d").read_episode(0)
    assert not episode.valid[-4:].any()  # nothing to learn from who is stopped


def test_what_was_meant_for_a_drive_that_is_over_ends_no_other() -> None:
    director = Director()
    director.begin("free", stopped=False)
    assert list(director.operator.heard()) == [Order.GO]
    director.give(Mark.BEGIN)  # as the drive ends by itself, so that nobody hears it
    director.end()
    director.give(Mark.DISCARD)
    director.give(Order.PAUSE)
    director.operator.say("fold it")
    director.begin("recording", stopped=False)
    assert list(director.operator.heard()) == [Order.GO, Order.PAUSE, "fold it"]
    director.give(Order.STOP)
    director.begin("recording", stopped=False)
    assert list(director.operator.heard()) == [Order.STOP]
    director.begin("recording", stopped=True)
    assert not list(director.operator.heard())
    director.give(Order.QUIT)
    director.begin("free", stopped=False)
    assert list(director.operator.heard())[-1] is Order.QUIT


def test_a_robot_without_a_task_wants_to_be_told(tmp_path: Path) -> None:
    arm = Arm()
    arm.instruction = ""
    with pytest.raises(ConfigError, match="give --instruction"):
        session(tmp_path / "d", {}, arm)
    with pytest.raises(ConfigError, match="episodes=0"):
        session(tmp_path / "d", {}, episodes=0)


@pytest.mark.parametrize(
    ("key", "recording", "expected"),
    [
        ("\r", False, Mark.BEGIN),
        ("\n", True, Mark.SUCCESS),
        ("x", True, Mark.FAILURE),
        ("\x7f", True, Mark.DISCARD),
        (" ", True, Order.PAUSE),
        ("\x1b", True, Order.STOP),
        ("c", True, Order.GO),
        ("b", False, Order.HOME),
        ("\x04", False, Order.QUIT),
    ],
)
def test_keys_of_the_session(key: str, recording: bool, expected: Order | Mark) -> None:
    assert meaning(key, recording=recording) is expected


def test_other_keys_are_the_teleoperators_and_n_a_new_instruction() -> None:
    director, clock = Director(), Clock(Arm())
    for key in ("w", "\x1b[A", "\t"):
        hear(key, _nobody, director, clock)
    assert clock.keys == ["w", "\x1b[A", "\t"]
    hear("n", lambda prompt: "fold it", director, clock)
    assert list(director.operator.heard()) == ["fold it"]


_nobody: Callable[[str], str] = lambda prompt: pytest.fail("nobody is asked")  # noqa: E731
