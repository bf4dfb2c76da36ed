"""What a camera is to a robot: the latest frame, with its age."""

import time
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from vla.core.errors import RobotError


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture."""

    image: UInt8[np.ndarray, "y x 3"]
    """RGB, row 0 at the top."""
    time_ns: int
    """When it was taken, on this machine's monotonic clock."""

    @property
    def age_s(self) -> float:
        """How long ago."""
        return (time.monotonic_ns() - self.time_ns) * 1e-9


@runtime_checkable
class Camera(Protocol):
    """One camera."""

    def latest(self) -> Frame:
        """The newest frame, without waiting for another; a `RobotError` if there is none that is new enough."""

    def close(self) -> None:
        """Let go of it. May be called twice."""


def require_fresh(frame: Frame, name: str, most_s: float, why: str = "") -> Frame:
    """The frame, or a `RobotError` that says how old it is."""
    if frame.age_s > most_s:
        raise RobotError(
            f"camera {name}: its newest frame is {frame.age_s:.2f} s old, more than the {most_s:g} s allowed"
            f"{f' ({why})' if why else ''}; is it plugged in, and is its rate high enough?"
        )
    return frame
