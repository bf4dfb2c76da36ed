"""Holes, stalls and jumps of clocks: what is not learned from, what is refused, and that both are said with times."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.formats.mcap.recordings import MS, START, Rows, header, joints, packed, write_ros
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.care.validate import validate
from vla.datasets.formats.importing import ImportSettings, import_source
from vla.datasets.formats.mcap.source import McapSource, open_mcap
from vla.datasets.formats.mcap.topics import McapTopics
from vla.datasets.formats.source import Hints, notes_of

Topics = dict[str, tuple[str, Rows]]
JOINTS = "sensor_msgs/msg/JointState"
CAMERA = "/front/image_raw/compressed"


def teleop(seconds: float = 6.0) -> Topics:
    """Joints and a leader at 50 Hz, a camera at 25 Hz, all with times of their own."""
    times = [START + step * 20 * MS for step in range(round(seconds * 50))]
    follower = [(time, joints(time, np.full(3, step))) for step, time in enumerate(times)]
    pictures = [(t, packed(t, np.full((6, 8, 3), step % 250 + 1, np.uint8))) for step, t in enumerate(times[::2])]
    return {
        "/joint_states": (JOINTS, follower),
        "/leader/joint_states": (JOINTS, list(follower)),
        CAMERA: ("sensor_msgs/msg/CompressedImage", pictures),
    }


def without(topics: Topics, topic: str, first_s: float, last_s: float) -> Topics:
    """The messages of a topic, but those of some seconds."""
    kind, rows = topics[topic]
    kept = [row for row in rows if not first_s <= (row[0] - START) / 1e9 < last_s]
    return {**topics, topic: (kind, kept)}


def opened(tmp_path: Path, topics: Topics, options: McapTopics | None = None, **how: Any) -> McapSource:
    return open_mcap(write_ros(tmp_path / "a.mcap", topics, **how), Hints(instruction="go"), options)


def invalid_s(episode: Episode) -> list[tuple[float, float]]:
    """From when to when steps are not learned from."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], ~episode.valid, [0]])))
    seconds = (episode.time_ns - START) / 1e9
    return [
        (round(float(seconds[a]), 2), round(float(seconds[b - 1]), 2))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


def test_a_camera_and_commands_that_drop_out(tmp_path: Path) -> None:
    topics = without(without(teleop(), CAMERA, 1, 4), "/leader/joint_states", 2, 5)
    source = opened(tmp_path, topics)
    assert invalid_s(source.read(0)) == [(1.0, 4.98)]
    settings = ImportSettings(codecs={}, engine="inline")
    result = import_source(source, tmp_path / "data", where="x", settings=settings, provenance={})
    said = [
        "/leader/joint_states: nothing from 1.980 s to 5.000 s; 150 steps are not learned from",
        f"camera front ({CAMERA}): nothing from 0.960 s to 4.000 s; 150 steps are not learned from",
    ]
    assert result.notes == tuple(f"episode 0: {line}" for line in said)
    found = [finding for finding in validate(tmp_path / "data") if finding.severity == "warning"]
    assert [finding.what for finding in found] == said


def test_many_holes_are_counted(tmp_path: Path) -> None:
    topics = teleop(9)
    for second in range(1, 8):
        topics = without(topics, "/joint_states", second, second + 0.5)
    episode = opened(tmp_path, topics).read(0)
    assert len(invalid_s(episode)) == 7
    notes = notes_of(episode)
    assert len(notes) == 6
    assert notes[-1] == "/joint_states: 2 more holes, 175 steps in all"


def test_a_topic_of_changes_has_no_holes(tmp_path: Path) -> None:
    changes = [(START, joints(START, np.zeros(1), ["jaw"])), *teleop()["/joint_states"][1]][:1]
    changes += [(time, joints(time, np.ones(1), ["jaw"])) for time in (START + 1000 * MS, START + 1050 * MS)]
    topics = {**teleop(), "/gripper/command_states": (JOINTS, changes)}
    named = {"action": ("/leader/joint_states", "/gripper/command_states")}
    held = opened(tmp_path, topics, McapTopics(**named, events=("/gripper/command_states",))).read(0)
    assert (len(held), held.valid.all()) == (300, True)
    assert held.action[[0, 49, 50, 299], 3].tolist() == [0, 0, 1, 1]
    assert len(opened(tmp_path, topics, McapTopics(**named)).read(0)) < 300  # else it ends with its last message


def test_cameras_that_stand_still_have_a_hole(tmp_path: Path) -> None:
    """A driver that repeats its last picture, with its old time, shows nothing new."""
    topics = teleop()
    kind, rows = topics[CAMERA]
    rows = list(rows)
    rows[50:100] = [(time, rows[49][1]) for time, _ in rows[50:100]]
    episode = opened(tmp_path, {**topics, CAMERA: (kind, rows)}).read(0)
    assert invalid_s(episode) == [(2.0, 3.98)]
    assert f"{CAMERA}: 50 messages were recorded twice" in notes_of(episode)


def test_messages_twice_and_out_of_order(tmp_path: Path) -> None:
    topics = teleop()
    plain = opened(tmp_path, topics).read(0)
    kind, rows = topics["/joint_states"]
    doubled = [(time + late, message) for time, message in rows for late in (0, 3 * MS)]
    doubled[20], doubled[30] = doubled[30], doubled[20]
    source = opened(tmp_path, {**topics, "/joint_states": (kind, doubled)})
    assert source.contract.control_hz == 50.0
    episode = source.read(0)
    np.testing.assert_array_equal(episode.state, plain.state)
    assert "/joint_states: 300 messages were recorded twice" in notes_of(episode)


def shifted(topics: Topics, topic: str, from_s: float, by_s: float) -> Topics:
    """The times in the messages of a topic, from some second on."""
    kind, rows = topics[topic]
    moved = []
    for time, message in rows:
        late = round(by_s * 1e9) if (time - START) / 1e9 >= from_s else 0
        moved.append((time, {**message, "header": header(time + late)}))
    return {**topics, topic: (kind, moved)}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda t: shifted(t, "/leader/joint_states", 0, -40),
            "/leader/joint_states and /joint_states are 40.0 s apart",
        ),
        (lambda t: shifted(t, CAMERA, 1, 9), rf"the clock of {CAMERA} moves by \+9.0 s against that of the recording"),
        (
            lambda t: {
                **t,
                "/joint_states": (JOINTS, [(s, {**m, "header": header(START)}) for s, m in t["/joint_states"][1]]),
            },
            "the time in the messages of /joint_states stands still",
        ),
    ],
)
def test_times_in_messages_that_are_no_one_clock(tmp_path: Path, spoil: Callable[[Topics], Topics], said: str) -> None:
    """Then times are those of the recording, in the file where it is so."""
    good = write_ros(tmp_path / "all/0.mcap", teleop(2), delay=5 * MS)
    truth = open_mcap(good, Hints(instruction="go"), McapTopics(clock="log")).read(0)
    write_ros(tmp_path / "all/1.mcap", spoil(teleop(2)), delay=5 * MS)
    source = open_mcap(tmp_path / "all", Hints(instruction="go"))
    assert source.read(0).time_ns[0] == START
    episode = source.read(1)
    np.testing.assert_array_equal(episode.time_ns, truth.time_ns)
    np.testing.assert_array_equal(episode.action, truth.action)
    assert episode.valid.all()
    assert any(re.search(said, note) for note in notes_of(episode))
    first = open_mcap(tmp_path / "all/1.mcap", Hints(instruction="go"))
    assert any(re.search(f"Times are those when messages were logged: .*{said}", note) for note in first.notes)


def jumping(topics: Topics, last_s: float, by_s: float) -> Topics:
    """All clocks jump: what came after ``last_s`` is ``by_s`` later, in the log and in the messages."""
    moved: Topics = {}
    for topic, (kind, rows) in topics.items():
        new = []
        for time, message in rows:
            late = round(by_s * 1e9) if (time - START) / 1e9 >= last_s else 0
            new.append((time + late, {**message, "header": header(time + late)}))
        moved[topic] = (kind, new)
    return moved


def test_clocks_that_jump_ahead(tmp_path: Path) -> None:
    episode = opened(tmp_path, jumping(teleop(), 3, 30)).read(0)
    assert invalid_s(episode) == [(3.0, 32.98)]
    assert len(notes_of(episode)) == 3
    with pytest.raises(DatasetError, match=r"has nothing for 864\d\d.\d s after .* ns: recording paused, or the clock"):
        opened(tmp_path, jumping(teleop(), 3, 86_400)).read(0)


@pytest.mark.parametrize("by_s", [-1.0, -1.013, -60.0])
def test_clocks_that_are_set_back(tmp_path: Path, by_s: float) -> None:
    """In the order of the file, which is that of the world."""
    from mcap.writer import Writer

    path = tmp_path / "back.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("x", library="y")
        channels = {topic: writer.register_channel(topic, "json", 0) for topic in ("/action", "/state")}
        for step in range(200):
            time = START + step * 20 * MS + (round(by_s * 1e9) if step >= 100 else 0)
            for channel in channels.values():
                data = b'{"data": [%d]}' % step
                writer.add_message(channel, log_time=time, publish_time=time, data=data)
        writer.finish()
    source_error = rf"topic /state: its clock was set back by {-by_s - 0.02:.3f} s at message 100 of 200"
    with pytest.raises(DatasetError, match=source_error):
        open_mcap(path, Hints(instruction="go", control_hz=50.0))


def test_a_topic_that_ends_early_and_one_of_another_rate_are_said(tmp_path: Path) -> None:
    write_ros(tmp_path / "all/0.mcap", teleop())
    topics = without(teleop(), CAMERA, 3, 9)
    topics["/joint_states"] = (JOINTS, list(topics["/joint_states"][1])[::2])
    write_ros(tmp_path / "all/1.mcap", topics)
    episode = open_mcap(tmp_path / "all", Hints(instruction="go")).read(1)
    assert len(episode) == 150
    assert notes_of(episode) == (
        "/joint_states: comes at 25 Hz, in the first recording at 50 Hz",
        f"camera front ({CAMERA}): ends 3.0 s before the last topic; what is after is left out",
    )
