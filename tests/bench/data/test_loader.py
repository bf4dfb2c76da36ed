"""Every way of reading gives the frames that were written, a wrong one is noticed, and all rows are there."""

from pathlib import Path

import numpy as np
import pytest

from vla.bench.data import loader
from vla.bench.data.frames import Recorded, record, write_dataset
from vla.bench.data.loader import PEERS, VIDEO_BARS, ZARR_BARS, bench_random_frames
from vla.bench.data.peers import read_hdf5, read_memmap, read_mp4, read_ours, read_zarr, write_videos
from vla.bench.settings import LoaderConfig
from vla.core.errors import DatasetError
from vla.core.media.video import decode_mp4

SIZE = 32


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return record(SIZE, 40, 2.0, seed=3)


def _frame(recorded: Recorded, camera: str, step: int) -> np.ndarray:
    return np.concatenate([episode.images[camera] for episode in recorded.episodes])[step]


def test_noise_is_as_strong_as_asked(recorded: Recorded) -> None:
    clean = record(SIZE, 40, 0.0, seed=3)
    assert len(clean.episodes) >= 2
    for camera in clean.cameras:
        plain = np.concatenate([episode.images[camera] for episode in clean.episodes]).astype(np.float64)
        rough = np.concatenate([episode.images[camera] for episode in recorded.episodes])
        inside = (plain > 10) & (plain < 245)
        assert np.std((rough - plain)[inside]) == pytest.approx(2.0, abs=0.1)


def test_every_lossless_way_reads_what_was_written(tmp_path: Path, recorded: Recorded) -> None:
    raw, zstd = (write_dataset(tmp_path / codec, recorded, codec) for codec in ("raw", "zstd"))
    ways = [read_ours(raw), read_ours(zstd), read_zarr(raw, recorded), read_zarr(zstd, recorded)]
    ways += [read_hdf5(tmp_path / "frames.hdf5", recorded), read_memmap(tmp_path, recorded)]
    for step in (0, 7, len(recorded.episodes[0]) - 1, len(recorded.episodes[0]), len(recorded) - 1):
        for camera in recorded.cameras:
            for read in ways:
                np.testing.assert_array_equal(read(camera, step), _frame(recorded, camera, step))


@pytest.mark.parametrize("tuned", [False, True])
def test_videos_are_read_at_the_exact_frame(tmp_path: Path, recorded: Recorded, tuned: bool) -> None:
    write_videos(tmp_path, recorded)
    read = read_mp4(tmp_path, recorded, tuned=tuned)
    for camera in recorded.cameras:
        frames = decode_mp4(tmp_path / f"{camera}.mp4")
        assert len(frames) == len(recorded)
        for step in np.random.default_rng(0).permutation(len(recorded)).tolist():
            np.testing.assert_array_equal(read(camera, step), frames[step])
        truth = np.concatenate([episode.images[camera] for episode in recorded.episodes]).astype(np.int16)
        assert np.abs(truth - frames).mean() < 10


def test_all_rows_are_there(tmp_path: Path) -> None:
    notes: list[str] = []
    rows = bench_random_frames(tmp_path, SIZE, LoaderConfig(frames=40, budget=0.01), notes.append)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    bars = {row.name: row.bar for row in rows if row.bar is not None}
    for codec, bar in ZARR_BARS.items():
        assert bars[f"{SIZE} px {codec}, against zarr-python"] == bar
        assert {f"{SIZE} px {codec}, against {title}" for title in PEERS.values()} <= set(names)
    assert len(bars) == len(ZARR_BARS) + len(VIDEO_BARS)
    assert all(row.value > 0 for row in rows)
    assert all((row.ratio is None) == (row.against is None) for row in rows)
    sizes = {row.name: row.value for row in rows if row.unit == "kB"}
    assert sizes[f"{SIZE} px raw, size of a frame"] == pytest.approx(SIZE * SIZE * 3 / 1e3, rel=0.4)
    assert sizes[f"{SIZE} px jpeg, size of a frame"] < sizes[f"{SIZE} px raw, size of a frame"]
    assert notes


def test_a_reader_that_gives_another_frame_stops_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(path: Path, recorded: Recorded) -> loader.Read:
        read = read_hdf5(path, recorded)
        return lambda camera, step: read(camera, max(step - 1, 0))

    monkeypatch.setattr(loader, "read_hdf5", late)
    with pytest.raises(DatasetError, match="hdf5: not the frame that was written"):
        bench_random_frames(tmp_path, SIZE, LoaderConfig(frames=40, budget=0.01), lambda text: None)
