"""MCAP files of ROS 2 and of DROID, written by the formats' own libraries."""

import base64
import io
import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer
from mcap_ros2.writer import Writer as RosWriter
from PIL import Image

from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.care.checker import check_dataset
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.formats.mcap.source import McapSource, open_mcap, recognise
from vla.datasets.formats.mcap.topics import McapTopics
from vla.datasets.formats.source import Hints, Source
from vla.datasets.store.episode_check import check_episode
from vla.datasets.store.layout import check_names
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

MS = 1_000_000
START = 1_700_000_000_000 * MS
STAMP = "builtin_interfaces/Time stamp\nstring frame_id\n"
RULE = "=" * 80
HEADER = f"{RULE}\nMSG: std_msgs/Header\n{STAMP}{RULE}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
LAYOUT = f"""{RULE}
MSG: std_msgs/MultiArrayLayout
MultiArrayDimension[] dim
uint32 data_offset
{RULE}
MSG: std_msgs/MultiArrayDimension
string label
uint32 size
uint32 stride
"""
DEFINITIONS = {
    "sensor_msgs/msg/JointState": "std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\n"
    "float64[] effort\n" + HEADER,
    "sensor_msgs/msg/CompressedImage": "std_msgs/Header header\nstring format\nuint8[] data\n" + HEADER,
    "sensor_msgs/msg/Image": "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\n"
    "uint8 is_bigendian\nuint32 step\nuint8[] data\n" + HEADER,
    "std_msgs/msg/String": "string data\n",
    "std_msgs/msg/Float64MultiArray": "std_msgs/MultiArrayLayout layout\nfloat64[] data\n" + LAYOUT,
    "std_msgs/msg/Float32MultiArray": "std_msgs/MultiArrayLayout layout\nfloat32[] data\n" + LAYOUT,
    "trajectory_msgs/msg/JointTrajectory": "std_msgs/Header header\nstring[] joint_names\n"
    "trajectory_msgs/JointTrajectoryPoint[] points\n" + HEADER + f"{RULE}\nMSG: trajectory_msgs/JointTrajectoryPoint\n"
    "float64[] positions\nfloat64[] velocities\nfloat64[] accelerations\nfloat64[] effort\n"
    "builtin_interfaces/Duration time_from_start\n"
    f"{RULE}\nMSG: builtin_interfaces/Duration\nint32 sec\nuint32 nanosec\n",
}
LAYOUT_VALUE = {"dim": [], "data_offset": 0}
JOINTS = ["shoulder", "elbow", "gripper"]

Rows = Iterable[tuple[int, dict[str, Any]]]


def header(time: int) -> dict[str, Any]:
    return {"stamp": {"sec": time // 10**9, "nanosec": time % 10**9}, "frame_id": "base"}


def joints(time: int, values: np.ndarray, names: list[str] | None = None) -> dict[str, Any]:
    position = [float(value) for value in values]
    return {"header": header(time), "name": JOINTS if names is None else names, "position": position}


def packed(time: int, pixels: np.ndarray, form: str = "png") -> dict[str, Any]:
    return {"header": header(time), "format": form, "data": encode(pixels, form)}


def raw(time: int, pixels: np.ndarray, encoding: str, padding: int = 0) -> dict[str, Any]:
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    shape = {"height": pixels.shape[0], "width": pixels.shape[1], "step": rows.shape[1]}
    return {"header": header(time), "encoding": encoding, "is_bigendian": 0, **shape, "data": rows.tobytes()}


def encode(pixels: np.ndarray, form: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form.upper())
    return buffer.getvalue()


def write_ros(
    path: Path, topics: dict[str, tuple[str, Rows]], *, delay: int = 0, metadata: dict[str, str] | None = None
) -> Path:
    """A file as ros2 bag record writes it: messages in the order of their log times, which come after the stamps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(time + delay, topic, kind, message) for topic, (kind, rows) in topics.items() for time, message in rows]
    with path.open("wb") as file:
        writer = RosWriter(file, chunk_size=2000)
        schemas = {kind: writer.register_msgdef(kind, DEFINITIONS[kind]) for kind in {row[2] for row in rows}}
        for time, topic, kind, message in sorted(rows, key=lambda row: row[0]):
            writer.write_message(topic, schemas[kind], message, log_time=time, publish_time=time)
        if metadata:
            writer.add_metadata("episode", metadata)
        writer.finish()
    return path


def arm(seed: int = 0, steps: int = 20, **changes: Any) -> tuple[dict[str, tuple[str, Rows]], dict[str, np.ndarray]]:
    """An arm at 20 Hz, commands 3 ms after, a camera at 10 Hz from 20 ms before; and the truth."""
    rng = np.random.default_rng(seed)
    truth = {
        "state": rng.standard_normal((steps, 3)).astype(np.float32),
        "action": rng.standard_normal((steps, 2)).astype(np.float32),
        "front": rng.integers(0, 256, (steps // 2 + 1, 6, 8, 3), np.uint8),
    }
    times = [START + step * 50 * MS for step in range(steps)]
    shots = [START - 20 * MS + shot * 100 * MS for shot in range(len(truth["front"]))]
    topics: dict[str, tuple[str, Rows]] = {
        "/joint_states": (
            "sensor_msgs/msg/JointState",
            [(time, joints(time, row)) for time, row in zip(times, truth["state"], strict=True)],
        ),
        "/arm/commands": (
            "std_msgs/msg/Float64MultiArray",
            [
                (time + 3 * MS, {"layout": LAYOUT_VALUE, "data": [float(value) for value in row]})
                for time, row in zip(times, truth["action"], strict=True)
            ],
        ),
        "/front/image_raw/compressed": (
            "sensor_msgs/msg/CompressedImage",
            [(time, packed(time, pixels)) for time, pixels in zip(shots, truth["front"], strict=True)],
        ),
        "/instruction": ("std_msgs/msg/String", [(START - 500 * MS, {"data": "stelle die Schüssel weg"})]),
    }
    return {**topics, **changes}, truth


def check_fits(source: Source) -> list[Episode]:
    assert isinstance(source, Source)
    contract = source.contract
    episodes = [source.read(number) for number in range(len(source))]
    check_names(contract)
    for episode in episodes:
        check_episode(episode, contract)
        steps = len(episode)
        assert steps > 0
        assert episode.images.keys() == episode.image_time_ns.keys() == {camera.name for camera in contract.cameras}
        for camera in contract.cameras:
            assert camera.hz is not None
            times = episode.image_time_ns[camera.name]
            assert times.dtype == np.int64
            assert (np.diff(times) > 0).all()
            assert times[0] <= episode.time_ns[0]
            assert times[-1] <= episode.time_ns[-1]
            assert episode.images[camera.name].shape == (len(times), *camera.shape)
            assert episode.images[camera.name].dtype == camera.dtype
        assert episode.state.shape == (steps, len(contract.state))
        assert episode.action.shape == (steps, len(contract.action))
        assert episode.state.dtype == episode.action.dtype == episode.reward.dtype == np.float32
        assert episode.time_ns.dtype == episode.command_time_ns.dtype == np.int64
        assert episode.valid.dtype == episode.done.dtype == bool
        assert json.loads(json.dumps(episode.provenance)) == episode.provenance
    return episodes


def open_arm(path: Path, topics: McapTopics | None = None, hints: Hints | None = None, **changes: Any) -> McapSource:
    return open_mcap(write_ros(path / "a bag" / "one.mcap", arm(**changes)[0]), hints or Hints(), topics)


def test_ros2(tmp_path: Path) -> None:
    topics, truth = arm()
    write_ros(tmp_path / "bags" / "a b.mcap", topics, delay=4 * MS)
    source = open_mcap(tmp_path / "bags", Hints(robot="arm"))
    (episode,) = check_fits(source)
    contract = source.contract
    assert contract.control_hz == 20.0
    assert [(c.name, c.height, c.width, c.hz) for c in contract.cameras] == [("front", 6, 8, 10.0)]
    assert [dimension.name for dimension in contract.state] == JOINTS
    assert [dimension.name for dimension in contract.action] == ["commands.0", "commands.1"]
    assert episode.instruction == "stelle die Schüssel weg"
    # Commands have no time of their own, so log times count: the first command is the last topic to begin, and each
    # step sees the state of 3 ms before.
    assert episode.time_ns.tolist() == [START + 7 * MS + step * 50 * MS for step in range(20)]
    np.testing.assert_array_equal(episode.command_time_ns, episode.time_ns)
    np.testing.assert_array_equal(episode.state, truth["state"])
    np.testing.assert_array_equal(episode.action, truth["action"])
    assert episode.image_time_ns["front"].tolist() == [START - 16 * MS + shot * 100 * MS for shot in range(10)]
    np.testing.assert_array_equal(episode.images["front"], truth["front"][:10])
    assert episode.valid.all()
    assert any("when messages were logged" in note for note in source.notes)
    assert any("20 Hz" in note for note in source.notes)
    for dimension, column in zip(contract.state, truth["state"].T, strict=True):
        assert dimension.low < column.min() < column.max() < dimension.high


def test_times_of_the_messages_where_all_have_them(tmp_path: Path) -> None:
    rows = [(START + step * 50 * MS, joints(START + step * 50 * MS, np.full(3, step))) for step in range(20)]
    topics = arm()[0]
    topics["/leader/joint_states"] = ("sensor_msgs/msg/JointState", rows)
    del topics["/arm/commands"]
    source = open_mcap(write_ros(tmp_path / "a.mcap", topics, delay=9 * MS), Hints())
    (episode,) = check_fits(source)
    assert episode.time_ns[0] == START
    assert any("Times are those in the messages" in note for note in source.notes)
    np.testing.assert_array_equal(episode.action, np.repeat(np.arange(20)[:, None], 3, axis=1))


def test_another_rate(tmp_path: Path) -> None:
    topics, truth = arm()
    source = open_mcap(write_ros(tmp_path / "a.mcap", topics), Hints(control_hz=10.0))
    (episode,) = check_fits(source)
    assert source.contract.control_hz == 10.0
    assert np.diff(episode.time_ns).tolist() == [100 * MS] * 9
    np.testing.assert_array_equal(episode.state, truth["state"][::2])
    with pytest.raises(DatasetError, match="positive rate"):
        open_mcap(tmp_path, Hints(control_hz=-1.0))


def test_grid_begins_with_the_last_topic_and_ends_with_the_first(tmp_path: Path) -> None:
    topics, truth = arm()
    kind, rows = topics["/arm/commands"]
    topics["/arm/commands"] = (kind, list(rows)[5:])
    kind, rows = topics["/front/image_raw/compressed"]
    topics["/front/image_raw/compressed"] = (kind, list(rows)[:8])
    source = open_mcap(write_ros(tmp_path / "a.mcap", topics), Hints())
    (episode,) = check_fits(source)
    assert episode.time_ns[0] == START + 253 * MS
    assert episode.time_ns[-1] < START - 20 * MS + 800 * MS <= episode.time_ns[-1] + 50 * MS
    np.testing.assert_array_equal(episode.images["front"], truth["front"][2:8])
    np.testing.assert_array_equal(episode.action[0], truth["action"][5])


def test_gap_in_the_state(tmp_path: Path) -> None:
    topics, _ = arm(steps=40)
    kind, rows = topics["/joint_states"]
    topics["/joint_states"] = (kind, [row for place, row in enumerate(rows) if not 10 < place < 25])
    (episode,) = check_fits(open_mcap(write_ros(tmp_path / "a.mcap", topics), Hints()))
    assert np.flatnonzero(~episode.valid).tolist() == list(range(15, 25))
    assert episode.provenance["steps_with_stale_state"] == 10


def test_kinds_of_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (6, 8, 3), np.uint8)
    alpha = np.concatenate([rgb, np.zeros((6, 8, 1), np.uint8)], axis=2)
    depth = rng.integers(0, 2**16, (6, 8), np.uint16)
    image, compressed = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
    ros_depth = {"header": header(START), "format": "16UC1; compressedDepth png", "data": bytes(12) + encode(depth)}
    pictures = {
        "/a/rgb8": (image, raw(START, rgb, "rgb8")),
        "/a/bgr8": (image, raw(START, np.ascontiguousarray(rgb[..., ::-1]), "bgr8", padding=5)),
        "/a/rgba8": (image, raw(START, alpha, "rgba8")),
        "/a/bgra8": (image, raw(START, np.ascontiguousarray(alpha[..., [2, 1, 0, 3]]), "bgra8")),
        "/a/png": (compressed, packed(START, rgb)),
        "/b/depth": (image, raw(START, depth, "16UC1", padding=2)),
        "/b/big": (image, raw(START, depth.byteswap(), "mono16") | {"is_bigendian": 1}),
        "/b/png": (compressed, packed(START, depth)),
        "/b/ros/compressedDepth": (compressed, ros_depth),
        "/c/bayer": (image, raw(START, rgb, "bayer_rggb8")),
        "/c/broken": (compressed, {"header": header(START), "format": "jpeg", "data": b"junk"}),
        "/c/cut": (image, raw(START, rgb, "rgb8") | {"data": b"abc"}),
    }
    pictures["/jpeg"] = (compressed, packed(START, np.full((6, 8, 3), 90, np.uint8), "jpeg"))
    times = (START, START + 50 * MS)
    topics = arm()[0] | {
        topic: (kind, [(time, message) for time in times]) for topic, (kind, message) in pictures.items()
    }
    source = open_mcap(write_ros(tmp_path / "a.mcap", topics), Hints())
    (episode,) = check_fits(source)
    for name in ("a.rgb8", "a.bgr8", "a.rgba8", "a.bgra8", "a.png"):
        np.testing.assert_array_equal(episode.images[name][0], rgb, err_msg=name)
    for name in ("b.depth", "b.big", "b.png", "b.ros"):
        np.testing.assert_array_equal(episode.images[name][0, ..., 0], depth, err_msg=name)
    assert {c.name for c in source.contract.cameras if c.kind == "depth"} == {"b.depth", "b.big", "b.png", "b.ros"}
    assert np.abs(episode.images["jpeg"].astype(int) - 90).max() < 4
    notes = " ".join(source.notes)
    for topic in ("/c/bayer", "/c/broken", "/c/cut"):
        assert f"{topic} cannot be read" in notes
    assert not {camera.name for camera in source.contract.cameras} & {"c.bayer", "c.broken", "c.cut"}


def test_a_camera_recorded_twice(tmp_path: Path) -> None:
    _, truth = arm()
    rows = [(START - 20 * MS, raw(START, truth["front"][0], "rgb8"))]
    source = open_arm(tmp_path, **{"/front/image_raw": ("sensor_msgs/msg/Image", rows)})
    assert source.choice.cameras == {"front": "/front/image_raw/compressed"}
    assert any("/front/image_raw is left out" in note for note in source.notes)


def test_joints_in_another_order(tmp_path: Path) -> None:
    order = ["gripper", "shoulder", "elbow"]
    rows = [(START, joints(START, np.array([1, 2, 3]))), (START + 50 * MS, joints(START, np.array([6, 4, 5]), order))]
    source = open_arm(tmp_path, **{"/joint_states": ("sensor_msgs/msg/JointState", rows)})
    np.testing.assert_array_equal(source.read(0).state[:2], [[1, 2, 3], [4, 5, 6]])


def test_named_topics(tmp_path: Path) -> None:
    rows = [(START + step * 50 * MS, joints(START, np.full(2, step), ["l", "r"])) for step in range(20)]
    point = {"positions": [0.25, 0.5], "velocities": [], "accelerations": [], "effort": []}
    point["time_from_start"] = {"sec": 0, "nanosec": 0}
    command = {"header": header(START), "joint_names": ["l", "r"], "points": [point]}
    path = write_ros(
        tmp_path / "a.mcap",
        arm()[0]
        | {
            "/second/joint_states": ("sensor_msgs/msg/JointState", rows),
            "/anything": ("trajectory_msgs/msg/JointTrajectory", [(time, command) for time, _ in rows]),
        },
    )
    with pytest.raises(
        DatasetError, match=r"several topics may be the state: /joint_states, /second/joint_states; name"
    ):
        open_mcap(path, Hints())
    topics = McapTopics(
        state=("/joint_states", "/second/joint_states"),
        action=("/anything",),
        cameras={"head": "/front/image_raw/compressed"},
        instruction="/instruction",
    )
    source = open_mcap(path, Hints(), topics)
    (episode,) = check_fits(source)
    assert [d.name for d in source.contract.state] == [
        "joint_states.shoulder",
        "joint_states.elbow",
        "joint_states.gripper",
        "second.joint_states.l",
        "second.joint_states.r",
    ]
    assert [d.name for d in source.contract.action] == ["l", "r"]
    assert list(episode.images) == ["head"]
    np.testing.assert_array_equal(episode.action, [[0.25, 0.5]] * len(episode))
    with pytest.raises(DatasetError, match=r"topic '/nowhere' is not there"):
        open_mcap(path, Hints(), McapTopics(state=("/nowhere",)))


def test_no_action(tmp_path: Path) -> None:
    topics = arm()[0]
    del topics["/arm/commands"]
    with pytest.raises(
        DatasetError, match=r"no topic looks like the action; name it with .* --set action=\[/topic\]\."
    ):
        open_mcap(write_ros(tmp_path / "a.mcap", topics), Hints())


def test_language_and_success_of_the_metadata(tmp_path: Path) -> None:
    topics = arm()[0]
    said = list(topics["/instruction"][1])
    for number, success in enumerate(("true", "false", "maybe")):
        topics["/instruction"] = ("std_msgs/msg/String", [*said, (START, {"data": "put the bowl away"})])
        write_ros(tmp_path / "bags" / f"{number}.mcap", topics, metadata={"success": success, "task": "clear table"})
    source = open_mcap(tmp_path / "bags", Hints(task="t", split="s"))
    episodes = check_fits(source)
    assert [episode.success for episode in episodes] == [True, False, None]
    assert episodes[0].instruction == "stelle die Schüssel weg"
    assert episodes[0].instruction_alternatives == ("put the bowl away", "clear table")
    assert episodes[0].provenance["metadata"]["success"] == "true"
    assert (episodes[0].task, episodes[0].split) == ("t", "s")
    del topics["/instruction"]
    write_ros(tmp_path / "none.mcap", topics)
    with pytest.raises(DatasetError, match="has no instruction"):
        open_mcap(tmp_path / "none.mcap", Hints()).read(0)
    assert open_mcap(tmp_path / "none.mcap", Hints(instruction="tidy up")).read(0).instruction == "tidy up"


def write_droid(path: Path, start: int = START, unit: int = MS, **changes: Any) -> tuple[Path, dict[str, np.ndarray]]:
    """A file as DROID's recorder writes it: JSON, one time for all messages of a step, 15 Hz in milliseconds."""
    rng = np.random.default_rng(1)
    truth = {
        "joints": rng.standard_normal((12, 7)).astype(np.float32),
        "action": rng.standard_normal((12, 7)).astype(np.float32),
    }
    times = [(start // MS + step * 1000 // 15) * unit for step in range(12)]
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.LZ4)
        writer.start("droid", library="droid-franka-robots")
        kinds = {"/robot_state": "droid.RobotState", "/action": "droid.Action", "/camera_type": "droid.CameraType"}
        kinds |= {f"/camera/{name}/compressed": "foxglove.CompressedImage" for name in ("19824535_left", "2")}
        channels = {
            topic: writer.register_channel(topic, "json", writer.register_schema(kind, "jsonschema", b"{}"))
            for topic, kind in kinds.items()
        }
        for step, time in enumerate(times):
            stamp = {"sec": time // 10**9, "nsec": time % 10**9}
            pixels = np.full((6, 8, 3), 10 * step, np.uint8)
            picture = base64.b64encode(encode(pixels)).decode()
            messages: dict[str, dict[str, Any]] = {
                "/robot_state": {
                    "joint_positions": truth["joints"][step].tolist(),
                    "joint_efforts": [],
                    "gripper_position": step / 10,
                },
                "/action": {"data": truth["action"][step].tolist()},
                "/camera/19824535_left/compressed": {"data": picture, "format": "png", "frame_id": "x"},
                "/camera/2/compressed": {"data": picture, "format": "png", "frame_id": "y"},
                "/camera_type": {"2": 1},
            }
            for topic, message in (messages | changes.get(str(step), {})).items():
                data = json.dumps({"timestamp": stamp, **message}).encode()
                writer.add_message(channels[topic], log_time=time, publish_time=time, data=data)
        writer.finish()
    return path, truth


@pytest.mark.parametrize("unit", [1, MS])
def test_droid(tmp_path: Path, unit: int) -> None:
    """Also as its recorder really writes times: in milliseconds."""
    path, truth = write_droid(tmp_path / "trajectory.mcap", unit=unit)
    source = open_mcap(path, Hints(instruction="pick it up"))
    (episode,) = check_fits(source)
    assert source.contract.control_hz == 15.0
    assert [c.name for c in source.contract.cameras] == ["camera.19824535_left", "camera.2"]
    assert [c.hz for c in source.contract.cameras] == [15.0, 15.0]
    assert [d.name for d in source.contract.state] == [f"joint_positions.{i}" for i in range(7)] + ["gripper_position"]
    assert [d.name for d in source.contract.action] == [f"action.{i}" for i in range(7)]
    np.testing.assert_array_equal(episode.state[:, :7], truth["joints"])
    np.testing.assert_array_equal(episode.action, truth["action"])
    assert episode.time_ns.tolist() == [START + step * 10**9 // 15 for step in range(12)]
    assert episode.images["camera.2"][:, 0, 0, 0].tolist() == [10 * step for step in range(12)]
    assert any("milliseconds" in note for note in source.notes) == (unit == 1)


def test_json_damage(tmp_path: Path) -> None:
    spoiled = {
        "length": ({"/action": {"data": [1.0]}}, r"topic /action, message at .*expected numbers .*got \['action.0'\]"),
        "null": ({"/action": {"data": [None] * 7}}, r"expected a number, got null"),
        "nan": ({"/robot_state": {"joint_positions": [float("nan")] * 7, "gripper_position": 0}}, r"expected finite"),
        "base64": ({"/camera/2/compressed": {"data": "%%", "format": "png"}}, r"/camera/2/compressed.*base64"),
        "picture": ({"/camera/2/compressed": {"data": "aaaa", "format": "png"}}, r"cannot be decoded as a picture"),
        "size": (
            {"/camera/2/compressed": {"data": base64.b64encode(encode(np.zeros((8, 6, 3), np.uint8))).decode()}},
            r"expected a picture uint8 \(6, 8, 3\) as in the first file, got uint8 \(8, 6, 3\)",
        ),
    }
    write_droid(tmp_path / "0.mcap")
    for name, (messages, _) in spoiled.items():
        write_droid(tmp_path / f"{name}.mcap", **{"5": messages})
    source = open_mcap(tmp_path, Hints(instruction="x"))
    source.read(0)
    for name, (_, message) in spoiled.items():
        with pytest.raises(DatasetError, match=message):
            source.read([file.stem for file in source.files].index(name))


def test_crashed_recorder(tmp_path: Path) -> None:
    topics, truth = arm(steps=60)
    path = write_ros(tmp_path / "whole.mcap", topics)
    whole = open_mcap(path, Hints()).read(0)
    data = path.read_bytes()
    for number, share in enumerate((0.35, 0.6, 0.999)):
        (tmp_path / "cut").mkdir(exist_ok=True)
        (tmp_path / "cut" / f"{number}.mcap").write_bytes(data[: int(len(data) * share)])
    source = open_mcap(tmp_path / "cut", Hints())
    assert any("3 files have no end" in note for note in source.notes)
    episodes = check_fits(source)
    lengths = [len(episode) for episode in episodes]
    assert 0 < lengths[0] < lengths[1] < lengths[2] == len(whole)
    for episode in episodes:
        assert episode.provenance["recovered"] is True
        np.testing.assert_array_equal(episode.state, truth["state"][: len(episode)])
    assert "recovered" not in whole.provenance


def test_damaged_files(tmp_path: Path) -> None:
    path = write_ros(tmp_path / "a.mcap", arm(steps=60)[0])
    source = open_mcap(path, Hints())
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.mcap: the file is damaged \(.*copy it again"):
        source.read(0)
    (tmp_path / "b.mcap").write_bytes(b"")
    (tmp_path / "c.mcap").write_bytes(b"something else, longer than any magic")
    for name in ("b.mcap", "c.mcap"):
        with pytest.raises(DatasetError, match=rf"{name}: expected the first bytes of an MCAP file"):
            open_mcap(tmp_path / name, Hints())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"expected at least 1 file .mcap, got none"):
        open_mcap(tmp_path / "empty", Hints())


def test_a_file_without_a_topic(tmp_path: Path) -> None:
    topics = arm()[0]
    write_ros(tmp_path / "0.mcap", topics)
    late = [(time + 10**12, message) for time, message in topics["/joint_states"][1]]
    write_ros(tmp_path / "1.mcap", topics | {"/joint_states": ("sensor_msgs/msg/JointState", late)})
    del topics["/joint_states"]
    write_ros(tmp_path / "2.mcap", topics)
    source = open_mcap(tmp_path, Hints())
    source.read(0)
    with pytest.raises(DatasetError, match=r"1\.mcap: its topics do not overlap in time"):
        source.read(1)
    with pytest.raises(DatasetError, match=r"2\.mcap: topic /joint_states has no messages"):
        source.read(2)


def test_unreadable_encodings_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("x", library="y")
        for topic, encoding in (("/joint_states", "protobuf"), ("/action", "json"), ("/state", "json")):
            channel = writer.register_channel(topic, encoding, 0)
            for step in range(3):
                writer.add_message(channel, log_time=step * 100 * MS, publish_time=0, data=b'{"data": [1, true]}')
        writer.finish()
    source = open_mcap(path, Hints(instruction="x"))
    assert (source.choice.state, source.choice.action) == (("/state",), ("/action",))
    assert any("/joint_states" in note for note in source.notes)
    (episode,) = check_fits(source)
    assert episode.images == {}
    np.testing.assert_array_equal(episode.state, np.ones((3, 2)))


def test_source_is_picklable_and_recognised(tmp_path: Path) -> None:
    source = open_arm(tmp_path)
    again = pickle.loads(pickle.dumps(source)).read(0)
    np.testing.assert_array_equal(again.state, source.read(0).state)
    folder = tmp_path / "a bag"
    assert recognise(folder)
    assert recognise(tmp_path)
    assert recognise(folder / "one.mcap")
    assert not recognise(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert not recognise(tmp_path / "empty")


def test_into_a_dataset(tmp_path: Path) -> None:
    source = open_mcap(write_ros(tmp_path / "a.mcap", arm()[0]), Hints())
    episodes = check_fits(source)
    root = tmp_path / "data set"
    create_dataset(root, source.contract)
    with SegmentWriter(root, source.contract, {"notes": list(source.notes)}) as writer:
        for episode in episodes:
            writer.append(episode)
        publish(root, [writer.seal()], "import")
    dataset = Dataset.open(root)
    check_dataset(dataset)
    assert dataset.contract == source.contract
    assert [record.length for record in dataset.episodes] == [len(episode) for episode in episodes]
    for number, episode in enumerate(episodes):
        stored = dataset.read_episode(number)
        np.testing.assert_array_equal(stored.state, episode.state)
        np.testing.assert_array_equal(stored.time_ns, episode.time_ns)
        assert stored.instruction == episode.instruction
        for camera, times in episode.image_time_ns.items():
            np.testing.assert_array_equal(stored.image_time_ns[camera], times)
        for camera, frames in episode.images.items():
            assert stored.images[camera].shape == frames.shape
