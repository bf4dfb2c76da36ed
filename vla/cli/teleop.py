"""``vla teleop``: a person drives a robot, and what they do becomes a dataset."""

from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.config import parse_settings

if TYPE_CHECKING:
    from vla.deploy.control.terminal import Ask
    from vla.deploy.teleop.session import Demonstration

_EXAMPLES = """  vla teleop data/mine --env tabletop/place --episodes 20
  vla teleop data/mine --robot my_package:MyArm --instruction "put the red block on the blue plate"
  vla teleop data/mine --robot my_package:MyArm --instruction "fold it" --by leader --by-set arm=my_package:MyArm"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Drive a robot by keys, by a leader arm, or by whatever your package offers, and record each episode.

    Every command passes the robot's safety gate. Enter begins an episode and ends it as a success, x ends it as a
    failure, Backspace throws it away; between episodes one drives freely, and nothing is recorded.
    """

    dataset: Annotated[Path, tyro.conf.Positional]
    """Folder of the dataset; new episodes become new versions of one that exists."""
    by: str = "keyboard"
    """A name of TELEOPERATORS (keyboard, leader), of an entry point, or module:Name."""
    by_set: list[str] = field(default_factory=list)
    """Settings of the teleoperator, as key=value."""
    robot: str = "simulated"
    """A name of ROBOTS, of an entry point, or module:Name."""
    env: str | None = None
    """What stands around a simulated or emulated robot; the same as --set env=…"""
    set: list[str] = field(default_factory=list)
    """Settings of the robot, as key=value."""
    episodes: int = 50
    """How many to keep."""
    seed: int = 0
    """Of the first scene, where the robot can lay out scenes."""
    seconds: Annotated[float, tyro.conf.arg(aliases=["-s"])] = 60.0
    """An episode's, at most."""
    instruction: str | None = None
    """What to do; by default what the robot says."""
    task: str | None = None
    """What the episodes are called; by default the environment's name, or the robot's."""
    priority: int = 0
    """Real-time priority (SCHED_FIFO) of the loop, 1 to 99; 0 for none."""
    json: Path | None = None
    """Write what was recorded to this file."""


def main(argv: list[str]) -> int:
    """Connect, listen to keys, record."""
    import sys

    arguments = parse(Arguments, argv, verb="teleop", examples=_EXAMPLES)
    from vla.core.errors import ConfigError
    from vla.core.types import ClosablePolicy
    from vla.deploy.control.realtime import real_time
    from vla.deploy.control.recording import DriveRecorder
    from vla.deploy.control.terminal import listening
    from vla.deploy.robots.table import make_robot
    from vla.deploy.teleop.director import HELP, Director, hear
    from vla.deploy.teleop.session import demonstrate
    from vla.deploy.teleop.table import make_teleoperator
    from vla.deploy.teleop.teleoperator import Keyed

    if not sys.stdin.isatty():
        raise ConfigError("vla teleop is told by keys where an episode begins and ends: run it in a terminal")
    settings = parse_settings(arguments.set) | ({"env": arguments.env} if arguments.env else {})
    done: list[Demonstration] = []
    director = Director()
    with ExitStack() as stack:
        robot = stack.enter_context(closing(make_robot(arguments.robot, settings)))
        by = make_teleoperator(arguments.by, robot, parse_settings(arguments.by_set))
        if isinstance(by, ClosablePolicy):
            stack.callback(by.close)
        about = {"teleoperator": arguments.by, "robot": arguments.robot, "settings": settings}
        task = arguments.task or arguments.env or arguments.robot
        recorder = stack.enter_context(DriveRecorder(arguments.dataset, robot.contract, about, task=task))

        def on_key(key: str, ask: "Ask") -> None:
            hear(key, ask, director, by)

        def on_phase(recording: bool) -> None:
            console().print("recording …" if recording else "ready: Enter begins an episode")

        stack.enter_context(listening(on_key))
        console().print(HELP + (f"\n{by.help}" if isinstance(by, Keyed) else ""), style="dim", markup=False)
        console().print(stack.enter_context(real_time(priority=arguments.priority)), style="dim")
        for shown in demonstrate(
            by, robot, director, recorder, episodes=arguments.episodes, seconds=arguments.seconds,
            seed=arguments.seed, instruction=arguments.instruction, on_phase=on_phase,
        ):  # fmt: skip
            done.append(shown)
            console().print(_line(shown))
    kept = sum(shown.kept for shown in done)
    console().print(f"{kept} episode{'' if kept == 1 else 's'} in {arguments.dataset}", markup=False)
    write_result(arguments.json, {"episodes": [asdict(shown) for shown in done]})
    return 0


def _line(shown: "Demonstration") -> str:
    judged = {True: "[green]success[/]", False: "[red]failure[/]", None: "kept"}
    gated = ", ".join(f"{count} {reason}" for reason, count in shown.drive.gated.items()) or "none"
    what = judged[shown.success] if shown.kept else "thrown away"
    return f"“{shown.instruction}”  {what}, {shown.drive.steps} steps, gated: {gated}"
