"""A robot made of servos on a bus and cameras."""

import time
from collections import Counter
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32

from vla.core.contract import Contract
from vla.core.types import Observation
from vla.deploy.cameras.camera import Camera
from vla.deploy.robots.motion import Motion
from vla.deploy.servos.arm import Arm
from vla.deploy.servos.description import Description


class ServoRobot:
    """Implements `vla.deploy.robots.robot.Robot`."""

    def __init__(
        self, arm: Arm, cameras: Mapping[str, Camera], *, contract: Contract, motion: Motion, instruction: str = ""
    ) -> None:
        self._arm, self._cameras = arm, cameras
        self.contract, self.motion, self.instruction = contract, motion, instruction

    @property
    def faults(self) -> Counter[str]:
        """What was survived: see `vla.deploy.servos.arm.Arm`."""
        return self._arm.faults

    def observe(self) -> Observation:
        """The newest frame of each camera, and the state now."""
        images = {name: camera.latest().image for name, camera in self._cameras.items()}
        return Observation(
            images=images, state=self.measure(), instruction=self.instruction, time_ns=time.monotonic_ns()
        )

    def measure(self) -> Float32[np.ndarray, " s"]:
        """See `vla.deploy.robots.robot.Robot`."""
        return self._arm.read()

    def command(self, action: Float32[np.ndarray, " d"]) -> None:
        """See `vla.deploy.robots.robot.Robot`."""
        self._arm.send(action)

    def hold(self) -> None:
        """Stay where it is until the next command."""
        self._arm.hold()

    def close(self) -> None:
        """Hold still, with torque on, and close line and cameras."""
        try:
            self._arm.close()
        finally:
            for camera in self._cameras.values():
                camera.close()


def motion_of(description: Description, *, servo_hz: float | None) -> Motion:
    """How hard the description lets it be moved."""
    joints = description.joints.values()
    return Motion(
        speed=tuple(joint.speed for joint in joints),
        acceleration=tuple(joint.acceleration for joint in joints),
        deviation=tuple(joint.deviation for joint in joints),
        servo_hz=servo_hz,
    )
