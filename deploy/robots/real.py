"""Robots with hardware: a description, the port of its bus, a calibration and cameras make one."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vla.core.config import from_dict
from vla.core.errors import ConfigError, RobotError
from vla.core.lookup import lookup
from vla.deploy.cameras.camera import Camera
from vla.deploy.cameras.sources import CameraConfig, described, open_camera
from vla.deploy.robots.servo_robot import ServoRobot, motion_of
from vla.deploy.servos.arm import Arm, Patience
from vla.deploy.servos.bus import Bus
from vla.deploy.servos.calibration import Calibration, calibrated, read_calibration
from vla.deploy.servos.description import read_description
from vla.deploy.servos.dynamixel import DynamixelBus
from vla.deploy.servos.feetech import FeetechBus

BUSES: dict[str, Callable[..., Bus]] = {"dynamixel": DynamixelBus, "feetech": FeetechBus}
"""By what a description says."""


def servo_robot(
    description: str,
    port: str,
    *,
    calibration: str | None = None,
    cameras: Mapping[str, Any] | None = None,
    instruction: str = "",
    servo_hz: float | None = None,
    write_offsets: bool = False,
    silent_s: float = Patience.silent_s,
    watchdog_s: float = Patience.watchdog_s,
) -> ServoRobot:
    """Connect: servos found, calibration compared, arm holding where it is, first frames there.

    ``cameras`` are, by name, the settings of `vla.deploy.cameras.sources.CameraConfig`. ``write_offsets`` writes the
    homing offsets of the calibration into the servos where they differ; otherwise that is a `ConfigError`.
    """
    described_arm, scale = read_description(description), None
    settings = {n: from_dict(CameraConfig, c, where=f"cameras.{n}") for n, c in (cameras or {}).items()}
    found = None if calibration is None else read_calibration(Path(calibration), described_arm)
    if found is not None:
        described_arm, scale = calibrated(described_arm, found)
    bus = lookup("bus", described_arm.bus, BUSES)(port, baud=described_arm.baud)
    opened: dict[str, Camera] = {}
    try:
        if found is not None:
            _compare_offsets(bus, found, write=write_offsets)
        for name, config in settings.items():
            opened[name] = open_camera(name, config)
        period_s = 1 / (servo_hz or described_arm.control_hz)
        patience = Patience(silent_s=silent_s, watchdog_s=watchdog_s)
        arm = Arm(described_arm, bus, scale=scale, patience=patience, period_s=period_s)
    except BaseException:
        bus.close()
        for camera in opened.values():
            camera.close()
        raise
    contract = described_arm.contract(tuple(described(name, config) for name, config in settings.items()))
    motion = motion_of(described_arm, servo_hz=servo_hz)
    return ServoRobot(arm, opened, contract=contract, motion=motion, instruction=instruction)


so101 = partial(servo_robot, "so101")
"""An SO-101 follower; give it ``port`` and ``calibration``, the file that LeRobot's calibration wrote."""


def _compare_offsets(bus: Bus, calibration: Calibration, *, write: bool) -> None:
    for name, joint in calibration.items():
        there = next((offset for _ in range(3) if (offset := bus.offset(joint.id)) is not None), None)
        if there is None:
            raise RobotError(f"servo {name} (id {joint.id}) does not answer; check power, cables, ids and speed")
        if there != joint.homing_offset and not write:
            raise ConfigError(
                f"servo {name} (id {joint.id}) holds the homing offset {there}, its calibration says "
                f"{joint.homing_offset}: it is another servo, or was calibrated since; calibrate anew, or give "
                "write_offsets=true to write what the calibration says"
            )
        if there != joint.homing_offset:
            bus.set_offset(joint.id, joint.homing_offset)
