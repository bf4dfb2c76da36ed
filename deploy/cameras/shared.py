"""Frames in shared memory: one process writes each camera's newest, any other reads it without stopping the writer.

A sequence lock: the number of a camera is odd while its frame is being written, and a reader whose number has changed
meanwhile looks again. That relies on stores being seen in their order, as they are on x86-64.
"""

import mmap
import os
import platform
import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from vla.core.contract import Camera as Described
from vla.core.errors import ConfigError, RobotError
from vla.deploy.cameras.camera import Frame, require_fresh

_ALIGNED = 64
_TRIES = 200


def memory_size(cameras: Sequence[Described]) -> int:
    """Bytes that the frames of these cameras take."""
    return sum(_stride(camera) for camera in cameras)


class SharedFrames:
    """The newest frame of each camera, in the memory behind a file descriptor, which stays the caller's."""

    def __init__(self, cameras: Sequence[Described], descriptor: int) -> None:
        if platform.machine() not in ("x86_64", "AMD64"):
            raise ConfigError(
                f"frames in shared memory need x86-64, whose stores are seen in order; this is a {platform.machine()}"
            )
        size = memory_size(cameras)
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        data = np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
        self._heads: dict[str, np.ndarray] = {}
        self._images: dict[str, np.ndarray] = {}
        start = 0
        for camera in cameras:
            self._heads[camera.name] = data[start : start + 16].view(np.int64)  # number, time
            pixels = data[start + _ALIGNED : start + _ALIGNED + int(np.prod(camera.shape))]
            self._images[camera.name] = pixels.reshape(camera.shape)
            start += _stride(camera)

    def write(self, name: str, image: UInt8[np.ndarray, "y x 3"], time_ns: int) -> None:
        """Publish a frame."""
        head = self._heads[name]
        head[0] += 1
        head[1] = time_ns
        self._images[name][...] = image
        head[0] += 1

    def read(self, name: str) -> Frame | None:
        """A copy of the newest frame; None where there never was one."""
        head = self._heads[name]
        for _ in range(_TRIES):
            number = int(head[0])
            frame = Frame(image=self._images[name].copy(), time_ns=int(head[1]))
            if number % 2 == 0 and int(head[0]) == number:
                return frame if number else None
            time.sleep(50e-6)
        raise RobotError(f"camera {name}: a frame was begun and never finished; did its process die?")


class SharedCamera:
    """Implements `vla.deploy.cameras.camera.Camera` by what another process writes."""

    def __init__(self, name: str, frames: SharedFrames, *, most_s: float) -> None:
        self._name, self._frames, self._most_s = name, frames, most_s

    def latest(self) -> Frame:
        """See `vla.deploy.cameras.camera.Camera`."""
        frame = self._frames.read(self._name)
        if frame is None:
            raise RobotError(f"camera {self._name}: no frame yet; wait until the emulator has rendered one")
        return require_fresh(frame, self._name, self._most_s)

    def newest(self) -> Frame | None:
        """The newest frame, however old it is."""
        return self._frames.read(self._name)

    def close(self) -> None:
        """Nothing of it is held."""


def _stride(camera: Described) -> int:
    if camera.kind != "rgb":
        raise ConfigError(f"camera {camera.name}: frames in shared memory are rgb, not {camera.kind}")
    return _ALIGNED + -(-int(np.prod(camera.shape)) // _ALIGNED) * _ALIGNED
