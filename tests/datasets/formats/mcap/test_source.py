"""MCAP files of ROS 2 and of DROID, written by the formats' own libraries."""

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer

from tests.datasets.formats.mcap.recordings import (
    JOINTS,
    MS,
    START,
    arm,
    encode,
    header,
    joints,
    packed,
    raw,
    write_ros,
)
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
    assert np.flatnonzero(~episode.valid).tolist() == list(range(11, 25))
    said = "/joint_states: nothing from 0.497 s to 1.247 s; 14 steps are not learned from"
    assert episode.provenance["notes"] == [said]


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
        DatasetError,
        match=r'several topics may be the state: .*; name one, .*--set "state=\[/joint_states, /second/joint_states\]"',
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
        *JOINTS,
        "l",
        "r",
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
        DatasetError, match=r"no topic looks like the action; name it: --set action=\[/topic\]\. The file has"
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
            source.read([bag.path.stem for bag in source.bags].index(name))


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
    for name, said in (
        ("b.mcap", r"it is empty \(0 bytes\)"),
        ("c.mcap", "expected an MCAP file, got text that begins"),
    ):
        with pytest.raises(DatasetError, match=f"{name}: {said}"):
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
