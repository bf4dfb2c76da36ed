"""Robots without hardware: a servo bus through the vendor's own SDK, with an emulator at the other end of the line."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.core.contract import Contract, require_match
from vla.core.errors import RobotError
from vla.core.types import Observation
from vla.deploy.emulators.build import EmulatorConfig
from vla.deploy.emulators.process import EmulatorProcess
from vla.deploy.robots.motion import Motion
from vla.deploy.robots.servo_robot import ServoRobot, motion_of
from vla.deploy.servos.arm import Arm, Patience
from vla.deploy.servos.bus import Bus
from vla.deploy.servos.description import read_description
from vla.deploy.servos.dynamixel import DynamixelBus
from vla.deploy.servos.feetech import FeetechBus

_FRAMES_S = 10.0
"""Until the cameras show a new scene."""


class EmulatedRobot:
    """Implements `vla.deploy.robots.robot.Robot` by servos that are emulated, on a tabletop that is simulated.

    It has episodes: `begin` lays out a scene, ``finished`` says that its time is over or that it succeeded.
    """

    def __init__(
        self,
        bus: Callable[[str], Bus],
        protocol: str,
        env: str = "tabletop/place",
        *,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        servo_hz: float | None = None,
        faults: Sequence[str] = (),
        link: str | None = None,
        silent_s: float = Patience.silent_s,
        watchdog_s: float = Patience.watchdog_s,
        frames_s: float = 0.3,
        camera_hz: float = 30.0,
    ) -> None:
        """``bus`` opens the line at a path; ``frames_s`` is how old a frame may be; `vla.deploy.emulators.faults`."""
        config = EmulatorConfig(
            protocol=protocol,
            env=env,
            settings=settings or {},
            seed=seed,
            faults=tuple(faults),
            link=None if link is None else Path(link),
            camera_hz=camera_hz,
        )
        self.emulator = EmulatorProcess(config, most_s=frames_s)
        try:
            self._robot = self._connect(bus, protocol, servo_hz, Patience(silent_s=silent_s, watchdog_s=watchdog_s))
            self.begin(seed)
        except BaseException:
            self.emulator.close()
            raise

    @property
    def contract(self) -> Contract:
        """That of the environment."""
        return self._robot.contract

    @property
    def motion(self) -> Motion:
        """That of the servos' description."""
        return self._robot.motion

    @property
    def instruction(self) -> str:
        """That of the present scene."""
        return self._robot.instruction

    @property
    def faults(self) -> Counter[str]:
        """What was survived on the bus: see `vla.deploy.servos.arm.Arm`."""
        return self._robot.faults

    @property
    def success(self) -> bool:
        """Whether the present scene's goal was reached."""
        return bool(self.emulator.control.status()["success"])

    @property
    def finished(self) -> bool:
        """Whether it was, or the time for it is over."""
        return bool(self.emulator.control.status()["finished"])

    def begin(self, seed: int) -> None:
        """Lay out the scene of that seed, with the arm at its start."""
        self._robot.hold()
        said = self.emulator.control.begin(seed)
        self._robot.instruction = said["instruction"]
        self._robot.hold()
        deadline = time.monotonic() + _FRAMES_S
        while not all(self._shows(name, said["time_ns"]) for name in self.emulator.cameras):
            if time.monotonic() > deadline:
                raise RobotError(f"the emulator's cameras do not show the new scene within {_FRAMES_S:g} s")
            time.sleep(0.005)

    def observe(self) -> Observation:
        """See `vla.deploy.robots.robot.Robot`."""
        return self._robot.observe()

    def measure(self) -> Float32[np.ndarray, " s"]:
        """See `vla.deploy.robots.robot.Robot`."""
        return self._robot.measure()

    def command(self, action: Float32[np.ndarray, " d"]) -> None:
        """See `vla.deploy.robots.robot.Robot`."""
        self._robot.command(action)

    def close(self) -> None:
        """Hold still, close the line, end the emulator."""
        try:
            self._robot.close()
        finally:
            self.emulator.close()

    def _connect(
        self, bus: Callable[[str], Bus], protocol: str, servo_hz: float | None, patience: Patience
    ) -> ServoRobot:
        description, theirs = read_description(f"tabletop-{protocol}"), self.emulator.contract
        assert theirs is not None, "an emulator in an environment has a contract"
        own = description.contract(theirs.cameras)
        require_match(own, theirs, who="the description", whom="the environment", fix="Leave control_hz as it is")
        arm = Arm(
            description,
            bus(self.emulator.device),
            patience=patience,
            period_s=1 / (servo_hz or theirs.control_hz),
        )
        return ServoRobot(arm, self.emulator.cameras, contract=theirs, motion=motion_of(description, servo_hz=servo_hz))

    def _shows(self, camera: str, time_ns: int) -> bool:
        frame = self.emulator.cameras[camera].newest()
        return frame is not None and frame.time_ns >= time_ns


emulated_dynamixel = partial(EmulatedRobot, DynamixelBus, "dynamixel")
"""The tabletop arm as eight Dynamixel X servos."""
emulated_feetech = partial(EmulatedRobot, FeetechBus, "feetech")
"""The same as eight Feetech STS servos."""
