"""Where pictures come from: cameras that OpenCV opens, videos, and folders of pictures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from vla.core.contract import Camera as Described
from vla.core.errors import ConfigError, RobotError
from vla.core.machine.packages import needed_packages
from vla.deploy.cameras.camera import Camera
from vla.deploy.cameras.threaded import Source, ThreadedCamera

_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """One camera of a robot."""

    kind: Literal["opencv", "files"] = "opencv"
    source: str = "0"
    """opencv: number, path or address of a device or stream; files: a video, or a folder of pictures, over and over."""
    height: int = 224
    width: int = 224
    """Of what the robot shows. A picture of other proportions is cut at its longer sides, then scaled."""
    hz: float = 30.0
    """What the device is asked for, and the rate of files."""
    most_s: float = 0.2
    """How old a frame may be."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or not 0 < self.hz <= 1000 or not self.most_s > 0:
            raise ConfigError(
                f"camera: height={self.height}, width={self.width}, hz={self.hz:g} and most_s={self.most_s:g} must be "
                "positive"
            )


def open_camera(name: str, config: CameraConfig) -> Camera:
    """Open it, and wait for its first frame."""
    return ThreadedCamera(name, SOURCES[config.kind](config), most_s=config.most_s)


def described(name: str, config: CameraConfig) -> Described:
    """What a contract says of it."""
    return Described(name=name, height=config.height, width=config.width)


def fitted(image: UInt8[np.ndarray, "y x 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The middle of a picture in these proportions, scaled to this size."""
    import cv2

    rows, columns = image.shape[:2]
    scale = min(rows / height, columns / width)
    keep_y, keep_x = max(1, round(height * scale)), max(1, round(width * scale))
    y, x = (rows - keep_y) // 2, (columns - keep_x) // 2
    cut = image[y : y + keep_y, x : x + keep_x]
    how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    scaled: np.ndarray = cv2.resize(cut, (width, height), interpolation=how)
    return scaled


class OpenCvSource:
    """A device or a stream."""

    def __init__(self, config: CameraConfig) -> None:
        with needed_packages("cameras", extra="robot"):
            import cv2
        self._cv2, self._config = cv2, config
        where: Any = int(config.source) if config.source.isdecimal() else config.source
        self._capture = cv2.VideoCapture(where)
        if not self._capture.isOpened():
            raise RobotError(f"{config.source} cannot be opened; is it plugged in, and used by nobody else?")
        self._capture.set(cv2.CAP_PROP_FPS, config.hz)
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def take(self) -> UInt8[np.ndarray, "y x 3"]:
        """See `vla.deploy.cameras.threaded.Source`."""
        there, image = self._capture.read()
        if not there:
            raise RobotError(f"{self._config.source} gives no more pictures")
        return fitted(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), self._config.height, self._config.width)

    def close(self) -> None:
        """See `vla.deploy.cameras.threaded.Source`."""
        self._capture.release()


class FileSource:
    """A video, or the pictures of a folder in the order of their names, at their rate and over and over."""

    def __init__(self, config: CameraConfig) -> None:
        with needed_packages("cameras", extra="robot"):
            import cv2
        self._cv2, self._config, self._due_s = cv2, config, time.monotonic()
        path = Path(config.source)
        self._files: Sequence[Path] = ()
        self._capture: Any = None
        if path.is_dir():
            self._files = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES)
            if not self._files:
                raise RobotError(f"{path} holds no pictures ({', '.join(_PICTURES)})")
        else:
            self._capture = cv2.VideoCapture(str(path))
            if not path.is_file() or not self._capture.isOpened():
                raise RobotError(f"{path} is neither a folder of pictures nor a video that OpenCV reads")
        self._next = 0

    def take(self) -> UInt8[np.ndarray, "y x 3"]:
        """See `vla.deploy.cameras.threaded.Source`."""
        self._due_s = max(self._due_s + 1 / self._config.hz, time.monotonic() - 1)
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        image = self._picture() if self._files else self._frame()
        return fitted(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), self._config.height, self._config.width)

    def close(self) -> None:
        """See `vla.deploy.cameras.threaded.Source`."""
        if self._capture is not None:
            self._capture.release()

    def _picture(self) -> Any:
        path = self._files[self._next % len(self._files)]
        self._next += 1
        image = self._cv2.imread(str(path), self._cv2.IMREAD_COLOR)
        if image is None:
            raise RobotError(f"{path} is no picture that OpenCV reads")
        return image

    def _frame(self) -> Any:
        for _ in range(2):
            there, image = self._capture.read()
            if there:
                return image
            self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, 0)
        raise RobotError(f"{self._config.source} holds no picture")


def _opencv(config: CameraConfig) -> Callable[[], Source]:
    return lambda: OpenCvSource(config)


def _files(config: CameraConfig) -> Callable[[], Source]:
    return lambda: FileSource(config)


SOURCES: dict[str, Callable[[CameraConfig], Callable[[], Source]]] = {"opencv": _opencv, "files": _files}
"""By the kind of a configuration."""
