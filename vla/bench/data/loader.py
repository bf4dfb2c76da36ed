"""How fast frames are read: single ones at random beside peers on the same frames, and batches for training."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vla.bench.data.batches import bench_memory, bench_training
from vla.bench.data.frames import Recorded, folder_bytes, record, write_dataset
from vla.bench.data.peers import Read, read_hdf5, read_memmap, read_mp4, read_ours, read_zarr, write_videos
from vla.bench.measure import Note, Row, Work, compare, cpu_rates
from vla.bench.settings import LoaderConfig
from vla.core.errors import DatasetError

ZARR_BARS = {"raw": 30.0, "zstd": 6.0, "jpeg": 3.0}
"""Codec: how many times faster than zarr-python."""
VIDEO_BARS = {"zstd": 5.0, "jpeg": 5.0}
"""Codec: how many times faster than LeRobot's video; those that are a default."""
PEERS = {
    "mp4": "mp4 (AV1 g=2), PyAV as LeRobot uses it",
    "mp4 tuned": "mp4 (AV1 g=2), PyAV with one thread, exact seek",
    "hdf5": "HDF5 (gzip 4)",
    "memmap": "a memory map",
}
_FRAMES_PER_TURN = 8
_CHECKED = 32
_VIDEO_ERROR = 10.0
"""Grey levels by which a frame of the lossy video may differ on average."""


def bench_loader(config: LoaderConfig, note: Note) -> list[Row]:
    """All measurements of reading, in temporary folders."""
    rows: list[Row] = []
    for size in config.sizes:
        with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
            rows += bench_random_frames(Path(folder), size, config, note)
    if config.training_size:
        rows += bench_training(config, note)
    if config.memory_samples:
        rows += bench_memory(config, note)
    return rows


def bench_random_frames(folder: Path, size: int, config: LoaderConfig, note: Note) -> list[Row]:
    """One random frame of one camera a call, from files in the page cache; rates are frames in a second of CPU time."""
    note(f"{size} px: rendering and writing {config.frames} frames of each camera")
    recorded = record(size, config.frames, config.noise, config.seed)
    readers, sizes = _write(folder, recorded)
    _check(readers, recorded, config.seed)
    note(f"{size} px: reading in {len(readers)} ways, {3 * config.budget:g} CPU seconds each")
    works = {name: _random_reading(read, recorded, config.seed) for name, read in readers.items()}
    rates = cpu_rates(works, config.budget)
    rows = []
    for codec, bar in ZARR_BARS.items():
        ours, theirs = rates[codec], rates[f"{codec}, zarr-python"]
        rows.append(compare(f"{size} px {codec}, against zarr-python", ours, "frames/s", against=theirs, bar=bar))
    for peer, title in PEERS.items():
        for codec in ZARR_BARS:
            goal = VIDEO_BARS.get(codec) if peer == "mp4" else None
            name = f"{size} px {codec}, against {title}"
            rows.append(compare(name, rates[codec], "frames/s", against=rates[peer], bar=goal))
    count = len(recorded) * len(recorded.cameras)
    rows += [
        Row(name=f"{size} px {name}, size of a frame", value=n / count / 1e3, unit="kB") for name, n in sizes.items()
    ]
    return rows


def _write(folder: Path, recorded: Recorded) -> tuple[dict[str, Read], dict[str, int]]:
    """All ways to read, by name, and bytes of what each has written."""
    readers: dict[str, Read] = {}
    sizes = {}
    for codec in ZARR_BARS:
        dataset = write_dataset(folder / codec, recorded, codec)
        readers[codec] = read_ours(dataset)
        readers[f"{codec}, zarr-python"] = read_zarr(dataset, recorded)
        sizes[codec] = folder_bytes(folder / codec / "segments")
    for name in ("mp4", "memmap"):
        (folder / name).mkdir()
    write_videos(folder / "mp4", recorded)
    readers["mp4"] = read_mp4(folder / "mp4", recorded, tuned=False)
    readers["mp4 tuned"] = read_mp4(folder / "mp4", recorded, tuned=True)
    readers["memmap"] = read_memmap(folder / "memmap", recorded)
    readers["hdf5"] = read_hdf5(folder / "hdf5", recorded)
    sizes |= {name: folder_bytes(folder / name) for name in ("mp4", "hdf5", "memmap")}
    return readers, sizes


def _check(readers: Mapping[str, Read], recorded: Recorded, seed: int) -> None:
    """A `DatasetError` unless each way reads what was written: all bits of it, or as good as the lossy ones can."""
    places = recorded.places()
    for camera, step in _sequence(recorded, seed + 1, _CHECKED):
        episode, row = places[step]
        truth = recorded.episodes[episode].images[camera][row]
        frames = {name: read(camera, step).copy() for name, read in readers.items()}
        wrong = [name for name in frames if not name.startswith(("jpeg", "mp4")) and (frames[name] != truth).any()]
        wrong += [
            f"{codec}, zarr-python" for codec in ZARR_BARS if (frames[f"{codec}, zarr-python"] != frames[codec]).any()
        ]
        for name in ("jpeg", "mp4", "mp4 tuned"):
            if np.abs(frames[name].astype(np.int16) - truth).mean() > _VIDEO_ERROR:
                wrong.append(name)
        if wrong:
            raise DatasetError(f"step {step} of camera {camera}: {', '.join(wrong)}: not the frame that was written")


def _random_reading(read: Read, recorded: Recorded, seed: int) -> Work:
    sequence = _sequence(recorded, seed, 64 * len(recorded))
    position = 0

    def work() -> int:
        nonlocal position
        if position + _FRAMES_PER_TURN > len(sequence):
            position = 0
        for camera, step in sequence[position : position + _FRAMES_PER_TURN]:
            read(camera, step)
        position += _FRAMES_PER_TURN
        return _FRAMES_PER_TURN

    return work


def _sequence(recorded: Recorded, seed: int, count: int) -> list[tuple[str, int]]:
    """Random (camera, step), the same for all ways of reading."""
    rng = np.random.default_rng([seed, 0x72616E64])
    cameras = rng.integers(0, len(recorded.cameras), count)
    return [
        (recorded.cameras[c], s) for c, s in zip(cameras, rng.integers(0, len(recorded), count).tolist(), strict=True)
    ]
