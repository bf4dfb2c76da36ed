"""Datasets as LeRobot datasets: what a reader of that format finds, and what comes back."""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.media.video import AV1, decode_mp4, encode_mp4, frame_count
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.formats.lerobot.export import export_lerobot
from vla.datasets.formats.lerobot.files import ParquetFiles, VideoFiles
from vla.datasets.formats.lerobot.source import open_lerobot
from vla.datasets.formats.lerobot.statistics import count_pixels, vector_statistics
from vla.datasets.formats.source import Hints
from vla.datasets.store.episode_check import check_episode
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

NO_HINTS = Hints()
LENGTHS = (5, 3, 1, 8)


Store = Callable[[Contract, Sequence[Episode]], Dataset]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Puts episodes on disk as a dataset of our own."""

    def store(contract: Contract, episodes: Sequence[Episode]) -> Dataset:
        root = tmp_path / "stored"
        create_dataset(root, contract)
        with SegmentWriter(root, contract, {}) as writer:
            for episode in episodes:
                writer.append(episode)
            publish(root, [writer.seal()], "test")
        return Dataset.open(root)

    return store


@pytest.fixture
def contract() -> Contract:
    def dimensions(prefix: str, count: int) -> tuple[Dimension, ...]:
        return tuple(Dimension(name=f"{prefix}{i}", unit="rad", low=-3.0, high=3.5) for i in range(count))

    cameras = (Camera(name="front", height=64, width=96), Camera(name="wrist", height=32, width=48))
    action = dimensions("a", 4)
    return Contract(
        robot="arm", cameras=cameras, state=dimensions("s", 5), action=action, gripper="a3", control_hz=20.0
    )


def smooth(steps: int, camera: Camera, seed: int) -> np.ndarray:
    """Pictures that a lossy codec can hold: slopes that move."""
    y, x = np.mgrid[: camera.height, : camera.width]
    frames = [np.stack([x + 9 * step, y + 5 * seed, 100 + 0 * x], axis=2) % 200 for step in range(steps)]
    return np.array(frames).astype(np.uint8)


@pytest.fixture
def make(contract: Contract) -> Callable[..., Episode]:
    """Episodes of which a LeRobot dataset holds everything."""

    def make(steps: int, number: int, **changes: Any) -> Episode:
        rng = np.random.default_rng(number)
        action = rng.standard_normal((steps, 4)).astype(np.float32)
        time_ns = np.arange(steps, dtype=np.int64) * 50_000_000
        instruction = f"put block {number % 2} on the 盘子"
        values: dict[str, Any] = {
            "images": {camera.name: smooth(steps, camera, number) for camera in contract.cameras},
            "state": rng.standard_normal((steps, 5)).astype(np.float32),
            "action": action,
            "action_executed": action,
            "reward": rng.random(steps).astype(np.float32),
            "done": np.arange(steps) == steps - 1,
            "valid": np.ones(steps, bool),
            "time_ns": time_ns,
            "command_time_ns": time_ns,
            "instruction": instruction,
            "task": instruction,
            "split": "train" if number < 3 else "test",
            "seed": 0,
            "success": number % 2 == 0,
        }
        return Episode(**{**values, **changes})

    return make


@pytest.fixture
def recorded(store: Store, contract: Contract, make: Callable[..., Episode]) -> Dataset:
    return store(contract, [make(steps, seed) for seed, steps in enumerate(LENGTHS)])


@pytest.mark.parametrize("use_videos", [True, False])
def test_everything_comes_back(recorded: Dataset, tmp_path: Path, use_videos: bool) -> None:
    written: list[int] = []
    out = tmp_path / "a new folder" / "out é"
    exported = export_lerobot(recorded, out, on_episode=written.append, use_videos=use_videos)
    assert (exported.episodes, exported.steps, written) == (4, 17, list(LENGTHS))
    assert len(exported.lost) == use_videos  # only pixels
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    source = open_lerobot(out, NO_HINTS)
    assert source.contract == recorded.contract
    for number in range(4):
        ours, theirs = recorded.read_episode(number), source.read(number)
        check_episode(theirs, source.contract)
        for name in ("state", "action", "action_executed", "reward", "done", "valid", "time_ns", "command_time_ns"):
            np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name), err_msg=name)
        for name in ("instruction", "instruction_alternatives", "task", "split", "success"):
            assert getattr(theirs, name) == getattr(ours, name)
        for camera, frames in ours.images.items():
            distance = np.abs(theirs.images[camera].astype(int) - frames)
            assert distance.max() == 0 if not use_videos else distance.mean() < 6


def test_a_dataset_of_our_own(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = make_dataset([[5, 3], [4]])
    exported = export_lerobot(dataset, tmp_path / "out", use_videos=False)
    assert exported.steps == 12
    source = open_lerobot(tmp_path / "out", NO_HINTS)
    for number in range(3):
        ours, theirs = dataset.read_episode(number), source.read(number)
        np.testing.assert_array_equal(theirs.state, ours.state)
        np.testing.assert_array_equal(theirs.action, ours.action)
        for camera, frames in ours.images.items():
            np.testing.assert_array_equal(theirs.images[camera], frames)
    text = " ".join(exported.lost)
    for word in ("action_executed", "commands left", "Alternative", "Task", "Seeds"):
        assert word in text


def test_the_files_are_those_of_version_3(recorded: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_lerobot(recorded, out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "videos/observation.images.front/chunk-000/file-000.mp4",
        "videos/observation.images.wrist/chunk-000/file-000.mp4",
    ]
    info = json.loads((out / "meta/info.json").read_text(encoding="utf-8"))
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "arm",
        "total_episodes": 4,
        "total_frames": 17,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 20,
        "splits": {"train": "0:3", "test": "3:4"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    assert isinstance(info["fps"], int)
    assert {key: (f["dtype"], f["shape"]) for key, f in features.items()} == {
        "observation.state": ("float32", [5]),
        "action": ("float32", [4]),
        "observation.images.front": ("video", [64, 96, 3]),
        "observation.images.wrist": ("video", [32, 48, 3]),
        "next.reward": ("float32", [1]),
        "next.done": ("bool", [1]),
        "next.success": ("bool", [1]),
        "timestamp": ("float32", [1]),
        "frame_index": ("int64", [1]),
        "episode_index": ("int64", [1]),
        "index": ("int64", [1]),
        "task_index": ("int64", [1]),
    }
    assert features["action"]["names"] == ["a0", "a1", "a2", "a3"]
    assert features["observation.images.front"]["names"] == ["height", "width", "channels"]
    assert features["observation.images.front"]["info"]["video.codec"] == "av1"


def test_frames_have_the_types_that_readers_expect(recorded: Dataset, tmp_path: Path) -> None:
    export_lerobot(recorded, tmp_path / "out", use_videos=False)
    with pq.ParquetFile(tmp_path / "out/data/chunk-000/file-000.parquet") as file:
        schema, table, groups = file.schema_arrow, file.read(), file.num_row_groups
    assert groups == 4
    types = {field.name: field.type for field in schema}
    assert types["observation.state"].equals(pa.list_(pa.float32(), 5))
    assert types["action"].equals(pa.list_(pa.float32(), 4))
    assert types["next.done"].equals(pa.bool_())
    assert types["timestamp"].equals(pa.float32())
    assert types["task_index"].equals(pa.int64())
    assert types["observation.images.front"].equals(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(described) == schema.names
    value = {"dtype": "float32", "_type": "Value"}
    assert described["action"] == {"feature": value, "length": 4, "_type": "Sequence"}
    assert described["next.reward"] == value
    assert described["observation.images.wrist"] == {"_type": "Image"}
    assert table["index"].to_pylist() == list(range(17))
    assert table["episode_index"].to_pylist() == [0] * 5 + [1] * 3 + [2] + [3] * 8
    assert table["frame_index"].to_pylist() == [*range(5), *range(3), 0, *range(8)]
    assert table["task_index"].to_pylist() == [0] * 5 + [1] * 3 + [0] + [1] * 8
    expected = np.concatenate([np.arange(n) / 20 for n in LENGTHS]).astype(np.float32)
    np.testing.assert_array_equal(table["timestamp"].to_numpy(), expected)
    picture = table["observation.images.wrist"][16].as_py()
    assert picture["path"] == "frame-000007.png"
    pixels = np.asarray(Image.open(io.BytesIO(picture["bytes"])))
    np.testing.assert_array_equal(pixels, recorded.read_episode(3).images["wrist"][7])


def test_the_table_of_episodes(recorded: Dataset, tmp_path: Path) -> None:
    export_lerobot(recorded, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    starts = [0, 5, 8, 9]
    for number, (row, first, steps) in enumerate(zip(rows, starts, LENGTHS, strict=True)):
        assert row["episode_index"] == number
        assert row["tasks"] == [f"put block {number % 2} on the 盘子"]
        assert row["length"] == steps
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (first, first + steps)
        for place in ("data", "meta/episodes", "videos/observation.images.front", "videos/observation.images.wrist"):
            assert (row[f"{place}/chunk_index"], row[f"{place}/file_index"]) == (0, 0)
        for key in ("front", "wrist"):
            assert row[f"videos/observation.images.{key}/from_timestamp"] == first / 20
            assert row[f"videos/observation.images.{key}/to_timestamp"] == (first + steps) / 20
        state = recorded.read_episode(number).state
        assert row["stats/observation.state/max"] == state.max(0).tolist()
        assert row["stats/observation.state/count"] == [steps]
        assert np.array(row["stats/observation.images.front/mean"]).shape == (3, 1, 1)
        assert row["stats/index/min"] == [first]
    names = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")
    for key in json.loads((tmp_path / "out/meta/info.json").read_text(encoding="utf-8"))["features"]:
        assert all(f"stats/{key}/{name}" in rows[0] for name in names)


def test_statistics_of_all_are_exact(recorded: Dataset, tmp_path: Path) -> None:
    export_lerobot(recorded, tmp_path / "out")
    statistics = json.loads((tmp_path / "out/meta/stats.json").read_text(encoding="utf-8"))
    rows = np.concatenate([recorded.read_episode(i).action for i in range(4)]).astype(np.float64)
    of_action = statistics["action"]
    assert of_action["count"] == [17]
    np.testing.assert_allclose(of_action["mean"], rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(of_action["std"], rows.std(0), rtol=1e-12)
    for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        np.testing.assert_allclose(of_action[name], np.quantile(rows, share, axis=0), rtol=1e-12)
    frames = np.concatenate([recorded.read_episode(i).images["wrist"] for i in range(4)]) / 255.0
    of_wrist = statistics["observation.images.wrist"]
    assert of_wrist["count"] == [17]
    for name, expected in (
        ("min", frames.min((0, 1, 2))),
        ("max", frames.max((0, 1, 2))),
        ("mean", frames.mean((0, 1, 2))),
        ("std", frames.std((0, 1, 2))),
        ("q10", np.quantile(frames, 0.1, axis=(0, 1, 2))),
        ("q99", np.quantile(frames, 0.99, axis=(0, 1, 2))),
    ):
        np.testing.assert_allclose(
            np.array(of_wrist[name]), expected[:, None, None], rtol=1e-9, atol=1e-9, err_msg=name
        )


def test_large_and_long_videos_are_sampled() -> None:
    frames = np.zeros((120, 300, 310, 3), np.uint8)
    frames[1::2] = 255
    pixels = count_pixels(frames)
    assert pixels.frames == 100
    assert pixels.counts.sum(axis=1).tolist() == [100 * 150 * 155] * 3
    assert abs(np.array(pixels.statistics()["mean"]).ravel() - 0.5).max() < 0.05


def test_statistics_of_one_frame() -> None:
    one = vector_statistics(np.array([[1.0, 2.0]], np.float32))
    assert one["std"] == [0.0, 0.0]
    assert one["q01"] == one["q99"] == one["mean"] == [1.0, 2.0]


def test_tasks_are_the_index_of_a_pandas_table(recorded: Dataset, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    export_lerobot(recorded, tmp_path / "out")
    tasks = pandas.read_parquet(tmp_path / "out/meta/tasks.parquet")
    assert tasks.index.name == "task"
    assert list(tasks.columns) == ["task_index"]
    assert int(tasks.loc["put block 1 on the 盘子"].task_index) == 1
    frames = pandas.read_parquet(tmp_path / "out/data/chunk-000/file-000.parquet")
    np.testing.assert_array_equal(np.stack(frames["action"])[:5], recorded.read_episode(0).action)


def test_full_files_are_followed_by_others(recorded: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("DATA_MB", "VIDEO_MB"):
        monkeypatch.setattr(f"vla.datasets.formats.lerobot.export.{limit}", 1e-6)
    out = tmp_path / "out"
    export_lerobot(recorded, out)
    assert len(list((out / "data").rglob("*.parquet"))) == 4
    assert len(list((out / "videos").rglob("*.mp4"))) == 8
    rows = pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["data/file_index"] for row in rows] == [0, 1, 2, 3]
    assert [row["videos/observation.images.front/from_timestamp"] for row in rows] == [0.0] * 4
    source = open_lerobot(out, NO_HINTS)
    for number in (2, 0, 3):
        np.testing.assert_array_equal(source.read(number).state, recorded.read_episode(number).state)


def test_a_folder_holds_a_thousand_files(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0]})
    with ParquetFiles(tmp_path, "{chunk_index}/{file_index}", 1e-9) as files:
        places = []
        for _ in range(1002):
            places.append(files.begin(1))
            files.write(table)
    assert places[0] == (0, 0)
    assert places[999:] == [(0, 999), (1, 0), (1, 1)]


def test_videos_begin_at_whole_frames(tmp_path: Path) -> None:
    """At 29.97 frames a second sums of times would drift; each is one division."""
    rate = Fraction(2997, 100)
    part = encode_mp4(np.zeros((7, 32, 32, 3), np.uint8), rate, AV1)
    with VideoFiles(tmp_path, "k", rate, 1.0) as files:
        rows = [files.append(part) for _ in range(50)]
    for number, row in enumerate(rows):
        assert row["videos/k/from_timestamp"] == float(Fraction(7 * number) / rate)
        assert row["videos/k/to_timestamp"] == float(Fraction(7 * number + 7) / rate)
    assert frame_count(tmp_path / "videos/k/chunk-000/file-000.mp4") == 350


def test_cameras_with_a_clock_are_resampled(
    store: Store, contract: Contract, make: Callable[..., Episode], tmp_path: Path
) -> None:
    frames = smooth(9, contract.cameras[0], 1)
    clock = np.array([-10, 20, 40, 60, 80, 100, 149, 151, 400], np.int64) * 1_000_000
    episode = make(4, 0)
    episode = dataclasses.replace(episode, images={**episode.images, "front": frames}, image_time_ns={"front": clock})
    front = dataclasses.replace(contract.cameras[0], hz=50.0)
    contract = dataclasses.replace(contract, cameras=(front, contract.cameras[1]))
    exported = export_lerobot(store(contract, [episode]), tmp_path / "out", use_videos=False)
    assert any("clocks of cameras with their own, in 1 episodes" in sentence for sentence in exported.lost)
    images = open_lerobot(tmp_path / "out", NO_HINTS).read(0).images["front"]
    np.testing.assert_array_equal(images, frames[[0, 2, 5, 6]])  # steps at 0, 50, 100 and 150 ms


LOSSES = [
    ({"action_executed": np.ones((4, 4), np.float32)}, "action_executed"),
    ({"command_time_ns": np.arange(4, dtype=np.int64)}, "commands left"),
    ({"time_ns": np.array([0, 1, 2, 9], np.int64) * 50_000_000}, "not multiples of the step"),
    ({"valid": np.array([True, False, True, True])}, "may be learned from"),
    ({"instruction_alternatives": ("do it",)}, "Alternative instructions"),
    ({"task": "put"}, "Task names"),
    ({"seed": 4}, "Seeds"),
    ({"sim_state": np.zeros((4, 2))}, "simulator"),
    ({"provenance": {"operator": "x"}}, "Provenance"),
]


@pytest.mark.parametrize(("changes", "words"), LOSSES, ids=[next(iter(c)) for c, _ in LOSSES])
def test_losses_are_named(
    store: Store, contract: Contract, make: Callable[..., Episode], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    exported = export_lerobot(store(contract, [make(4, 0), make(4, 2, **changes)]), tmp_path / "out", use_videos=False)
    assert len(exported.lost) == (2 if "time_ns" in changes else 1), exported.lost
    assert any(words in sentence and "1 episodes" in sentence for sentence in exported.lost)


def test_signals_are_lost(store: Store, contract: Contract, make: Callable[..., Episode], tmp_path: Path) -> None:
    contract = dataclasses.replace(contract, signals={"place": contract.state[:1]})
    dataset = store(contract, [make(4, 0, signals={"place": np.zeros((4, 1), np.float32)})])
    exported = export_lerobot(dataset, tmp_path / "out", use_videos=False)
    assert exported.lost == ("Signals beside states and actions, in 1 episodes.",)


def test_success_that_is_known_of_some_is_left_out(
    store: Store, contract: Contract, make: Callable[..., Episode], tmp_path: Path
) -> None:
    exported = export_lerobot(
        store(contract, [make(4, 0), make(4, 1, success=None)]), tmp_path / "out", use_videos=False
    )
    assert any("Whether the episode succeeded, in 1 episodes" in sentence for sentence in exported.lost)
    assert open_lerobot(tmp_path / "out", NO_HINTS).read(0).success is None


def test_splits_that_are_not_ranges(
    store: Store, contract: Contract, make: Callable[..., Episode], tmp_path: Path
) -> None:
    episodes = [make(2, seed, split=split) for seed, split in enumerate(("train", "test", "train"))]
    exported = export_lerobot(store(contract, episodes), tmp_path / "out", use_videos=False)
    assert any("Splits are not ranges" in sentence for sentence in exported.lost)
    assert open_lerobot(tmp_path / "out", NO_HINTS).read(1).split == "train"


def test_one_number_and_none(store: Store, contract: Contract, make: Callable[..., Episode], tmp_path: Path) -> None:
    contract = dataclasses.replace(contract, state=(), action=contract.action[:1], gripper=None)
    action = np.arange(3, dtype=np.float32)[:, None]
    episode = make(3, 0, state=np.empty((3, 0), np.float32), action=action, action_executed=action)
    export_lerobot(store(contract, [episode]), tmp_path / "out", use_videos=False)
    with pq.ParquetFile(tmp_path / "out/data/chunk-000/file-000.parquet") as file:
        assert file.schema_arrow.field("action").type.equals(pa.float32())
    source = open_lerobot(tmp_path / "out", NO_HINTS)
    assert source.contract == contract
    np.testing.assert_array_equal(source.read(0).action, action)
    assert source.read(0).state.shape == (3, 0)


def test_depth_is_not_exported(store: Store, contract: Contract, make: Callable[..., Episode], tmp_path: Path) -> None:
    depth = Camera(name="far", height=4, width=5, kind="depth")
    contract = dataclasses.replace(contract, cameras=(*contract.cameras, depth))
    episode = make(3, 0)
    images = {**episode.images, "far": np.full((3, 4, 5, 1), 700, np.uint16)}
    episode = dataclasses.replace(episode, images=images)
    exported = export_lerobot(store(contract, [episode]), tmp_path / "out", use_videos=False)
    assert exported.lost == ("Depth camera far.",)
    assert [c.name for c in open_lerobot(tmp_path / "out", NO_HINTS).contract.cameras] == ["front", "wrist"]


def test_an_existing_target_is_refused(recorded: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="exists; name another target"):
        export_lerobot(recorded, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_no_episodes_are_refused(recorded: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "episodes", [])
    with pytest.raises(DatasetError, match="at least 1 episode"):
        export_lerobot(recorded, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("use_videos", [True, False])
def test_a_failure_leaves_nothing(
    store: Store,
    contract: Contract,
    make: Callable[..., Episode],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_videos: bool,
) -> None:
    dataset = store(contract, [make(3, 0), make(3, 1)])
    read = Dataset.read_episode

    def damaged(self: Dataset, number: int) -> Episode:
        if number == 1:
            raise DatasetError("damaged")
        return read(self, number)

    monkeypatch.setattr(Dataset, "read_episode", damaged)
    folder = tmp_path / "exports"
    with pytest.raises(DatasetError, match="damaged"):
        export_lerobot(dataset, folder / "out", use_videos=use_videos)
    assert not list(folder.iterdir())


def test_pictures_too_small_for_a_video_name_the_way_out(
    store: Store, contract: Contract, make: Callable[..., Episode], tmp_path: Path
) -> None:
    tiny = Camera(name="front", height=2, width=3)
    contract = dataclasses.replace(contract, cameras=(tiny,))
    episode = make(3, 0, images={"front": np.zeros((3, 2, 3, 3), np.uint8)})
    with pytest.raises(DatasetError, match=r"episode 0, camera front.*use_videos=False"):
        export_lerobot(store(contract, [episode]), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["stored"]


def test_joined_videos_hold_each_episode_in_its_place(recorded: Dataset, tmp_path: Path) -> None:
    export_lerobot(recorded, tmp_path / "out")
    path = tmp_path / "out/videos/observation.images.front/chunk-000/file-000.mp4"
    whole = decode_mp4(path)
    ours = np.concatenate([recorded.read_episode(i).images["front"] for i in range(4)])
    assert whole.shape == ours.shape
    distances = np.abs(whole.astype(int)[:, None] - ours[None]).mean(axis=(2, 3, 4))  # (17, 17)
    np.testing.assert_array_equal(distances.min(axis=1), np.diagonal(distances))
