"""Cameras that are read by a thread of their own: whoever drives the robot gets the newest frame and never waits."""

import threading
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from vla.core.errors import RobotError
from vla.deploy.cameras.camera import Frame, require_fresh


@runtime_checkable
class Source(Protocol):
    """What takes pictures one after the other."""

    def take(self) -> UInt8[np.ndarray, "y x 3"]:
        """Wait for the next picture: RGB, row 0 at the top. Whatever it raises ends the camera."""

    def close(self) -> None:
        """Let go of it."""


class ThreadedCamera:
    """Implements `vla.deploy.cameras.camera.Camera`; the source is made, used and closed in the thread."""

    def __init__(self, name: str, make: Callable[[], Source], *, most_s: float = 0.2, first_s: float = 10.0) -> None:
        """Waits for the first frame, for ``first_s``; later none may be older than ``most_s``."""
        self._name, self._most_s = name, most_s
        self._newest: Frame | None = None
        self._error = ""
        self._stop, self._seen = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make,), name=f"camera-{name}", daemon=True)
        self._thread.start()
        if not self._seen.wait(first_s) or self._newest is None:
            self.close()
            raise RobotError(f"camera {name}: {self._error or f'no frame within {first_s:g} s'}")

    def latest(self) -> Frame:
        """See `vla.deploy.cameras.camera.Camera`."""
        assert self._newest is not None, "there was a first frame"
        return require_fresh(self._newest, self._name, self._most_s, self._error)

    def close(self) -> None:
        """End the thread; one that hangs in its driver is left behind."""
        self._stop.set()
        self._thread.join(2.0)

    def _run(self, make: Callable[[], Source]) -> None:
        try:
            source = make()
            try:
                while not self._stop.is_set():
                    image = source.take()
                    self._newest = Frame(image=image, time_ns=time.monotonic_ns())
                    self._seen.set()
            finally:
                source.close()
        except Exception as error:  # a driver raises what it likes
            self._error = " ".join(str(error).split()) or type(error).__name__
            self._seen.set()
