"""Demonstrations: a person drives, says where an episode begins and how it ended, and each becomes one of a dataset."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from vla.core.errors import ConfigError
from vla.core.types import Policy
from vla.deploy.control.drive import Drive, Pace, Step
from vla.deploy.control.loop import ControlLoop
from vla.deploy.control.recording import DriveRecorder
from vla.deploy.robots.robot import Robot, Scenes
from vla.deploy.teleop.director import Director, Mark

_FREE_S = 600.0
"""A drive between two episodes, before the next one like it."""


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One episode that a person drove."""

    seed: int | None
    """Of the scene, where there are scenes."""
    instruction: str
    kept: bool
    success: bool | None
    """What the person said, or else the scene; None where nobody did."""
    drive: Drive


def demonstrate(
    teleoperator: Policy,
    robot: Robot,
    director: Director,
    recorder: DriveRecorder,
    *,
    episodes: int,
    seconds: float,
    seed: int = 0,
    instruction: str | None = None,
    pace: Pace | None = None,
    on_phase: Callable[[bool], None] = lambda recording: None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Iterator[Demonstration]:
    """Until ``episodes`` of at most ``seconds`` are kept, or the person leaves; between them one drives freely.

    A robot with scenes is shown those of ``seed`` and on, each anew when its episode begins. ``on_phase`` is told when
    an episode begins, and when the next one may.
    """
    if episodes < 1 or seconds <= 0:
        raise ConfigError(f"episodes={episodes} must be at least 1, and seconds={seconds:g} above 0")
    scenes = robot if isinstance(robot, Scenes) else None
    last: list[Step] = []

    def each(step: Step) -> None:
        last[:] = [step]
        if director.recording:
            recorder(step)
        on_step(step)

    if scenes is not None:
        scenes.begin(seed)
    if not (instruction or robot.instruction):
        raise ConfigError("nobody says what to do: give --instruction, or a robot that says it")
    operator = director.operator
    loop = ControlLoop(teleoperator, robot, instruction=instruction, pace=pace, operator=operator, on_step=each)
    driving = _Driving(loop, director, on_phase)
    steps, kept = max(1, round(seconds * robot.contract.control_hz)), 0
    with closing(loop):
        while kept < episodes and _free(driving, robot, seed + kept):
            if scenes is not None:
                _lay_out(loop, scenes, seed + kept)
            drive = driving.run(steps, recording=True)
            keep = director.said is not Mark.DISCARD and not (director.said is None and drive.ended == "quit")
            success = _success(director.said, scenes)
            if keep:
                recorder.finish(success)
            else:
                recorder.discard()
            yield Demonstration(
                seed=seed + kept if scenes else None,
                instruction=last[0].seen.instruction,
                kept=keep,
                success=success if keep else None,
                drive=drive,
            )
            kept += keep


class _Driving:
    """One drive after the other, with the person told which it is."""

    def __init__(self, loop: ControlLoop, director: Director, on_phase: Callable[[bool], None]) -> None:
        self.loop, self.director, self._on_phase = loop, director, on_phase
        self._said: bool | None = None

    def run(self, steps: int, *, recording: bool) -> Drive:
        self.director.begin("recording" if recording else "free", stopped=self.loop.gate.stopped)
        if recording is not self._said:
            self._on_phase(recording)
        self._said = recording
        try:
            return self.loop.run(steps)
        finally:
            self.director.end()


def _free(driving: _Driving, robot: Robot, seed: int) -> bool:
    """Drive without recording until the person begins an episode; False if one leaves."""
    director = driving.director
    while not director.leaving:
        driving.run(max(1, round(_FREE_S * robot.contract.control_hz)), recording=False)
        if director.said is Mark.BEGIN:
            return not director.leaving
        if isinstance(robot, Scenes) and robot.finished:
            _lay_out(driving.loop, robot, seed)
    return False


def _lay_out(loop: ControlLoop, scenes: Scenes, seed: int) -> None:
    scenes.begin(seed)
    loop.begin_anew()


def _success(said: Mark | None, scenes: Scenes | None) -> bool | None:
    if said in (Mark.SUCCESS, Mark.FAILURE):
        return said is Mark.SUCCESS
    return None if scenes is None else scenes.success
