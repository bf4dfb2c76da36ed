"""``vla run``: a policy drives a robot."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.config import parse_settings

if TYPE_CHECKING:
    from vla.core.contract import Contract
    from vla.core.types import Policy
    from vla.deploy.control.session import Driven
    from vla.deploy.engines.engine import Engine
    from vla.deploy.robots.robot import Robot
    from vla.policies.table import Factory

_START_S = 600.0
"""For loading a policy."""
_EXAMPLES = """  vla run --policy runs/demo/checkpoint --env tabletop/place --episodes 5
  vla run --policy runs/demo/checkpoint --robot my_package:MyArm --instruction "put the red block on the blue plate"
  vla run --robot tabletop --policy runs/demo/checkpoint --page
  vla run --policy ws://127.0.0.1:8000 --robot my_package:MyArm --ahead --record data/runs
  vla run --policy runs/realtime/checkpoint --ahead --priority 50 --seconds 60 --json run.json"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Drive a robot at its own rate: a checkpoint, a server, or any other policy that fits it.

    Every command passes the robot's safety gate. Keys: space pause, g go on, s or Esc stop, h home, i instruction, q.
    """

    policy: str
    """A checkpoint folder, the address of a server, a name, or module:Name; settings stand behind it, as in
    hf-pi0,folder=models/pi0,contract=pi0.yaml. It computes in a process of its own."""
    robot: str = "simulated"
    """A name of ROBOTS, of an entry point, or module:Name."""
    env: str | None = None
    """What stands around a simulated or emulated robot; the same as --set env=…"""
    set: list[str] = field(default_factory=list)
    """Settings of the robot, as key=value."""
    episodes: int | None = None
    """How many, where the robot can lay out scenes; by default one, and with a page as many as you like."""
    page: bool = False
    """Serve a page to this machine's browser: cameras, instruction, what is asked and sent, a stop button."""
    page_port: int = 0
    """Of the page; 0 takes any that is free."""
    seed: int = 0
    """Of the first scene."""
    seconds: Annotated[float, tyro.conf.arg(aliases=["-s"])] = 20.0
    """An episode's, at most."""
    instruction: str | None = None
    """What to do; by default what the robot says."""
    execute: int | None = None
    """Steps of a chunk that run before the next; by default what the policy says."""
    ensemble: float | None = None
    """Weight of older chunks that cover a step, per request of age; by default what the policy says."""
    ahead: bool = False
    """Ask while older commands run, instead of holding still until the answer is there."""
    committed: bool = True
    """With --ahead, tell a policy that was trained for it which commands will run until then."""
    refuse: bool = False
    """Refuse a first target that is far from where the robot stands, instead of going there slowly."""
    unsure: float = float("inf")
    """Pause where overlapping chunks disagree by more than this share of an action's range."""
    priority: int = 0
    """Real-time priority (SCHED_FIFO) of the loop, 1 to 99; 0 for none."""
    core: int | None = None
    """Bind the loop to this core."""
    record: Path | None = None
    """Add every episode to this dataset: what was seen, asked for and sent."""
    api_key_file: Path | None = None
    """File with the key of a server; by default that in VLA_API_KEY, if it is set."""
    tls_ca: Path | None = None
    """Certificates that a wss:// server is checked against; by default what VLA_TLS_CA names, else the system's."""
    json: Path | None = None
    """Write what it was like to this file."""


def main(argv: list[str]) -> int:
    """Connect, drive, let go."""
    arguments = parse(Arguments, argv, verb="run", examples=_EXAMPLES)
    from vla.core.chunks import Execution
    from vla.core.secret import hand_on
    from vla.deploy.control.drive import Pace
    from vla.deploy.control.operator import HELP, Operator, keyboard
    from vla.deploy.control.realtime import real_time
    from vla.deploy.control.recording import DriveRecorder
    from vla.deploy.control.session import drive_episodes
    from vla.deploy.page.board import Board
    from vla.deploy.page.server import OperatorPage
    from vla.deploy.robots.table import make_robot

    hand_on(arguments.api_key_file, arguments.tls_ca)
    settings = parse_settings(arguments.set) | ({"env": arguments.env} if arguments.env else {})
    done: list[Driven] = []
    with ExitStack() as stack:
        robot = stack.enter_context(closing(make_robot(arguments.robot, settings)))
        policy = _policy(arguments.policy, robot, stack)
        spec = policy.contract.policy
        execution = Execution.of(spec, execute=arguments.execute, ensemble=arguments.ensemble)
        recorder = None
        if arguments.record:
            about = {"policy": arguments.policy, "robot": arguments.robot, "settings": settings}
            task = arguments.env or arguments.robot
            recorder = stack.enter_context(DriveRecorder(arguments.record, robot.contract, about, task=task))
        operator = Operator()
        if stack.enter_context(keyboard(operator)):
            console().print(HELP, style="dim")
        episodes = 1 if arguments.episodes is None and not arguments.page else arguments.episodes
        board = Board(robot.contract, arguments.policy)
        if arguments.page:
            address = stack.enter_context(OperatorPage(board, operator, port=arguments.page_port).running())
            console().print(f"operator's page: [bold]{address}[/]")
        granted = stack.enter_context(real_time(priority=arguments.priority, core=arguments.core))
        console().print(granted, style="dim")
        pace = Pace(
            execution=execution,
            ahead=arguments.ahead,
            committed=arguments.committed,
            refuse=arguments.refuse,
            unsure=arguments.unsure,
        )
        try:
            for driven in drive_episodes(
                policy, robot, episodes=episodes, seconds=arguments.seconds, seed=arguments.seed, pace=pace,
                instruction=arguments.instruction, operator=operator, recorder=recorder, on_step=board,
            ):  # fmt: skip
                done.append(driven)
                board.note(f"“{driven.instruction}”: {driven.drive.ended}")
                console().print(_line(driven))
        finally:  # also of a session that an error ends
            _report(done)
            write_result(arguments.json, {"granted": granted, "episodes": [asdict(driven) for driven in done]})
    return 0


def _policy(name: str, robot: "Robot", stack: ExitStack) -> "Policy | Engine":
    """In a process of its own: what computes there does not hold up the loop, and what hangs there is begun anew."""
    from vla.core.types import ClosablePolicy
    from vla.deploy.engines.policy_process import PolicyProcess
    from vla.policies.table import find_policy, is_address

    # Whether a server fits is for the loop to say: here it would be refused for its order. One that says nothing any
    # more is asked through a new connection before the robot is let go of.
    offers = {"timeout_s": robot.motion.hold_s / 2} if is_address(name) else {"contract": robot.contract}
    make = partial(_ordered, find_policy(name), robot.contract, offers)
    if not is_address(name):
        process = stack.enter_context(closing(PolicyProcess(make, slots=1, start_s=_START_S)))
        spec = process.contract.policy
        if spec is None or spec.history == 1:
            return process
        console().print("the policy reads several observations: it computes beside the loop, in the same process")
    policy = make()
    if isinstance(policy, ClosablePolicy):
        stack.callback(policy.close)
    return policy


def _ordered(factory: "Factory", robot: "Contract", offers: "Mapping[str, Any]") -> "Policy":
    from vla.policies.acting import by_name
    from vla.policies.table import build_policy

    return by_name(build_policy(factory, **offers), robot)


def _line(driven: "Driven") -> str:
    drive = driven.drive
    judged = "" if driven.success is None else "  [green]success[/]" if driven.success else f"  [red]{drive.ended}[/]"
    gated = ", ".join(f"{count} {reason}" for reason, count in drive.gated.items()) or "none"
    return (
        f"“{driven.instruction}”{judged}  {drive.steps} steps, {drive.inferences} inferences, gated: {gated}"
        + (f", {drive.starved} steps held" if drive.starved else "")
        + (f", {drive.failures} questions not answered" if drive.failures else "")
    )


def _report(done: Sequence["Driven"]) -> None:
    """The cadence of the whole session; nothing where nothing was driven."""
    from rich.table import Table

    if not done:
        return

    table = Table(title="cadence", title_justify="left")
    for column in ("rate", "late by p50", "p99", "max", "deadlines missed", "late commands", "inference p50", "max",
                   "reaction p50", "max", "clipped", "gated"):  # fmt: skip
        table.add_column(column, justify="right")
    for driven in done:
        drive, rhythm = driven.drive, driven.drive.rhythm
        table.add_row(
            f"{rhythm.rate_hz:.2f} Hz", f"{rhythm.lateness_p50_ms:.2f} ms", f"{rhythm.lateness_p99_ms:.2f} ms",
            f"{rhythm.lateness_max_ms:.2f} ms", str(rhythm.missed), str(drive.late), _ms(drive.inference_p50_ms),
            _ms(drive.inference_max_ms), _ms(drive.reaction_p50_ms), _ms(drive.reaction_max_ms), str(drive.clipped),
            str(sum(drive.gated.values())),
        )  # fmt: skip
    console().print(table)
    judged = [driven.success for driven in done if driven.success is not None]
    if judged:
        console().print(f"{sum(judged)} of {len(judged)} scenes solved")


def _ms(value: Any) -> str:
    return "—" if value is None else f"{value:.0f} ms"
