"""LeRobot datasets, laid out as LeRobot's own writer does."""

import io
import json
import pickle
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vla.core.errors import DatasetError
from vla.core.media.video import AV1, H264, Encoding, encode_mp4
from vla.datasets.care.checker import check_dataset
from vla.datasets.formats.importing import ImportSettings, import_source
from vla.datasets.formats.lerobot.source import open_lerobot, recognise
from vla.datasets.formats.source import Hints, Source
from vla.datasets.store.episode_check import check_episode

HEIGHT, WIDTH = 64, 96
LENGTHS = (5, 9, 1, 7)
TASKS = ("Stelle die Tasse auf den grünen Teller", "pick up the 积木")
KEY = "observation.images.front"
COUNTERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
NO_HINTS = Hints()


def numbered(episode: int, steps: int) -> np.ndarray:
    """Frames whose columns are the bits of 16 * episode + step."""
    frames = np.zeros((steps, HEIGHT, WIDTH, 3), np.uint8)
    for step in range(steps):
        for bit in range(8):
            if (16 * episode + step) >> bit & 1:
                frames[step, :48, bit * WIDTH // 8 : (bit + 1) * WIDTH // 8] = 255
    frames[:, 48:, :, 0] = 200
    return frames


def numbers(frames: np.ndarray) -> list[int]:
    """What `numbered` wrote."""
    bits = [frames[:, :32, bit * WIDTH // 8 + 2 : (bit + 1) * WIDTH // 8 - 2].mean(axis=(1, 2, 3)) for bit in range(8)]
    return [sum(int(bits[bit][step] > 128) << bit for bit in range(8)) for step in range(len(frames))]


def png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def vectors(episode: int, steps: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([episode, seed]).standard_normal((steps, width)).astype(np.float32)


def feature(dtype: str, shape: Sequence[int], names: Any = None, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": names, **more}


def camera_feature(dtype: str) -> dict[str, Any]:
    info = {"video.fps": 30.0, "video.codec": "av1", "video.is_depth_map": False, "has_audio": False}
    more = {"info": info} if dtype == "video" else {}
    return feature(dtype, (HEIGHT, WIDTH, 3), ["height", "width", "channels"], **more)


def base_features(dtype: str) -> dict[str, Any]:
    return {
        "observation.state": feature("float32", (3,), {"motors": ["shoulder.pos", "elbow.pos", "gripper.pos"]}),
        "action": feature("float32", (2,), ["x", "y"]),
        KEY: camera_feature(dtype),
        "next.reward": feature("float32", (1,)),
        "next.done": feature("bool", (1,)),
        "next.success": feature("bool", (1,)),
        **{key: feature(kind, (1,)) for key, kind in COUNTERS.items()},
    }


def arrow(rows: np.ndarray) -> pa.Array:
    if rows.ndim == 1:
        return pa.array(rows)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def frame_table(episode: int, fps: float, storage: str) -> pa.Table:
    steps, first = LENGTHS[episode], sum(LENGTHS[:episode])
    frame = np.arange(steps)
    columns: dict[str, Any] = {
        "observation.state": arrow(vectors(episode, steps, 3)),
        "action": arrow(vectors(episode, steps, 2, 1)),
        "next.reward": arrow((frame == steps - 1).astype(np.float32)),
        "next.done": arrow(frame == steps - 1),
        "next.success": arrow((frame == steps - 1) & (episode % 2 == 0)),
        "timestamp": arrow((frame / fps).astype(np.float32)),
        "frame_index": arrow(frame),
        "episode_index": arrow(np.full(steps, episode)),
        "index": arrow(first + frame),
        "task_index": arrow(np.full(steps, 7 if episode % 2 else 3)),
    }
    if storage == "embedded":
        rows = [{"bytes": png(f), "path": f"frame-{i:06d}.png"} for i, f in enumerate(numbered(episode, steps))]
        columns[KEY] = pa.array(rows)
    return pa.table(columns)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_info(root: Path, version: str, fps: float, storage: str, **more: Any) -> None:
    info = {
        "codebase_version": version,
        "robot_type": "so100_follower",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "chunks_size": 1000,
        "fps": fps,
        "splits": {"train": "0:3", "test": "3:4"},
        "features": base_features("video" if storage == "video" else "image"),
        **more,
    }
    write_text(root / "meta/info.json", json.dumps(info))


def statistics(episodes: Sequence[int]) -> dict[str, Any]:
    def of(width: int, seed: int) -> dict[str, Any]:
        rows = np.concatenate([vectors(e, LENGTHS[e], width, seed) for e in episodes])
        return {"min": rows.min(0).tolist(), "max": rows.max(0).tolist(), "count": [len(rows)]}

    return {"observation.state": of(3, 0), "action": of(2, 1)}


def write_part(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def build_v21(root: Path, *, storage: str = "video", encoding: Encoding = AV1, fps: float = 30) -> Path:
    """One parquet and one mp4 file for each episode; tables are JSON lines."""
    for episode, steps in enumerate(LENGTHS):
        data = root / f"data/chunk-000/episode_{episode:06d}.parquet"
        data.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(frame_table(episode, fps, storage), data)
        if storage == "video":
            video = encode_mp4(numbered(episode, steps), fps, encoding)
            write_part(root / f"videos/chunk-000/{KEY}/episode_{episode:06d}.mp4", video)
        if storage == "folder":
            for step, frame in enumerate(numbered(episode, steps)):
                write_part(root / f"images/{KEY}/episode_{episode:06d}/frame_{step:06d}.png", png(frame))
    write_info(
        root,
        "v2.1",
        fps,
        storage,
        total_videos=len(LENGTHS),
        total_chunks=1,
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )
    tasks = [{"task_index": 7, "task": TASKS[1]}, {"task_index": 3, "task": TASKS[0]}]
    episodes = [{"episode_index": e, "tasks": [TASKS[e % 2]], "length": n} for e, n in enumerate(LENGTHS)]
    stats = [{"episode_index": e, "stats": statistics([e])} for e in range(len(LENGTHS))]
    for name, rows in (("tasks", tasks), ("episodes", episodes), ("episodes_stats", stats)):
        write_text(root / f"meta/{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return root


def concatenate(parts: Sequence[Path], target: Path) -> None:
    """As LeRobot joins videos: FFmpeg's concat demuxer, packets copied."""
    names = target.with_suffix(".txt")
    names.write_text("".join(f"file '{part}'\n" for part in parts))
    with (
        av.open(str(names), "r", format="concat", options={"safe": "0"}) as source,
        av.open(str(target), "w") as sink,
    ):
        stream = source.streams.video[0]
        out = sink.add_stream_from_template(stream, opaque=True)
        out.time_base = stream.time_base
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = out
                sink.mux(packet)
    for path in (names, *parts):
        path.unlink()


def build_v30(root: Path, *, storage: str = "video", encoding: Encoding = AV1, fps: float = 30) -> Path:
    """Episodes 0 to 2 in the first files, 3 in the second; tables are parquet."""
    rows: list[dict[str, Any]] = []
    for file, members in enumerate(((0, 1, 2), (3,))):
        data = root / f"data/chunk-000/file-{file:03d}.parquet"
        data.parent.mkdir(parents=True, exist_ok=True)
        tables = [frame_table(episode, fps, storage) for episode in members]
        with pq.ParquetWriter(data, tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)
        clock, parts = 0.0, []
        for episode in members:
            first, steps = sum(LENGTHS[:episode]), LENGTHS[episode]
            row = {
                "episode_index": episode,
                "tasks": [TASKS[episode % 2]],
                "length": steps,
                "data/chunk_index": 0,
                "data/file_index": file,
                "dataset_from_index": first,
                "dataset_to_index": first + steps,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                "stats/action/min": [0.0, 0.0],
            }
            if storage == "video":
                part = root / f"videos/{KEY}/chunk-000/part {episode}.mp4"
                parts.append(write_part(part, encode_mp4(numbered(episode, steps), fps, encoding)))
                row |= {
                    f"videos/{KEY}/chunk_index": 0,
                    f"videos/{KEY}/file_index": file,
                    f"videos/{KEY}/from_timestamp": clock,
                    f"videos/{KEY}/to_timestamp": clock + steps / fps,
                }
            clock += steps / fps
            rows.append(row)
        if parts:
            concatenate(parts, root / f"videos/{KEY}/chunk-000/file-{file:03d}.mp4")
    write_rows(root, rows)
    tasks = pa.table({"task_index": [7, 3], "__index_level_0__": [TASKS[1], TASKS[0]]})
    pq.write_table(tasks, root / "meta/tasks.parquet")
    write_text(root / "meta/stats.json", json.dumps(statistics(range(len(LENGTHS)))))
    write_info(
        root,
        "v3.0",
        fps,
        storage,
        data_files_size_in_mb=100,
        video_files_size_in_mb=200,
        data_path="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        video_path="videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    )
    return root


def read_rows(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    return rows


def write_rows(root: Path, rows: Sequence[dict[str, Any]]) -> None:
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


BUILDERS: dict[str, Callable[..., Path]] = {"v2.1": build_v21, "v3.0": build_v30}
VERSIONS = pytest.mark.parametrize("version", list(BUILDERS))


def edit_info(root: Path, **changes: Any) -> None:
    path = root / "meta/info.json"
    write_text(path, json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}))


def edit_feature(root: Path, key: str, **changes: Any) -> None:
    features = features_of(root)
    features[key] |= changes
    edit_info(root, features=features)


def features_of(root: Path) -> dict[str, Any]:
    features: dict[str, Any] = json.loads((root / "meta/info.json").read_text(encoding="utf-8"))["features"]
    return features


def edit_frames(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def set_column(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, values)


def first_data(root: Path, version: str) -> Path:
    return root / ("data/chunk-000/episode_000000.parquet" if version == "v2.1" else "data/chunk-000/file-000.parquet")


def first_video(root: Path, version: str) -> Path:
    name = f"chunk-000/{KEY}/episode_000000" if version == "v2.1" else f"{KEY}/chunk-000/file-000"
    return root / f"videos/{name}.mp4"


CASES = [
    ("v2.1", "video", AV1, 30),
    ("v2.1", "video", H264, 12.5),
    ("v2.1", "embedded", AV1, 30),
    ("v2.1", "folder", AV1, 30),
    ("v3.0", "video", AV1, 30),
    ("v3.0", "video", H264, 29.97),
    ("v3.0", "embedded", AV1, 10),
]


@pytest.mark.parametrize(
    ("version", "storage", "encoding", "fps"), CASES, ids=[f"{v}-{s}-{e.codec}-{f}" for v, s, e, f in CASES]
)
def test_every_frame_comes_back(tmp_path: Path, version: str, storage: str, encoding: Encoding, fps: float) -> None:
    root = BUILDERS[version](tmp_path / "data set é", storage=storage, encoding=encoding, fps=fps)
    assert recognise(root)
    source = open_lerobot(root, NO_HINTS)
    assert isinstance(source, Source)
    assert len(source) == len(LENGTHS)
    assert source.contract.robot == "so100_follower"
    assert source.contract.control_hz == fps
    rate = Fraction(str(fps))
    for number in (3, 0, 2, 1):
        steps = LENGTHS[number]
        episode = source.read(number)
        check_episode(episode, source.contract)
        assert numbers(episode.images["front"]) == [16 * number + step for step in range(steps)]
        np.testing.assert_array_equal(episode.state, vectors(number, steps, 3))
        np.testing.assert_array_equal(episode.action, vectors(number, steps, 2, 1))
        np.testing.assert_array_equal(episode.action_executed, episode.action)
        assert episode.time_ns.tolist() == [int(step * 1_000_000_000 / rate) for step in range(steps)]
        assert episode.instruction == episode.task == TASKS[number % 2]
        assert episode.instruction_alternatives == ()
        assert episode.split == ("test" if number == 3 else "train")
        assert episode.success is (number % 2 == 0)
        assert episode.reward.tolist() == [0.0] * (steps - 1) + [1.0]
        assert episode.done.tolist() == [False] * (steps - 1) + [True]
        assert episode.provenance == {"format": f"LeRobot {version}", "episode_index": number}
    if storage != "video":
        np.testing.assert_array_equal(source.read(1).images["front"], numbered(1, 9))


def test_hevc_is_read(tmp_path: Path) -> None:
    root = build_v30(tmp_path / "d")
    hevc = Encoding(codec="libx265", options={"x265-params": "log-level=error"})
    whole = np.concatenate([numbered(e, n) for e, n in enumerate(LENGTHS[:3])])
    first_video(root, "v3.0").write_bytes(encode_mp4(whole, 30, hevc))
    source = open_lerobot(root, NO_HINTS)
    for number in (1, 2, 0):
        assert numbers(source.read(number).images["front"]) == [16 * number + step for step in range(LENGTHS[number])]


@VERSIONS
def test_names_and_limits_come_from_the_data(tmp_path: Path, version: str) -> None:
    contract = open_lerobot(BUILDERS[version](tmp_path / "d", storage="embedded"), NO_HINTS).contract
    assert [d.name for d in contract.state] == ["shoulder.pos", "elbow.pos", "gripper.pos"]
    assert [d.name for d in contract.action] == ["x", "y"]
    assert contract.gripper is None
    rows = np.concatenate([vectors(e, n, 3) for e, n in enumerate(LENGTHS)])
    margin = 0.05 * np.ptp(rows, axis=0)
    np.testing.assert_allclose([d.low for d in contract.state], rows.min(0) - margin, rtol=1e-6)
    np.testing.assert_allclose([d.high for d in contract.state], rows.max(0) + margin, rtol=1e-6)
    assert {d.unit for d in contract.state} == {"1"}


@VERSIONS
def test_limits_without_statistics(tmp_path: Path, version: str) -> None:
    root = BUILDERS[version](tmp_path / "d", storage="embedded")
    next((root / "meta").glob("*stats*")).unlink()
    source = open_lerobot(root, NO_HINTS)
    rows = np.concatenate([vectors(e, n, 3) for e, n in enumerate(LENGTHS)])
    np.testing.assert_allclose([d.low for d in source.contract.state], rows.min(0) - 0.05 * np.ptp(rows, axis=0), 1e-6)
    assert any("statistics lack observation.state" in note for note in source.notes)


def test_a_number_that_never_moved_has_some_room(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    for number, steps in enumerate(LENGTHS):
        still = set_column("action", arrow(np.full((steps, 2), [2.0, 0.0], np.float32)))
        edit_frames(root / f"data/chunk-000/episode_{number:06d}.parquet", still)
    action = open_lerobot(root, NO_HINTS).contract.action
    assert [(d.low, d.high) for d in action] == [(1.9, 2.1), (-1e-3, 1e-3)]


def test_a_source_can_be_sent_to_another_process(tmp_path: Path) -> None:
    source = open_lerobot(build_v30(tmp_path / "d"), NO_HINTS)
    source.read(1)
    data = pickle.dumps(source)
    assert len(data) < 20_000
    assert numbers(pickle.loads(data).read(1).images["front"]) == list(range(16, 25))


def test_hints(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    source = open_lerobot(root, Hints(robot="arm", task="stack", split="val", control_hz=30.0))
    assert source.contract.robot == "arm"
    episode = source.read(3)
    assert (episode.task, episode.split, episode.instruction) == ("stack", "val", TASKS[1])
    with pytest.raises(DatasetError, match=r"has 30 frames a second, got control_hz 20"):
        open_lerobot(root, Hints(control_hz=20.0))


@pytest.mark.parametrize("robot", [None, "", "unknown"])
def test_an_unnamed_robot_is_noted(tmp_path: Path, robot: str | None) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    edit_info(root, robot_type=robot)
    source = open_lerobot(root, NO_HINTS)
    assert source.contract.robot == "unknown"
    assert any("does not name its robot" in note for note in source.notes)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ["state_0", "state_1", "state_2"]),
        (["a", "b"], ["state_0", "state_1", "state_2"]),
        (["a", "b", "b"], ["state_0", "state_1", "state_2"]),
        ([["a", "b", "c"]], ["a", "b", "c"]),
        ({"axes": ["x", "y", "z"]}, ["x", "y", "z"]),
        ({"delta_z": 2, "delta_x": 0, "delta_y": 1}, ["delta_x", "delta_y", "delta_z"]),
        ({"left": ["a", "b"], "right": ["c"]}, ["a", "b", "c"]),
    ],
)
def test_names_in_all_their_forms(tmp_path: Path, names: Any, expected: list[str]) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    edit_feature(root, "observation.state", names=names)
    assert [d.name for d in open_lerobot(root, NO_HINTS).contract.state] == expected


def test_other_vectors_are_the_state_only_without_one(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    features = features_of(root)
    features["observation.effort"] = feature("float64", (2,), ["x", "y"])
    features["observation.environment"] = feature("float32", (2,), ["x", "y"])
    edit_info(root, features=features)
    for episode, steps in enumerate(LENGTHS):
        path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
        effort, other = vectors(episode, steps, 2, 5).astype(np.float64), vectors(episode, steps, 2, 6)
        table = pq.read_table(path).append_column("observation.effort", arrow(effort))
        pq.write_table(table.append_column("observation.environment", arrow(other)), path)
    source = open_lerobot(root, NO_HINTS)
    assert len(source.contract.state) == 3
    assert "These features are left out: observation.effort, observation.environment." in source.notes
    del features["observation.state"]
    edit_info(root, features=features)
    source = open_lerobot(root, NO_HINTS)
    names = [d.name for d in source.contract.state]
    assert len(set(names)) == len(names) == 4
    assert any("observation.effort, observation.environment, side by side" in note for note in source.notes)
    assert any("64 bits are rounded" in note for note in source.notes)
    expected = np.concatenate([vectors(1, 9, 2, 5), vectors(1, 9, 2, 6)], axis=1)
    np.testing.assert_array_equal(source.read(1).state, expected)


def test_lists_of_any_length_and_single_numbers_are_read(tmp_path: Path) -> None:
    """Older recorders wrote lists without a fixed size, and one number without a list."""
    root = build_v21(tmp_path / "d", storage="embedded")
    path = first_data(root, "v2.1")
    edit_frames(path, set_column("observation.state", pa.array(vectors(0, 5, 3).tolist(), pa.list_(pa.float32()))))
    edit_frames(path, set_column("action", pa.array([0.5, 1.0, 1.5, 2.0, 2.5], pa.float32())))
    edit_feature(root, "action", shape=[1], names=None)
    limits = {"observation.state": {"min": [-3] * 3, "max": [3] * 3}, "action": {"min": [0], "max": [3]}}
    write_text(root / "meta/episodes_stats.jsonl", json.dumps({"episode_index": 0, "stats": limits}))
    episode = open_lerobot(root, NO_HINTS).read(0)
    np.testing.assert_array_equal(episode.state, vectors(0, 5, 3))
    assert episode.action.tolist() == [[0.5], [1.0], [1.5], [2.0], [2.5]]


def test_depth_and_pictures_of_the_next_step_are_noted(tmp_path: Path) -> None:
    root = build_v30(tmp_path / "d", storage="embedded")
    features = features_of(root)
    features["observation.images.depth"] = {**camera_feature("video"), "info": {"is_depth_map": True}}
    features["next.image"] = camera_feature("image")
    edit_info(root, features=features)
    source = open_lerobot(root, NO_HINTS)
    assert [c.name for c in source.contract.cameras] == ["front"]
    assert any("Depth observation.images.depth is left out" in note for note in source.notes)
    assert any("next.image is left out" in note for note in source.notes)


def test_camera_names_and_shapes(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    features = features_of(root)
    features |= {
        "observation.image": feature("image", (3, 64, 96), ["channels", "height", "width"]),
        "wrist image": feature("image", (3, 64, 96)),
    }
    edit_info(root, features=features)
    cameras = open_lerobot(root, NO_HINTS).contract.cameras
    assert [c.name for c in cameras] == ["front", "image", "wrist_image"]
    assert {(c.height, c.width) for c in cameras} == {(64, 96)}


def test_tasks_that_follow_each_other_are_not_alternatives(tmp_path: Path) -> None:
    root = build_v30(tmp_path / "d", storage="embedded")
    tasks = arrow(np.array([3, 3, 7, 7, 7, 3, 3]))
    edit_frames(root / "data/chunk-000/file-001.parquet", set_column("task_index", tasks))
    episode = open_lerobot(root, NO_HINTS).read(3)
    assert episode.instruction == TASKS[0]
    assert episode.instruction_alternatives == ()
    assert episode.provenance["tasks"] == [
        {"step": 0, "task": TASKS[0]},
        {"step": 2, "task": TASKS[1]},
        {"step": 5, "task": TASKS[0]},
    ]


def test_more_tasks_of_an_episode_are_alternatives(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    path = root / "meta/episodes.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["tasks"] = [TASKS[0], "do it"]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    source = open_lerobot(root, NO_HINTS)
    assert source.read(0).instruction_alternatives == ("do it",)
    assert any("1 episodes have several tasks" in note for note in source.notes)


def test_a_task_without_text_needs_a_hint(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    write_text(root / "meta/tasks.jsonl", '{"task_index": 3, "task": ""}\n{"task_index": 7, "task": " "}\n')
    text = (root / "meta/episodes.jsonl").read_text(encoding="utf-8")
    for task in TASKS:
        text = text.replace(f'"{task}"', "")
    write_text(root / "meta/episodes.jsonl", text)
    with pytest.raises(DatasetError, match="episode 0 has no task text; give the instruction"):
        open_lerobot(root, NO_HINTS).read(0)
    assert open_lerobot(root, Hints(instruction="stack them")).read(0).instruction == "stack them"


def test_a_task_that_no_table_knows(tmp_path: Path) -> None:
    root = build_v30(tmp_path / "d", storage="embedded")
    pq.write_table(pa.table({"task_index": [3], "task": [TASKS[0]]}), root / "meta/tasks.parquet")
    source = open_lerobot(root, NO_HINTS)
    assert source.read(0).instruction == TASKS[0]
    with pytest.raises(DatasetError, match="task_index 7 is not in the table of 1 tasks"):
        source.read(1)


def test_outcomes_that_nobody_wrote(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    features = {key: value for key, value in features_of(root).items() if not key.startswith("next.")}
    edit_info(root, features=features)
    edit_frames(first_data(root, "v2.1"), lambda t: t.drop_columns(["next.reward", "next.done", "next.success"]))
    source = open_lerobot(root, NO_HINTS)
    episode = source.read(0)
    assert episode.success is None
    assert episode.reward.tolist() == [0.0] * 5
    assert episode.done.tolist() == [False] * 4 + [True]
    assert any("no next.done" in note for note in source.notes)


def test_timestamps_that_deviate_are_told(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    stamps = (np.arange(5) / 30).astype(np.float32)
    stamps[3] += 0.02
    edit_frames(first_data(root, "v2.1"), set_column("timestamp", arrow(stamps)))
    episode = open_lerobot(root, NO_HINTS).read(0)
    assert episode.provenance["notes"] == ["1 holes in time, the longest of 0.0533 s after step 2: rows are missing"]
    np.testing.assert_allclose(episode.time_ns / 1e9, stamps, atol=1e-7)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("v1.6", "convert_dataset_v1_to_v2"),
        ("v2.0", "convert_dataset_v20_to_v21"),
        ("v4.0", "newer than this software"),
        ("", "is this the folder"),
    ],
)
def test_other_versions_name_the_way_out(tmp_path: Path, version: str, words: str) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    edit_info(root, codebase_version=version)
    assert recognise(root)
    with pytest.raises(DatasetError, match=words):
        open_lerobot(root, NO_HINTS)


def test_recognise_never_raises(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    for text in ("", "[1]", "{", '{"features": {}}', "\x00"):
        (tmp_path / "meta/info.json").write_text(text)
        assert not recognise(tmp_path)
    (tmp_path / "meta/info.json").write_bytes(b"\xff\xfe\x00")
    assert not recognise(tmp_path)
    assert not recognise(tmp_path / "missing")
    assert not recognise(tmp_path / "meta/info.json")


@VERSIONS
def test_missing_and_cut_files_are_named(tmp_path: Path, version: str) -> None:
    root = BUILDERS[version](tmp_path / "d")
    source = open_lerobot(root, NO_HINTS)
    for path in (first_data(root, version), first_video(root, version)):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(DatasetError, match=rf"{path.name}.* missing"):
            source.read(0)
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DatasetError, match=path.name):
            source.read(0)
        path.write_bytes(whole)
    assert len(source.read(0)) == 5


@VERSIONS
def test_missing_and_damaged_tables_are_named(tmp_path: Path, version: str) -> None:
    root = BUILDERS[version](tmp_path / "d", storage="embedded")
    tables = [p for p in (root / "meta").rglob("*") if p.is_file() and "stats" not in p.name]
    assert len(tables) == 3
    for path in tables:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 5])
        with pytest.raises(DatasetError, match=path.name):
            open_lerobot(root, NO_HINTS)
        path.unlink()
        with pytest.raises(DatasetError, match=r"missing|got nothing"):
            open_lerobot(root, NO_HINTS)
        path.write_bytes(whole)
    assert len(open_lerobot(root, NO_HINTS)) == 4


@VERSIONS
def test_missing_frames_are_refused(tmp_path: Path, version: str) -> None:
    root = BUILDERS[version](tmp_path / "d", storage="embedded")
    edit_frames(first_data(root, version), lambda table: table.slice(1))
    with pytest.raises(DatasetError, match=r"expected 5 frames of episode 0, got 4"):
        open_lerobot(root, NO_HINTS).read(0)


def test_an_episode_without_frames_is_refused(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    text = (root / "meta/episodes.jsonl").read_text(encoding="utf-8")
    write_text(root / "meta/episodes.jsonl", text.replace('"length": 5', '"length": 0'))
    edit_frames(first_data(root, "v2.1"), lambda table: table.slice(0, 0))
    with pytest.raises(DatasetError, match="episode 0 has no frames"):
        open_lerobot(root, NO_HINTS).read(0)


@VERSIONS
def test_mixed_frames_are_refused(tmp_path: Path, version: str) -> None:
    root = BUILDERS[version](tmp_path / "d", storage="embedded")
    edit_frames(first_data(root, version), lambda table: table.take(list(range(len(table)))[::-1]))
    with pytest.raises(DatasetError, match="expected frame_index 0 to 4 in order"):
        open_lerobot(root, NO_HINTS).read(0)


@VERSIONS
def test_a_video_that_is_too_short_is_refused(tmp_path: Path, version: str) -> None:
    root = BUILDERS[version](tmp_path / "d")
    first_video(root, version).write_bytes(encode_mp4(numbered(0, 4), 30, AV1))
    with pytest.raises(DatasetError, match=r"mp4: expected (5|15) frames .*got 4"):
        open_lerobot(root, NO_HINTS).read(0)


@VERSIONS
def test_of_a_video_that_is_too_long_the_rows_times_are_taken(tmp_path: Path, version: str) -> None:
    """As LeRobot reads it; that its frames are more than the rows is said."""
    root = BUILDERS[version](tmp_path / "d")
    first_video(root, version).write_bytes(encode_mp4(numbered(0, 16), 30, AV1))
    episode = open_lerobot(root, NO_HINTS).read(0)
    assert numbers(episode.images["front"]) == list(range(5))
    (note,) = episode.provenance["notes"]
    assert re.search(r"video has 16 frames, the episodes in it (5|15) rows, .* at the rows' times are taken", note)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("key", ["observation.state", "action"])
def test_numbers_that_are_not_finite_are_located(tmp_path: Path, key: str, bad: float) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    rows = vectors(0, 5, 3 if key == "observation.state" else 2)
    rows[3, 1] = bad
    edit_frames(first_data(root, "v2.1"), set_column(key, arrow(rows)))
    with pytest.raises(
        DatasetError,
        match=rf"000000.parquet: episode 0: {key}: .* got {bad} at step 3, column 1",
    ):
        open_lerobot(root, NO_HINTS).read(0)


def test_missing_values_are_refused(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    values = pa.array([[0.0, 1.0], [0.0, 1.0], None, [0.0, 1.0], [0.0, 1.0]], pa.list_(pa.float32()))
    edit_frames(first_data(root, "v2.1"), set_column("action", values))
    with pytest.raises(DatasetError, match="action: a value is missing at step 2"):
        open_lerobot(root, NO_HINTS).read(0)
    values = pa.array([[0.0, 1.0], [0.0, None], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], pa.list_(pa.float32()))
    edit_frames(first_data(root, "v2.1"), set_column("action", values))
    with pytest.raises(DatasetError, match=r"action: a value is missing at step 1"):
        open_lerobot(root, NO_HINTS).read(0)


def test_damaged_and_missing_pictures_are_located(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="folder")
    source = open_lerobot(root, NO_HINTS)
    path = root / f"images/{KEY}/episode_000001/frame_000004.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=f"episode 1, step 4: the picture {KEY}: 200 bytes cannot be decoded"):
        source.read(1)
    path.unlink()
    with pytest.raises(DatasetError, match="episode 1, step 4: expected a picture"):
        source.read(1)


@pytest.mark.parametrize("storage", ["video", "embedded"])
def test_a_wrong_picture_shape_is_named(tmp_path: Path, storage: str) -> None:
    root = build_v21(tmp_path / "d", storage=storage)
    edit_feature(root, KEY, shape=[32, 96, 3])
    with pytest.raises(DatasetError, match=r"\(32, 96, 3\).*got (a picture )?\(64, 96, 3\)"):
        open_lerobot(root, NO_HINTS).read(0)


def test_no_actions_no_dataset(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    features = features_of(root)
    del features["action"]
    edit_info(root, features=features)
    with pytest.raises(DatasetError, match="expected a feature 'action'"):
        open_lerobot(root, NO_HINTS)


@pytest.mark.parametrize("template", ["../{episode_index}.parquet", "/etc/{episode_index}", "{nothing}", "{", None])
def test_paths_stay_within_the_dataset(tmp_path: Path, template: str | None) -> None:
    root = build_v21(tmp_path / "d", storage="embedded")
    edit_info(root, data_path=template)
    with pytest.raises(DatasetError, match="path template within the dataset"):
        open_lerobot(root, NO_HINTS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fps": 0}, "fps: expected a positive"),
        ({"fps": "fast"}, "fps"),
        ({"features": {"action": {"dtype": "float32"}}}, "feature 'action'"),
        ({"features": [1]}, "features"),
        ({"storage_format": "lance"}, "storage_format 'lance'"),
    ],
)
def test_a_nonsensical_info_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    root = build_v30(tmp_path / "d", storage="embedded")
    edit_info(root, **change)
    with pytest.raises(ValueError, match=rf"info\.json.*{words}"):
        open_lerobot(root, NO_HINTS)


def test_an_unfinished_recording_is_noted(tmp_path: Path) -> None:
    root = build_v30(tmp_path / "d", storage="embedded")
    edit_info(root, total_episodes=6)
    source = open_lerobot(root, NO_HINTS)
    assert any("promises 6 episodes and the tables hold 4" in note for note in source.notes)


def test_times_that_drifted_do_not_move_frames(tmp_path: Path) -> None:
    root = build_v30(tmp_path / "d")
    rows = read_rows(root)
    for episode, drift in ((1, 0.012), (2, 0.060)):  # less than half a frame, and almost two
        for side in ("from", "to"):
            rows[episode][f"videos/{KEY}/{side}_timestamp"] += drift
    write_rows(root, rows)
    source = open_lerobot(root, NO_HINTS)
    assert numbers(source.read(1).images["front"]) == list(range(16, 25))
    assert numbers(source.read(2).images["front"]) == [32]


def test_frames_of_removed_episodes_are_passed_over(tmp_path: Path) -> None:
    """An episode that was taken out of the tables may stay in the files."""
    root = build_v30(tmp_path / "d")
    write_rows(root, read_rows(root)[1:])
    source = open_lerobot(root, NO_HINTS)
    assert [numbers(source.read(i).images["front"])[0] for i in range(3)] == [16, 32, 48]


def test_a_table_without_videos_is_refused(tmp_path: Path) -> None:
    """What a recorder leaves that was stopped before it encoded."""
    root = build_v30(tmp_path / "d")
    write_rows(root, [{k: v for k, v in row.items() if not k.startswith("videos/")} for row in read_rows(root)])
    with pytest.raises(DatasetError, match=r"episode 0: the table of episodes lacks .*chunk_index"):
        open_lerobot(root, NO_HINTS)


def test_into_a_dataset(tmp_path: Path) -> None:
    source, root = open_lerobot(build_v30(tmp_path / "d"), NO_HINTS), tmp_path / "data set"
    settings = ImportSettings(codecs={}, engine="inline", segment_episodes=3)
    imported = import_source(source, root, where="d", settings=settings, provenance={})
    assert imported.episodes == len(LENGTHS)
    check_dataset(root)
