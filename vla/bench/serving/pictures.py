"""What images cost on their way to a policy server: raw, and as JPEG and PNG, in bytes and in time at both ends."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import imagecodecs
import numpy as np

from vla.bench.measure import Note, Row
from vla.bench.serving.policies import CONTRACT, request
from vla.deploy.requests import read_request
from vla.deploy.wire import pack

_TIMES = 30
_NOISE = 2.0
"""Of a sensor, grey levels: without it, files of pictures look smaller than a camera's are."""
_QUALITY = 90
_REQUEST = request()

ENCODERS: Mapping[str, Callable[[np.ndarray], Any]] = {
    "raw": lambda image: image,
    "JPEG": lambda image: imagecodecs.jpeg8_encode(image, level=_QUALITY),
    "PNG": lambda image: imagecodecs.png_encode(image, level=1),
}


def bench_pictures(note: Note) -> list[Row]:
    """For each way: the message, what the client does for it, and what the server does before its policy sees it."""
    note(f"two 224-pixel images raw, as JPEG of quality {_QUALITY} and as PNG")
    images, rows = pictures(), list[Row]()
    for name, encode in ENCODERS.items():
        message = pack(_message(images, encode))
        rows += [
            Row(name=f"{name}: message", value=len(message) / 1e3, unit="kB"),
            Row(name=f"{name}: encoded in", value=_median_ms(lambda: pack(_message(images, encode))), unit="ms"),  # noqa: B023
            Row(name=f"{name}: decoded in", value=_median_ms(lambda: read_request(message, CONTRACT)), unit="ms"),  # noqa: B023
        ]
    return rows


def pictures() -> dict[str, np.ndarray]:
    """Of each camera one with edges, shades and the noise of a sensor, uint8 (y, x, 3)."""
    rng, made = np.random.default_rng(0), {}
    for number, camera in enumerate(CONTRACT.cameras):
        y, x = np.mgrid[: camera.height, : camera.width] / camera.height
        shades = np.stack([x, y, (x + y) / 2], axis=-1) * 180 + 30
        for _ in range(6 + number):
            top, left, size = rng.integers(0, camera.height - 40, 3) % (camera.height - 40)
            shades[top : top + 10 + size // 4, left : left + 10 + size // 4] = rng.integers(0, 256, 3)
        made[camera.name] = np.clip(shades + rng.normal(0, _NOISE, camera.shape), 0, 255).astype(np.uint8)
    return made


def _message(images: Mapping[str, np.ndarray], encode: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    return {**_REQUEST, "images": {name: encode(image) for name, image in images.items()}}


def _median_ms(work: Callable[[], object]) -> float:
    """The median of several times."""
    taken = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    return float(np.median(taken))
