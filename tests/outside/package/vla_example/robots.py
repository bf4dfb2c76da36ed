"""A robot: two motors that go where they are told, and a camera that sees how far they are."""

import time

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.types import Observation
from vla.deploy.robots.motion import Motion

MOTORS = tuple(Dimension(name=n, unit="rad", low=-1.0, high=1.0) for n in ("pan", "tilt"))


class Motors:
    """In place of a bus: the register of each motor."""

    def __init__(self, brightness: int = 100) -> None:
        self.contract = Contract(
            robot="example-motors",
            cameras=(Camera(name="eye", height=8, width=8),),
            state=MOTORS,
            action=MOTORS,
            control_hz=50.0,
        )
        self.instruction = ""
        self.motion = Motion(speed=4.0, acceleration=80.0)
        self.registers = np.zeros(2, np.float32)
        self._brightness = brightness

    def observe(self) -> Observation:
        """A grey picture."""
        grey = np.full((8, 8, 3), self._brightness, np.uint8)
        now = time.monotonic_ns()
        return Observation(images={"eye": grey}, state=self.registers.copy(), instruction="", time_ns=now)

    def measure(self) -> np.ndarray:
        """What is in them."""
        return self.registers.copy()

    def command(self, action: np.ndarray) -> None:
        """At once."""
        self.registers[:] = action

    def close(self) -> None:
        """Nothing to let go of."""
