"""Datasets of LeRobot's version 3.0 as other people's recorders, merges and copies leave them."""

import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vla.core.errors import DatasetError
from vla.core.media.video import H264, write_mp4
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.datasets.formats.importing import Imported, ImportSettings, import_source
from vla.datasets.formats.lerobot.source import open_lerobot
from vla.datasets.formats.source import Hints
from vla.datasets.formats.table import open_source

FPS, HEIGHT, WIDTH = 30, 32, 48
CAMERA = "observation.images.top"
VIDEO = f"videos/{CAMERA}"
Frame = tuple[int, int]
"""Episode and step."""


def painted(episode: int, step: int) -> np.ndarray:
    """Red above; below, the left says the episode and the right the step, both as brightness."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[: HEIGHT // 2, :, 0] = 220
    frame[HEIGHT // 2 :, : WIDTH // 2] = 40 + 30 * episode
    frame[HEIGHT // 2 :, WIDTH // 2 :] = 40 + 10 * step
    return frame


def seen(frames: np.ndarray) -> list[Frame]:
    """What `painted` says, in frames the right way up."""
    assert (frames[:, :8, :, 0] > 150).all()
    left, right = (frames[:, 24:30, x : x + 8].mean(axis=(1, 2, 3)) for x in (8, 32))
    return list(zip(np.rint((left - 40) / 30).astype(int), np.rint((right - 40) / 10).astype(int), strict=True))


def own(episode: int, steps: int) -> list[Frame]:
    return [(episode, step) for step in range(steps)]


@dataclass(kw_only=True)
class Recording:
    """One data file and one video for all episodes; a test spoils what it is about, then writes."""

    lengths: Sequence[int]
    film: list[Frame] = field(default_factory=list)
    places: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Frames at which an episode begins and ends, by the table."""
    columns: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Columns of an episode that are not as usual."""
    rows: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda rows: rows
    """What becomes of the table of episodes."""
    info: dict[str, Any] = field(default_factory=dict)
    pictures: Callable[[int, int], bytes] | None = None
    """Embedded pictures instead of the video."""
    channels: int = 3
    words: str = "push"
    kind: str = "float32"

    def __post_init__(self) -> None:
        for episode, steps in enumerate(self.lengths):
            self.places[episode] = len(self.film), len(self.film) + steps
            self.film += own(episode, steps)

    def _features(self) -> dict[str, Any]:
        camera = {"dtype": "image" if self.pictures else "video", "shape": [HEIGHT, WIDTH, self.channels]}
        counters = ("frame_index", "episode_index", "index", "task_index")
        return {
            "observation.state": {"dtype": self.kind, "shape": [2], "names": ["a", "b"]},
            "action": {"dtype": "float32", "shape": [2], "names": ["a", "b"]},
            CAMERA: {**camera, "names": ["height", "width", "channels"]},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{name: {"dtype": "int64", "shape": [1], "names": None} for name in counters},
        }

    def _frames(self, episode: int, steps: int) -> pa.Table:
        rng, step = np.random.default_rng(episode), np.arange(steps)
        usual: dict[str, Any] = {
            "observation.state": rng.uniform(-1, 1, (steps, 2)).astype(np.float32).tolist(),
            "action": rng.uniform(-1, 1, (steps, 2)).astype(np.float32).tolist(),
            "timestamp": (step / FPS).astype(np.float32),
            "frame_index": step,
            "episode_index": np.full(steps, episode),
            "index": step,
            "task_index": np.zeros(steps, np.int64),
        }
        if self.pictures is not None:
            usual[CAMERA] = [{"bytes": self.pictures(episode, k), "path": None} for k in range(steps)]
        return pa.table({**usual, **self.columns.get(episode, {})})

    def write(self, root: Path) -> Path:
        for folder in ("data/chunk-000", "meta/episodes/chunk-000", f"{VIDEO}/chunk-000"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        tables = [self._frames(episode, steps) for episode, steps in enumerate(self.lengths)]
        pq.write_table(pa.concat_tables(tables, promote_options="permissive"), root / "data/chunk-000/file-000.parquet")
        rows = [
            {
                "episode_index": episode,
                "length": steps,
                "tasks": [self.words],
                "data/chunk_index": 0,
                "data/file_index": 0,
                f"{VIDEO}/chunk_index": 0,
                f"{VIDEO}/file_index": 0,
                f"{VIDEO}/from_timestamp": self.places[episode][0] / FPS,
                f"{VIDEO}/to_timestamp": self.places[episode][1] / FPS,
            }
            for episode, steps in enumerate(self.lengths)
        ]
        table = pa.Table.from_pylist(self.rows(rows))
        pq.write_table(table, root / "meta/episodes/chunk-000/file-000.parquet")
        pq.write_table(pa.table({"task_index": [0], "task": [self.words]}), root / "meta/tasks.parquet")
        info = {
            "codebase_version": "v3.0",
            "robot_type": "arm",
            "fps": FPS,
            "features": self._features(),
            "total_episodes": len(self.lengths),
            "total_frames": sum(self.lengths),
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
            **self.info,
        }
        (root / "meta/info.json").write_text(json.dumps(info))
        if self.pictures is None:
            write_mp4(root / f"{VIDEO}/chunk-000/file-000.mp4", (painted(*frame) for frame in self.film), FPS, H264)
        return root


def bring(root: Path, target: Path, **settings: Any) -> Imported:
    known: dict[str, Any] = {"codecs": {}, "engine": "inline", "skip_invalid": True, **settings}
    return import_source(open_source(root, Hints()), target, where="d", settings=ImportSettings(**known), provenance={})


def frames(target: Path) -> list[list[Frame]]:
    dataset = Dataset.open(target)
    return [seen(dataset.read_episode(number).images["top"]) for number in range(len(dataset.episodes))]


def said(target: Path) -> list[str]:
    """What validate has to say of episodes."""
    return [finding.what for finding in validate(target) if finding.severity == "warning"]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# Where an episode lies in its video.


def test_a_whole_dataset_says_nothing(tmp_path: Path) -> None:
    root = Recording(lengths=[5, 6, 4]).write(tmp_path / "d")
    result = bring(root, tmp_path / "o")
    assert (result.episodes, result.invalid, result.notes) == (3, (), ())
    assert frames(tmp_path / "o") == [own(0, 5), own(1, 6), own(2, 4)]
    assert said(tmp_path / "o") == []


def test_a_merge_that_did_not_move_its_times(tmp_path: Path) -> None:
    """The second half begins at 0 again: that the lengths add up to the file does not say whose frames are first."""
    recording = Recording(lengths=[5, 6, 7, 4])
    recording.places |= {2: (0, 7), 3: (7, 11)}
    root = recording.write(tmp_path / "d")
    with pytest.raises(DatasetError, match=r"episode 0 has the frames 0 to 4, some of which episodes 2 have too"):
        bring(root, tmp_path / "o", skip_invalid=False)
    result = bring(root, tmp_path / "o")
    assert result.episodes == 0
    assert [line.partition(":")[0] for line in result.invalid] == [f"episode {n}" for n in range(4)]
    assert "episode 1 has the frames 5 to 10, some of which episodes 2, 3 have too" in result.invalid[1]


def test_frames_of_a_discarded_take_are_passed_over(tmp_path: Path) -> None:
    """They lie behind the take that was kept, and the table's span has both."""
    recording = Recording(lengths=[5, 6, 4])
    recording.film = [*own(0, 5), *own(1, 6), (5, 6), (5, 7), (5, 8), *own(2, 4)]
    recording.places |= {1: (5, 14), 2: (14, 18)}
    result = bring(recording.write(tmp_path / "d"), tmp_path / "o")
    assert result.invalid == ()
    assert frames(tmp_path / "o") == [own(0, 5), own(1, 6), own(2, 4)]
    (note,) = result.notes
    assert note.startswith("episode 1: top: the table gives it 9 frames of the video for 6 rows; those at the rows' ti")
    assert said(tmp_path / "o") == [note.partition(": ")[2]]


def test_an_episode_with_fewer_frames_than_rows_is_left_out_alone(tmp_path: Path) -> None:
    recording = Recording(lengths=[5, 6, 4])
    recording.film = [*own(0, 5), *own(1, 6)[:3], *own(2, 4)]
    recording.places |= {1: (5, 8), 2: (8, 12)}
    result = bring(recording.write(tmp_path / "d"), tmp_path / "o")
    assert len(result.invalid) == 1
    assert "episode 1 has 6 rows, and the table gives it 3 frames of the video" in result.invalid[0]
    assert frames(tmp_path / "o") == [own(0, 5), own(2, 4)]


def test_episodes_in_another_order_are_found_by_their_times(tmp_path: Path) -> None:
    recording = Recording(lengths=[5, 6])
    recording.film = [*own(1, 6), *own(0, 5)]
    recording.places |= {0: (6, 11), 1: (0, 6)}
    result = bring(recording.write(tmp_path / "d"), tmp_path / "o")
    assert frames(tmp_path / "o") == [own(0, 5), own(1, 6)]
    assert len(result.notes) == 2


def test_a_video_that_was_cut_keeps_the_episodes_before_the_cut(tmp_path: Path) -> None:
    recording = Recording(lengths=[5, 6, 4])
    recording.film = recording.film[:13]
    result = bring(recording.write(tmp_path / "d"), tmp_path / "o")
    assert frames(tmp_path / "o") == [own(0, 5), own(1, 6)]
    (line,) = result.invalid
    assert "expected 15 frames for the rows of its episodes, got 13" in line
    assert "the nearest to row 2, at 0.433 s, is shown at 0.400 s" in line
    assert len(said(tmp_path / "o")) == 2


def test_each_row_may_ask_for_a_frame_of_its_own(tmp_path: Path) -> None:
    """A recording at half the video's rate."""
    recording = Recording(lengths=[4])
    recording.film = own(0, 8)
    recording.places[0] = 0, 8
    recording.columns[0] = {"timestamp": (np.arange(4) * 2 / FPS).astype(np.float32)}
    result = bring(recording.write(tmp_path / "d"), tmp_path / "o")
    assert frames(tmp_path / "o") == [[(0, 0), (0, 2), (0, 4), (0, 6)]]
    assert any("66.67 ms apart, fps 30 says 33.33 ms" in note for note in result.notes)


# Tables that contradict themselves.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{VIDEO}/from_timestamp": None}, "episode 1: float"),
        ({f"{VIDEO}/from_timestamp": float("nan")}, "expected rising times of .* got nan to"),
        ({f"{VIDEO}/to_timestamp": -1.0}, "expected rising times"),
        ({"length": None}, "episode 1: int"),
        ({"length": 7}, "expected 7 frames of episode 1, got 6"),
        ({"data/file_index": 3}, "file-003.parquet: it is missing"),
        ({f"{VIDEO}/file_index": 3}, "file-003.mp4: the video is missing"),
    ],
    ids=["no time", "nan", "backwards", "no length", "length", "data", "video"],
)
def test_one_bad_row_is_the_fault_of_its_episode(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    def spoil(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, **change} if row["episode_index"] == 1 else row for row in rows]

    root = Recording(lengths=[5, 6, 4], rows=spoil).write(tmp_path / "d")
    with pytest.raises(DatasetError, match=f"^d, episode 1: .*{message}"):
        bring(root, tmp_path / "e", skip_invalid=False)
    result = bring(root, tmp_path / "o")
    assert [line.partition(":")[0] for line in result.invalid] == ["episode 1"]
    assert frames(tmp_path / "o") == [own(0, 5), own(2, 4)]


def test_rows_that_are_twice_in_the_table(tmp_path: Path) -> None:
    """The same words are one episode; other words are nobody's."""
    recording = Recording(lengths=[5, 6], rows=lambda rows: [*rows, rows[0]])
    source = open_lerobot(recording.write(tmp_path / "d"), Hints())
    assert len(source) == 2
    assert any("Episode 0 is in the table of episodes twice" in note for note in source.notes)
    recording.rows = lambda rows: [*rows, {**rows[0], "tasks": ["pull"]}]
    result = bring(recording.write(tmp_path / "d"), tmp_path / "o")
    assert frames(tmp_path / "o") == [own(1, 6)]
    assert "episode 0 is in the table of episodes twice, with other words or places" in result.invalid[0]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"total_episodes": 4}, "promises 4 episodes and the tables hold 3"),
        ({"total_frames": 99}, "promises 99 frames and the tables hold 15"),
        ({"splits": {"train": "0:2", "val": "1:3"}}, "Episodes 1 to 1 are of two splits, train and val"),
        ({"splits": {"train": [0, 1, 2]}}, "The split 'train' is no range"),
    ],
)
def test_counts_are_compared(tmp_path: Path, info: dict[str, Any], message: str) -> None:
    result = bring(Recording(lengths=[5, 6, 4], info=info).write(tmp_path / "d"), tmp_path / "o")
    assert result.episodes == 3
    assert any(message in finding.what for finding in validate(tmp_path / "o") if finding.severity == "note")


def test_a_task_may_be_a_text_instead_of_a_list(tmp_path: Path) -> None:
    recording = Recording(lengths=[3], rows=lambda rows: [{**row, "tasks": "push"} for row in rows])
    episode = open_lerobot(recording.write(tmp_path / "d"), Hints()).read(0)
    assert (episode.instruction, episode.instruction_alternatives) == ("push", ())


def test_an_episode_that_the_table_lacks_is_named(tmp_path: Path) -> None:
    recording = Recording(lengths=[5, 6, 4], rows=lambda rows: [rows[0], rows[2]])
    source = open_lerobot(recording.write(tmp_path / "d"), Hints())
    assert any("The table of episodes lacks 1" in note for note in source.notes)


def test_statistics_of_other_frames_are_not_believed(tmp_path: Path) -> None:
    root = Recording(lengths=[5]).write(tmp_path / "d")
    small = {"min": [-0.1, -0.1], "max": [0.1, 0.1]}
    (root / "meta/stats.json").write_text(json.dumps({"observation.state": small, "action": small}))
    source = open_lerobot(root, Hints())
    assert sum("they are of other frames" in note for note in source.notes) == 2
    assert all(d.high > 0.2 for d in source.contract.state)


# Rows that are no rows of numbers.


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([[0.0, 1.0]] * 5 + [[np.nan, 0.0]], "expected finite numbers, got nan at step 5, column 0"),
        ([[0.0], [0.0, 1.0, 2.0], *[[0.0, 1.0]] * 4], "rows of different lengths, 1 numbers and at step 1 3"),
        ([[0.0, 1.0], None, *[[0.0, 1.0]] * 4], "a value is missing at step 1"),
        ([[0.0, 1.0], [0.0, None], *[[0.0, 1.0]] * 4], "a value is missing at step 1"),
        ([[0.0, 1.0, 2.0]] * 6, "expected 2 numbers of observation.state in each frame, as .* says, got 3"),
    ],
    ids=["nan", "ragged", "no row", "no number", "wide"],
)
def test_rows_that_cannot_be_read_are_left_out_alone(tmp_path: Path, state: Any, message: str) -> None:
    recording = Recording(lengths=[5, 6, 4], columns={1: {"observation.state": state}})
    root = recording.write(tmp_path / "d")
    with pytest.raises(DatasetError, match=f"episode 1: .*{message}"):
        bring(root, tmp_path / "e", skip_invalid=False)
    result = bring(root, tmp_path / "o")
    assert [line.partition(":")[0] for line in result.invalid] == ["episode 1"]
    assert frames(tmp_path / "o") == [own(0, 5), own(2, 4)]
    assert all(abs(d.high) < 2 for d in Dataset.open(tmp_path / "o").contract.state)


def test_whole_numbers_beyond_32_bits_are_refused_and_others_are_exact(tmp_path: Path) -> None:
    ticks = np.array([[2**24 + 1, 0], [2**24 + 3, 0]])
    columns = {n: {"observation.state": t.tolist()} for n, t in enumerate([ticks - 2**24, ticks])}
    result = bring(Recording(lengths=[2, 2], columns=columns, kind="int64").write(tmp_path / "d"), tmp_path / "o")
    assert "int64 16777217 at step 0, column 0 would become 16777216.0 in 32 bits" in result.invalid[0]
    assert Dataset.open(tmp_path / "o").state[:, 0].tolist() == [1.0, 3.0]


def test_text_where_numbers_should_be(tmp_path: Path) -> None:
    columns = {n: {"observation.state": [["0", "1"]] * 3} for n in range(2)}
    result = bring(Recording(lengths=[3, 3], columns=columns).write(tmp_path / "d"), tmp_path / "o")
    assert len(result.invalid) == 2
    assert "observation.state: expected numbers, got string" in result.invalid[0]


# Clocks.


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        ([0, 1, 2, 2, 3, 4], "the timestamp stands still at step 3: 0.0666667 s after 0.0666667 s"),
        ([0, 1, 2, 1, 2, 3], "the timestamp goes back at step 3: 0.0333333 s after 0.0666667 s"),
        ([0, 1, np.nan, 3, 4, 5], "timestamp: expected a time at each step, got none at step 2"),
        ([5.1e10] * 6, "the timestamp stands still at step 1: 1.7e.09 s"),  # seconds since 1970 in 32 bits
    ],
)
def test_rows_whose_order_nobody_knows_are_left_out_alone(tmp_path: Path, stamps: list[float], message: str) -> None:
    columns = {1: {"timestamp": (np.array(stamps) / FPS).astype(np.float32)}}
    result = bring(Recording(lengths=[5, 6, 4], columns=columns).write(tmp_path / "d"), tmp_path / "o")
    assert len(result.invalid) == 1
    assert re.search(f"episode 1: .*{message}", result.invalid[0])
    assert frames(tmp_path / "o") == [own(0, 5), own(2, 4)]


def test_a_hole_in_time_stays_one_and_is_named(tmp_path: Path) -> None:
    stamps = (np.arange(6) + np.array([0, 0, 0, 90, 90, 90])) / FPS
    columns = {1: {"timestamp": stamps.astype(np.float32)}}
    result = bring(Recording(lengths=[5, 6], columns=columns).write(tmp_path / "d"), tmp_path / "o")
    assert frames(tmp_path / "o") == [own(0, 5), own(1, 6)]  # as many frames as rows: they are counted
    dataset = Dataset.open(tmp_path / "o")
    np.testing.assert_allclose(dataset.read_rows(1).time_ns / 1e9, stamps, atol=1e-6)
    assert dataset.read_rows(0).time_ns.tolist() == [step * 1_000_000_000 // FPS for step in range(5)]
    assert "episode 1: 1 holes in time, the longest of 3.03 s after step 2: rows are missing" in result.notes
    assert any("holes in time" in what for what in said(tmp_path / "o"))
    assert any("3033.3 ms after step 2" in finding.what for finding in validate(tmp_path / "o", "deep"))


# Pictures.


def test_depth_in_mm_keeps_every_bit(tmp_path: Path) -> None:
    def depth(episode: int, step: int) -> np.ndarray:
        return (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 40 + 7 * step + episode).astype(np.uint16)

    def pictures(episode: int, step: int) -> bytes:
        grey = episode == 1 and step == 3
        return png(depth(episode, step).astype(np.uint8) if grey else depth(episode, step))

    recording = Recording(lengths=[5, 6, 4], pictures=pictures, channels=1)
    result = bring(recording.write(tmp_path / "d"), tmp_path / "o")
    assert "episode 1, step 3: expected a picture (32, 48, 1) of observation.images.top, got" in result.invalid[0]
    dataset = Dataset.open(tmp_path / "o")
    (camera,) = dataset.contract.cameras
    assert (camera.kind, dataset.codecs) == ("depth", {"top": "zstd"})
    for number, (episode, steps) in enumerate([(0, 5), (2, 4)]):
        expected = np.stack([depth(episode, step) for step in range(steps)])[..., None]
        assert np.array_equal(dataset.read_episode(number).images["top"], expected)
    assert any("16 bits, which is taken as distances in mm" in finding.what for finding in validate(tmp_path / "o"))


def test_a_picture_that_asks_to_be_turned(tmp_path: Path) -> None:
    """The camera stands on its side; the table has the size before the turn."""
    exif = Image.Exif()
    exif[0x0112] = 6

    def pictures(episode: int, step: int) -> bytes:
        buffer = io.BytesIO()
        stored = np.rot90(painted(episode, step), 1)
        Image.fromarray(np.ascontiguousarray(stored)).save(buffer, "PNG", exif=exif)
        return buffer.getvalue()

    recording = Recording(lengths=[3], pictures=pictures)
    features = recording._features()
    features[CAMERA]["shape"] = [WIDTH, HEIGHT, 3]
    recording.info["features"] = features
    result = bring(recording.write(tmp_path / "d"), tmp_path / "o")
    assert result.invalid == ()
    assert frames(tmp_path / "o") == [own(0, 3)]
    assert any("is turned as its EXIF orientation 6 says" in finding.what for finding in validate(tmp_path / "o"))


# Files that are something else.

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 99\n"
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.mark.parametrize("name", ["data/chunk-000/file-000.parquet", f"{VIDEO}/chunk-000/file-000.mp4"])
@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (LFS, "it is a Git LFS pointer, not the file itself: run git lfs pull"),
        (b"", "it is empty .0 bytes."),
        (PAGE, "it is an HTML page .'Please log in'., not a"),
        (b"PK\x03\x04" + bytes(99), "got a zip archive: unpack it"),
        (bytes(9999), "zero bytes: the copy or the disk lost its content"),
        (None, "is missing"),
    ],
    ids=["lfs", "empty", "page", "zip", "zeros", "missing"],
)
def test_the_true_cause_of_each_file(tmp_path: Path, name: str, content: bytes | None, cause: str) -> None:
    root = Recording(lengths=[5, 6]).write(tmp_path / "d")
    (root / name).unlink()
    if content is not None:
        (root / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{name}: .*{cause}"):
        bring(root, tmp_path / "o", skip_invalid=False)


@pytest.mark.parametrize("name", ["info.json", "tasks.parquet", "episodes/chunk-000/file-000.parquet"])
@pytest.mark.parametrize(("content", "cause"), [(LFS, "Git LFS pointer"), (b"", "empty"), (PAGE, "HTML page")])
def test_the_true_cause_of_each_table(tmp_path: Path, name: str, content: bytes, cause: str) -> None:
    root = Recording(lengths=[5, 6]).write(tmp_path / "d")
    (root / "meta" / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{name}: .*{cause}"):
        bring(root, tmp_path / "o")


def test_an_archive_of_a_dataset_is_named(tmp_path: Path) -> None:
    root = Recording(lengths=[3]).write(tmp_path / "d")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(root / "meta/info.json", "meta/info.json")
    with pytest.raises(DatasetError, match=r"d\.zip: .*a zip archive: unpack it"):
        bring(tmp_path / "d.zip", tmp_path / "o")


# The same path again.


def test_a_dataset_that_grew_and_whose_words_were_corrected(tmp_path: Path) -> None:
    """Its limits are others then, too."""
    recording = Recording(lengths=[5, 6])
    assert bring(recording.write(tmp_path / "d"), tmp_path / "o").episodes == 2
    more = Recording(lengths=[5, 6, 4], words="push the block")
    more.columns[2] = {"observation.state": [[0.97, 0.97]] * 4}
    result = bring(more.write(tmp_path / "d"), tmp_path / "o")
    assert (result.episodes, result.duplicates, len(result.changed)) == (1, 0, 2)
    assert "instruction 'push' → 'push the block'" in result.changed[0]
    assert any("state a leaves" in note for note in result.notes)
    assert [record.instruction for record in Dataset.open(tmp_path / "o").episodes] == ["push the block"] * 3


def test_other_recordings_at_the_same_path(tmp_path: Path) -> None:
    bring(Recording(lengths=[5, 6]).write(tmp_path / "d"), tmp_path / "o")
    tuesday = Recording(lengths=[4, 5, 6, 7])
    for number, steps in enumerate(tuesday.lengths):
        tuesday.columns[number] = {"action": np.full((steps, 2), number / 10).tolist()}
    result = bring(tuesday.write(tmp_path / "d"), tmp_path / "o")
    assert (result.episodes, result.duplicates, result.changed) == (4, 0, ())
    assert frames(tmp_path / "o") == [own(0, 5), own(1, 6), own(0, 4), own(1, 5), own(2, 6), own(3, 7)]
