"""A session at a robot: episode after episode of one policy, each drive told, recorded and, where one can, judged."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from vla.core.errors import ConfigError
from vla.core.types import Policy
from vla.deploy.control.drive import Drive, Pace, Step
from vla.deploy.control.loop import ControlLoop
from vla.deploy.control.operator import Operator
from vla.deploy.control.recording import DriveRecorder
from vla.deploy.engines.engine import Engine
from vla.deploy.robots.robot import Robot, Scenes


@dataclass(frozen=True, kw_only=True)
class Driven:
    """One episode of a session."""

    seed: int | None
    """Of the scene, where there are scenes."""
    instruction: str
    success: bool | None
    """None where nobody can tell."""
    drive: Drive


def drive_episodes(
    policy: Policy | Engine,
    robot: Robot,
    *,
    episodes: int | None,
    seconds: float,
    seed: int = 0,
    instruction: str | None = None,
    pace: Pace | None = None,
    operator: Operator | None = None,
    recorder: DriveRecorder | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Iterator[Driven]:
    """Drive ``episodes`` times for at most ``seconds``; a robot with scenes is shown those of ``seed`` and on.

    Without a number of episodes it goes on until the operator ends it.
    """
    if (episodes is not None and episodes < 1) or not 0 < seconds < math.inf:
        raise ConfigError(f"episodes={episodes} must be at least 1, and seconds={seconds:g} above 0")
    scenes = robot if isinstance(robot, Scenes) else None
    if (episodes or 1) > 1 and scenes is None:
        raise ConfigError(f"episodes={episodes}: this robot cannot lay out a scene; leave it out, and say so each time")
    steps = max(1, round(seconds * robot.contract.control_hz))
    last: list[Step] = []

    def each(step: Step) -> None:
        last[:] = [step]
        if recorder is not None:
            recorder(step)
        on_step(step)

    if scenes is not None:
        scenes.begin(seed)
    loop = ControlLoop(policy, robot, instruction=instruction, pace=pace, operator=operator, on_step=each)
    with closing(loop):
        for episode in itertools.count() if episodes is None else range(episodes):
            if episode and scenes is not None:
                scenes.begin(seed + episode)
                loop.begin_anew()
            drive = loop.run(steps)
            success = scenes.success if scenes is not None else None
            if recorder is not None:
                recorder.finish(success)
            said = last[0].seen.instruction
            yield Driven(seed=seed + episode if scenes else None, instruction=said, success=success, drive=drive)
            if drive.ended == "quit":
                return
