"""``vla run``: a policy drives a robot."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, parse_settings, write_result

_EXAMPLES = """  vla run runs/place/checkpoint --set env=tabletop/place --seconds 20
  vla run runs/place/checkpoint --robot my_package:MyArm --instruction "put the red block on the blue plate"
  vla run ws://127.0.0.1:8000 --robot my_package:MyArm"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Drive a robot at its own rate: a checkpoint, a server, or any other policy that fits it."""

    policy: Annotated[str, tyro.conf.Positional]
    """A checkpoint folder, the address of a server, a name, or module:Name."""
    robot: str = "simulated"
    """A name of ROBOTS, of an entry point, or module:Name."""
    set: list[str] = field(default_factory=list)
    """Settings of the robot, as key=value."""
    api_key_file: Path | None = None
    """File with the key of a server; by default that in VLA_API_KEY, if it is set."""
    tls_ca: Path | None = None
    """Certificates that a wss:// server is checked against; by default what VLA_TLS_CA names, else the system's."""
    seconds: float = 10.0
    instruction: str | None = None
    """What to do; by default what the robot says."""
    execute: int | None = None
    """Steps of a chunk that run before the next; by default what the policy says."""
    json: Path | None = None
    """Write what it was like to this file."""


def main(argv: list[str]) -> int:
    """Connect, drive, let go."""
    arguments = parse(Arguments, argv, verb="run", examples=_EXAMPLES)
    from vla.core.secret import hand_on
    from vla.deploy.loop import drive
    from vla.deploy.robots.table import make_robot
    from vla.policies.table import build_policy, find_policy

    hand_on(arguments.api_key_file, arguments.tls_ca)
    factory = find_policy(arguments.policy)
    robot = make_robot(arguments.robot, parse_settings(arguments.set))
    try:
        policy = build_policy(factory, contract=robot.contract)
        steps = max(1, round(arguments.seconds * robot.contract.control_hz))
        found = drive(policy, robot, steps=steps, instruction=arguments.instruction, execute=arguments.execute)
    finally:
        robot.close()
    gated = ", ".join(f"{count} {reason}" for reason, count in found.gated.items()) or "none"
    console().print(
        f"{found.steps} steps at {robot.contract.control_hz:g} Hz, {found.late} late, {found.clipped} commands and "
        f"{found.states_clipped} states clipped, {gated} gated; "
        f"{found.inferences} inferences, the longest {1e3 * found.longest_inference_s:.0f} ms"
    )
    write_result(arguments.json, asdict(found))
    return 0
