"""Ways to read the frame of a camera at a step: ours, zarr-python, HDF5, mp4 and a memory map.

Each is as fast as its users can have it in one process: files stay open, arrays too, and what can be worked out
beforehand is.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vla.bench.data.frames import Recorded
from vla.core.media.video import AV1, frame_rate, write_mp4
from vla.datasets.dataset import Dataset
from vla.datasets.store.layout import image_name, segment_name

Read = Callable[[str, int], np.ndarray]
"""The frame (y, x, 3) of a camera at a step; it may be overwritten by the next call."""

HDF5_CACHE_BYTES = 2**20
"""HDF5's default chunk cache for long: 21 frames of 128 pixels, 6 of 224."""


def read_ours(dataset: Dataset) -> Read:
    """Our own reader, into one buffer."""
    shape = dataset.contract.cameras[0].shape
    out = np.empty((1, *shape), np.uint8)
    frame: np.ndarray = out[0]

    def read(camera: str, step: int) -> np.ndarray:
        dataset.read_frames(camera, np.array([step]), out)
        return frame

    return read


def read_zarr(dataset: Dataset, recorded: Recorded) -> Read:
    """zarr-python on the files of ``dataset``, with its default pipeline."""
    import zarr

    (segment,) = dataset.manifest.segments
    store = f"{dataset.url}/{segment_name(segment)}/data.zarr"
    arrays: dict[str, list[Any]] = {
        camera: [
            zarr.open(f"{store}/{image_name(camera, number)}", mode="r") for number in range(len(recorded.episodes))
        ]
        for camera in recorded.cameras
    }
    places = recorded.places()

    def read(camera: str, step: int) -> np.ndarray:
        episode, frame = places[step]
        pixels: np.ndarray = arrays[camera][episode][frame]
        return pixels

    return read


def read_hdf5(path: Path, recorded: Recorded) -> Read:
    """Written here: one dataset a camera, gzip level 4, each frame a chunk."""
    import h5py

    with h5py.File(path, "w") as file:
        for camera in recorded.cameras:
            frames = _all_frames(recorded, camera)
            file.create_dataset(
                camera, data=frames, chunks=(1, *frames.shape[1:]), compression="gzip", compression_opts=4
            )
    opened = h5py.File(path, "r", rdcc_nbytes=HDF5_CACHE_BYTES)
    arrays = {camera: opened[camera] for camera in recorded.cameras}

    def read(camera: str, step: int) -> np.ndarray:
        pixels: np.ndarray = arrays[camera][step]
        return pixels

    return read


def write_videos(folder: Path, recorded: Recorded) -> None:
    """One mp4 a camera, encoded as LeRobot does by default: AV1, a key frame every second frame."""
    for camera in recorded.cameras:
        frames = _all_frames(recorded, camera)
        write_mp4(folder / f"{camera}.mp4", frames, recorded.contract.control_hz, AV1)


def read_mp4(folder: Path, recorded: Recorded, *, tuned: bool) -> Read:
    """`write_videos` through PyAV: seek to a key frame, decode up to the frame that is wanted, convert only that.

    As LeRobot reads where it uses PyAV: default threads, seeking one tick early. Its first choice, torchcodec, is not
    measured. ``tuned`` is what costs least CPU time: one thread, and the last key frame that is not later.
    """
    import av

    rate = frame_rate(recorded.contract.control_hz)
    opened: dict[str, tuple[Any, Any, list[int]]] = {}
    for camera in recorded.cameras:
        container = av.open(str(folder / f"{camera}.mp4"))
        stream: Any = container.streams.video[0]
        if tuned:
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        ticks: Fraction = 1 / (rate * stream.time_base)
        opened[camera] = container, stream, [int(step * ticks) for step in range(len(recorded))]
    early = 0 if tuned else 1

    def read(camera: str, step: int) -> np.ndarray:
        container, stream, times = opened[camera]
        container.seek(times[step] - early, stream=stream)
        for frame in container.decode(stream):
            if frame.pts == times[step]:
                pixels: np.ndarray = frame.to_ndarray(format="rgb24")
                return pixels
        raise AssertionError(f"{camera}.mp4 holds no frame at {times[step]}")

    return read


def read_memmap(folder: Path, recorded: Recorded) -> Read:
    """Written here: plain pixels, one file a camera, mapped; the frame is copied into one buffer. The ceiling."""
    arrays: dict[str, np.ndarray] = {}
    for camera in recorded.cameras:
        path = folder / f"{camera}.npy"
        np.save(path, _all_frames(recorded, camera))
        arrays[camera] = np.load(path, mmap_mode="r")
    out: np.ndarray = np.empty(recorded.contract.cameras[0].shape, np.uint8)

    def read(camera: str, step: int) -> np.ndarray:
        np.copyto(out, arrays[camera][step])
        return out

    return read


def _all_frames(recorded: Recorded, camera: str) -> np.ndarray:
    frames: np.ndarray = np.concatenate([episode.images[camera] for episode in recorded.episodes])
    return frames
