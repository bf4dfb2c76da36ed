"""``vla emulate``: servos that are not there, on a line that any program can open."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.config import parse_settings

_EXAMPLES = """  vla emulate dynamixel --servos 3 --link /tmp/ttyARM
  vla emulate feetech --env tabletop/place --link /tmp/ttyARM --fault silent:3@5s+0.2s --fault corrupt=0.001@10s
  vla emulate dynamixel --env tabletop/place --control /tmp/arm.sock --frames /dev/shm/arm.frames
  vla run --policy random --robot emulated-dynamixel --env tabletop/place"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Emulate servos on a pseudo-terminal, until Ctrl-C: protocol, byte times, physics, and faults on demand.

    Any program that speaks Dynamixel protocol 2.0 or Feetech's can open the line; the vendors' SDKs do.
    """

    protocol: Annotated[str, tyro.conf.Positional]
    """dynamixel (X series, protocol 2.0) or feetech (STS series)."""
    env: str | None = None
    """A tabletop environment whose arm the servos are; by default servos in a row."""
    set: list[str] = field(default_factory=list)
    """Settings of the environment, as key=value."""
    seed: int = 0
    """Of the scene, and of what faults draw."""
    servos: int = 3
    """How many in a row, without an environment."""
    link: Path | None = None
    """Put a symbolic link to the line there, so that its name stays."""
    baud: int = 1_000_000
    """At which the servos listen; a program that sets another is not heard."""
    fault: tyro.conf.UseAppendAction[list[str]] = field(default_factory=list)
    """KIND[:ID][=VALUE][@START][+DURATION]: silent, slow, overload, overheat, watchdog, brownout of a servo; drop,
    corrupt, unplug of the line. Times as 5s or 20ms."""
    control: Path | None = None
    """A Unix socket on which others begin scenes, ask how it stands and cause faults, as JSON."""
    frames: Path | None = None
    """Render the environment's cameras into this file, which others map into their memory."""
    camera_hz: float = 30.0
    seconds: float | None = None
    """Stop after so long."""
    json: Path | None = None
    """Write what happened to this file when it stops."""


def main(argv: list[str]) -> int:
    """Build, say where the line is, run, say what happened."""
    arguments = parse(Arguments, argv, verb="emulate", examples=_EXAMPLES)
    import logging
    import time
    from contextlib import ExitStack

    from vla.deploy.emulators.build import EmulatorConfig
    from vla.deploy.emulators.process import running

    logging.basicConfig(format="%(message)s")
    logging.getLogger("vla").setLevel(logging.INFO)
    config = EmulatorConfig(
        protocol=arguments.protocol,
        env=arguments.env,
        settings=parse_settings(arguments.set),
        seed=arguments.seed,
        servos=arguments.servos,
        link=arguments.link,
        baud=arguments.baud,
        faults=tuple(arguments.fault),
        camera_hz=arguments.camera_hz,
    )
    with ExitStack() as stack:
        descriptor = None
        if arguments.frames is not None:
            descriptor = stack.enter_context(arguments.frames.open("w+b")).fileno()
        emulator, world = stack.enter_context(running(config, descriptor))
        if arguments.control is not None:
            emulator.listen(arguments.control)
        names = ", ".join(f"{joint.id} {name}" for name, joint in world.description.joints.items())
        console().print(f"{arguments.protocol} servos ({names}) at {emulator.device}, {arguments.baud} baud")
        ends_s = float("inf") if arguments.seconds is None else time.monotonic() + arguments.seconds
        try:
            emulator.run(lambda: time.monotonic() < ends_s)
        finally:
            said = ", ".join(f"{count} {what}" for what, count in emulator.counts.items()) or "nothing"
            console().print(f"counted: {said}")
            write_result(arguments.json, {**world.status(), "counts": emulator.counts})
    return 0
