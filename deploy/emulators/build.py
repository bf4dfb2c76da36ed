"""An emulator from what is asked for: which protocol, which world, which servos, which faults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.deploy.emulators.bus import Bus
from vla.deploy.emulators.dynamixel import DynamixelBus
from vla.deploy.emulators.dynamixel_servo import BAUDS as DYNAMIXEL_BAUDS
from vla.deploy.emulators.dynamixel_servo import DynamixelServo
from vla.deploy.emulators.emulator import Emulator
from vla.deploy.emulators.faults import read_fault
from vla.deploy.emulators.feetech import FeetechBus
from vla.deploy.emulators.feetech_servo import BAUDS as FEETECH_BAUDS
from vla.deploy.emulators.feetech_servo import FeetechServo
from vla.deploy.emulators.line import Line
from vla.deploy.emulators.motor import Motor
from vla.deploy.servos.description import Description
from vla.deploy.worlds.plant import Plant
from vla.deploy.worlds.world import Chain, Tabletop, World


@dataclass(frozen=True, kw_only=True)
class EmulatorConfig:
    """What is emulated."""

    protocol: str
    """dynamixel or feetech."""
    env: str | None = None
    """A tabletop environment that the servos stand in; without one they are in a row, and there are no cameras."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the environment."""
    seed: int = 0
    """Of the first scene, and of what faults draw."""
    description: str | None = None
    """Of the servos in an environment; by default the tabletop arm's."""
    servos: int = 3
    """In a row, without an environment."""
    link: Path | None = None
    """Where a symbolic link to the line is put."""
    baud: int = 1_000_000
    """At which the servos listen."""
    faults: tuple[str, ...] = ()
    """See `vla.deploy.emulators.faults`."""
    camera_hz: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.camera_hz <= 240:
            raise ConfigError(f"camera_hz={self.camera_hz:g} must be from 1 to 240")


MakeBus = Callable[[Description, Plant, int], Bus]


def _dynamixel(description: Description, plant: Plant, baud: int) -> Bus:
    if baud not in DYNAMIXEL_BAUDS:
        raise ConfigError(f"baud={baud} must be one of {', '.join(map(str, DYNAMIXEL_BAUDS))}")
    joints = enumerate(description.joints.values())
    return DynamixelBus({j.id: DynamixelServo(j.id, Motor(plant, i), baud=baud) for i, j in joints})


def _feetech(description: Description, plant: Plant, baud: int) -> Bus:
    if baud not in FEETECH_BAUDS:
        raise ConfigError(f"baud={baud} must be one of {', '.join(map(str, FEETECH_BAUDS))}")
    joints = enumerate(description.joints.values())
    return FeetechBus({j.id: FeetechServo(j.id, Motor(plant, i), baud=baud) for i, j in joints})


BUSES: dict[str, MakeBus] = {"dynamixel": _dynamixel, "feetech": _feetech}
"""By the protocol that is spoken."""


def build_world(config: EmulatorConfig) -> World:
    """What the servos stand in."""
    lookup("protocol", config.protocol, BUSES)
    if config.env is None:
        return Chain(config.servos, config.protocol)
    return Tabletop(config.env, config.settings, config.description or f"tabletop-{config.protocol}")


def build_emulator(config: EmulatorConfig, world: World) -> Emulator:
    """The emulator of that world, with its first scene laid out and its faults planned."""
    if world.description.bus != config.protocol:
        raise ConfigError(f"description {config.description}: its servos are {world.description.bus}'s")
    bus = BUSES[config.protocol](world.description, world.plant, config.baud)
    faults = [read_fault(text, bus) for text in config.faults]
    emulator = Emulator(world, bus, Line(config.link, baud=config.baud, seed=config.seed))
    emulator.begin(config.seed)
    for fault in faults:
        emulator.cause(fault)
    return emulator
