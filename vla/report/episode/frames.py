"""Camera frames for looking at: which one each step shows, and each as a picture that browsers read.

Pictures are separate files, not a video: a 224-pixel frame of the tabletop environment takes 5 to 6 kB as a JPEG and
0.4 to 0.8 kB in H.264, but only separate pictures are drawn by number. In a video of 300 numbered frames Chromium
showed the neighbour after 30 of 60 seeks to the start of a frame, took 30 ms for each, and while playing the shown
frame never was the one that the video's own clock named.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8, UInt16

from vla.core.contract import Camera, Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.store.clocks import latest_frame

JPEG_QUALITY = 90
MAX_WIDTH = 480
"""Pixels; wider frames are scaled down."""
MAX_FRAMES = 600
"""Of one camera; longer episodes show every second step, every third, and so on."""
MAX_BYTES = 32_000_000
"""Of all pictures together, about: the sizes are foretold from a few of them."""
UNMEASURED_RGB = (70, 70, 72)
"""Where a depth camera measured nothing."""
_PROBES = 8


@dataclass(frozen=True, kw_only=True)
class Film:
    """The pictures of one camera."""

    camera: Camera
    mime: str
    width: int
    height: int
    pictures: tuple[bytes, ...]
    of_step: Int64[np.ndarray, " t"]
    """For each step the number of its picture."""
    time_ns: Int64[np.ndarray, " f"]
    """When each picture was captured."""
    colours: tuple[tuple[int, int, int], ...] = ()
    """Depth only: 255 colours, evenly from ``near_m`` to ``far_m``."""
    near_m: float = 0.0
    far_m: float = 0.0


def frame_of_step(episode: Episode, camera: str) -> Int64[np.ndarray, " t"]:
    """For each step the number of the latest frame not after it."""
    steps, frames = len(episode), len(episode.images[camera])
    clock = episode.image_time_ns.get(camera)
    if clock is None:
        if frames != steps:
            raise DatasetError(
                f"camera {camera!r}: expected {steps} frames, one for each step, got {frames}; "
                "a camera with a rate of its own needs image_time_ns"
            )
        return np.arange(steps, dtype=np.int64)
    if len(clock) != frames or clock[0] > episode.time_ns[0]:
        raise DatasetError(
            f"camera {camera!r}: expected {frames} capture times, the first not after step 0, got {len(clock)} "
            f"beginning {clock[0] - episode.time_ns[0]} ns after it; repair the recording"
        )
    return latest_frame(clock, episode.time_ns)


def require_fit(episode: Episode, contract: Contract) -> None:
    """Raise `DatasetError` unless there are steps, and cameras and widths are those of the contract."""
    if len(episode) == 0:
        raise DatasetError("the episode has no steps: expected at least 1; there is nothing to show")
    cameras = [camera.name for camera in contract.cameras]
    if set(episode.images) != set(cameras):
        raise DatasetError(f"images: expected cameras {cameras}, got {list(episode.images)}; use its own contract")
    if set(episode.signals) != set(contract.signals):
        raise DatasetError(
            f"signals: expected {list(contract.signals)}, got {list(episode.signals)}; use the episode's own contract"
        )
    for name, array, dimensions in (
        ("state", episode.state, contract.state),
        ("action", episode.action, contract.action),
        ("action_executed", episode.action_executed, contract.action),
        *((f"signal {name}", episode.signals[name], dimensions) for name, dimensions in contract.signals.items()),
    ):
        got, expected = array.shape[1], len(dimensions)
        if got != expected:
            raise DatasetError(f"{name}: expected {expected} dimensions, got {got}; use the episode's own contract")


def make_films(episode: Episode, contract: Contract) -> tuple[tuple[Film, ...], int]:
    """The pictures of every camera, and the steps between two of them (1 unless the episode is long)."""
    steps = len(episode)
    encoders = [(camera, _Encoder(episode.images[camera.name], camera)) for camera in contract.cameras]
    every = -(-steps // MAX_FRAMES)
    probes = np.unique(np.linspace(0, steps - 1, _PROBES).astype(int))
    foretold = 0.0
    for camera, encoder in encoders:
        shown = frame_of_step(episode, camera.name)
        sizes = [len(encoder(frame)) for frame in shown[probes].tolist()]
        foretold += float(np.mean(sizes)) * len(np.unique(shown[::every]))
    every *= max(1, -(-int(foretold) // MAX_BYTES))
    return tuple(_film(episode, camera, encoder, every) for camera, encoder in encoders), every


def encode_jpeg(pixels: UInt8[np.ndarray, "y x 3"], quality: int = JPEG_QUALITY) -> bytes:
    """One RGB picture as a JPEG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _film(episode: Episode, camera: Camera, encoder: "_Encoder", every: int) -> Film:
    steps = np.arange(len(episode)) // every * every  # the step whose frame each step shows
    frames, of_step = np.unique(frame_of_step(episode, camera.name)[steps], return_inverse=True)
    return Film(
        camera=camera,
        mime=encoder.mime,
        width=encoder.width,
        height=encoder.height,
        pictures=tuple(encoder(frame) for frame in frames.tolist()),
        of_step=of_step.astype(np.int64),
        time_ns=episode.image_time_ns.get(camera.name, episode.time_ns)[frames],
        colours=encoder.colours,
        near_m=encoder.near_mm / 1000,
        far_m=encoder.far_mm / 1000,
    )


class _Encoder:
    """Turns the frames of one camera into pictures: colours as JPEG, depth as PNG with a palette."""

    def __init__(self, frames: np.ndarray, camera: Camera) -> None:
        self._frames, self._depth = frames, camera.kind == "depth"
        self.width = min(camera.width, MAX_WIDTH)
        self.height = max(1, round(camera.height * self.width / camera.width))
        self._scaled = self.width != camera.width
        self.mime = "image/png" if self._depth else "image/jpeg"
        self.colours: tuple[tuple[int, int, int], ...] = ()
        self.near_mm = self.far_mm = 0
        if self._depth:
            self.near_mm, self.far_mm = _depth_range_mm(frames)
            self.colours = _depth_colours()

    def __call__(self, number: int) -> bytes:
        frame = self._frames[number]
        return self._depth_png(frame[..., 0]) if self._depth else self._jpeg(frame)

    def _jpeg(self, frame: UInt8[np.ndarray, "y x 3"]) -> bytes:
        from PIL import Image

        if not self._scaled:
            return encode_jpeg(frame)
        image = Image.fromarray(np.ascontiguousarray(frame))
        return encode_jpeg(np.asarray(image.resize((self.width, self.height), Image.Resampling.BOX)))

    def _depth_png(self, depth_mm: UInt16[np.ndarray, "y x"]) -> bytes:
        """Colour 0 is nothing measured, 1 to 255 are near to far; no blending, which would invent distances."""
        from PIL import Image

        share = (depth_mm.astype(np.float64) - self.near_mm) / (self.far_mm - self.near_mm)
        index = np.where(depth_mm == 0, 0, 1 + np.clip(np.rint(share * 254), 0, 254)).astype(np.uint8)
        image = Image.fromarray(index).convert("P")
        image.putpalette([value for colour in (UNMEASURED_RGB, *self.colours) for value in colour])
        if self._scaled:
            image = image.resize((self.width, self.height), Image.Resampling.NEAREST)
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()


def _depth_range_mm(frames: UInt16[np.ndarray, "f y x 1"]) -> tuple[int, int]:
    """Nearest and farthest for the colours: without the outermost hundredth, which is mostly noise."""
    sample = frames[np.unique(np.linspace(0, len(frames) - 1, 4 * _PROBES).astype(int))]
    measured = sample[sample > 0]
    if measured.size == 0:
        return 0, 1000
    near, far = (int(v) for v in np.percentile(measured, [1, 99], method="nearest"))
    return near, max(far, near + 1)


def _depth_colours() -> tuple[tuple[int, int, int], ...]:
    import matplotlib as mpl

    rows: Sequence[Sequence[float]] = mpl.colormaps["viridis_r"](np.linspace(0, 1, 255))[:, :3]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in rows)
