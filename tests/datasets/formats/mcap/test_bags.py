"""What belongs together as one recording, what is found behind links, and what is named that cannot be read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zstandard
from mcap.writer import Writer

from tests.datasets.formats.mcap.recordings import MS, START, arm, write_ros
from vla.core.errors import DatasetError
from vla.datasets.formats.mcap.bags import find_bags, is_recording
from vla.datasets.formats.mcap.source import McapSource, open_mcap
from vla.datasets.formats.source import Hints, notes_of
from vla.datasets.formats.table import open_source


def split(folder: Path, *, metadata: bool = True, **changes: Any) -> Path:
    """One recording of 40 steps as rosbag2 splits it: two files, the instruction in the first alone."""
    topics, _ = arm(steps=40)
    middle = START + 1000 * MS
    for part, keep in enumerate((lambda time: time < middle, lambda time: time >= middle)):
        rows = {t: (kind, [row for row in found if keep(row[0])]) for t, (kind, found) in topics.items()}
        write_ros(folder / f"{folder.name}_{part}.mcap", {t: one for t, one in rows.items() if one[1]})
    if metadata:
        counts = {topic: len(list(rows)) for topic, (_, rows) in topics.items()} | changes.pop("counts", {})
        value = {
            "version": 9,
            "storage_identifier": "mcap",
            "relative_file_paths": [f"{folder.name}_0.mcap", f"{folder.name}_1.mcap"],
            "topics_with_message_count": [
                {"topic_metadata": {"name": topic, "type": "x"}, "message_count": count}
                for topic, count in counts.items()
            ],
            "compression_format": "",
            "compression_mode": "",
            **changes,
        }
        (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": value}))
    return folder


def opened(path: Path, **hints: Any) -> McapSource:
    return open_mcap(path, Hints(**hints))


def test_metadata_make_one_recording_of_several_files(tmp_path: Path) -> None:
    topics, truth = arm(steps=40)
    whole = opened(write_ros(tmp_path / "whole.mcap", topics)).read(0)
    source = opened(split(tmp_path / "bag"))
    assert len(source) == 1
    episode = source.read(0)
    np.testing.assert_array_equal(episode.state, whole.state)
    np.testing.assert_array_equal(episode.images["front"], whole.images["front"])
    assert episode.instruction == whole.instruction == "stelle die Schüssel weg"
    assert (episode.valid.all(), notes_of(episode)) == (True, ())
    assert len(truth["state"]) == len(episode)
    assert [bag.path for bag in find_bags(tmp_path)[0]] == [tmp_path / "bag", tmp_path / "whole.mcap"]


def test_the_order_is_that_of_the_metadata(tmp_path: Path) -> None:
    names = ["bag_1.mcap", "bag_0.mcap"]
    (bag,) = find_bags(split(tmp_path / "bag", relative_file_paths=names))[0]
    assert [file.name for file in bag.files] == names
    old = find_bags(split(tmp_path / "old", relative_file_paths=["old/old_0.mcap"]))[0][0]
    assert [file.name for file in old.files] == ["old_0.mcap"]


def test_counts_that_disagree_are_said(tmp_path: Path) -> None:
    source = opened(split(tmp_path / "bag", counts={"/joint_states": 44}))
    assert notes_of(source.read(0)) == ("/joint_states: metadata.yaml counts 44 messages, the files have 40",)


def test_a_missing_file_is_the_fault_of_its_recording_alone(tmp_path: Path) -> None:
    split(tmp_path / "a")
    (split(tmp_path / "b") / "b_1.mcap").unlink()
    source = opened(tmp_path)
    source.read(0)
    with pytest.raises(DatasetError, match=r"b/metadata.yaml lists 2 files, of which 1 are missing: b_1.mcap; copy"):
        source.read(1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"relative_file_paths": ["../whole.mcap"]}, "'../whole.mcap' is not one of this folder"),
        ({"relative_file_paths": ["/etc/passwd"]}, "'/etc/passwd' is not one of this folder"),
        ({"relative_file_paths": []}, r"not what rosbag2 writes \(KeyError: 'files'\); write it anew with ros2 bag"),
        ({"storage_identifier": "sqlite3"}, "is stored as sqlite3, not as mcap: convert it with ros2 bag convert"),
        ({"compression_mode": "FILE", "compression_format": "lz4"}, "is packed as lz4, only zstd is read"),
        ({"topics_with_message_count": [3]}, "not what rosbag2 writes"),
    ],
)
def test_metadata_that_cannot_be_followed(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_ros(tmp_path / "whole.mcap", arm()[0])
    split(tmp_path / "bag", **changes)
    with pytest.raises(DatasetError, match=said):
        opened(tmp_path / "bag").read(0)


def test_metadata_that_are_no_yaml(tmp_path: Path) -> None:
    folder = split(tmp_path / "bag")
    (folder / "metadata.yaml").write_text("rosbag2: [")
    with pytest.raises(DatasetError, match=r"metadata.yaml cannot be read .*ros2 bag reindex"):
        opened(folder)
    (folder / "metadata.yaml").write_text("name: mine")  # of somebody else
    assert len(find_bags(folder)[0]) == 2


def test_packed_files_and_packed_messages(tmp_path: Path) -> None:
    whole = opened(write_ros(tmp_path / "whole.mcap", arm(steps=40)[0])).read(0)
    packer = zstandard.ZstdCompressor()
    folder = split(tmp_path / "bag", compression_mode="FILE", compression_format="zstd")
    for file in folder.glob("*.mcap"):
        file.with_name(f"{file.name}.zstd").write_bytes(packer.compress(file.read_bytes()))
        file.unlink()
    np.testing.assert_array_equal(opened(folder).read(0).state, whole.state)
    assert is_recording(folder)
    cut = folder / "bag_1.mcap.zstd"
    cut.write_bytes(cut.read_bytes()[:-900])
    with pytest.raises(DatasetError, match=r"bag_1.mcap.zstd: nothing of it can be unpacked, it is cut short"):
        opened(folder)
    path = split(tmp_path / "one", compression_mode="MESSAGE", compression_format="zstd") / "one_0.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("x", library="y")
        for topic in ("/action", "/state"):
            channel = writer.register_channel(topic, "json", 0)
            for step in range(4):
                data = packer.compress(b'{"data": [%d]}' % step)
                writer.add_message(channel, log_time=step * 100 * MS, publish_time=0, data=data)
        writer.finish()
    (path.parent / "one_1.mcap").write_bytes(path.read_bytes())
    episode = opened(path.parent, instruction="go").read(0)
    assert episode.state[:, 0].tolist() == [0, 1, 2, 3]


def test_parts_without_metadata_are_said(tmp_path: Path) -> None:
    folder = split(tmp_path / "bag", metadata=False)
    source = opened(folder, instruction="go")
    assert len(source) == 2
    assert any("2 files named as parts of one recording, and no metadata.yaml" in note for note in source.notes)
    one = opened(split(tmp_path / "whole") / "whole_1.mcap", instruction="go")
    assert any("whole_1.mcap is file 2 of 2 of one recording" in note for note in one.notes)


def test_a_file_that_the_metadata_do_not_list(tmp_path: Path) -> None:
    folder = split(tmp_path / "bag", relative_file_paths=["bag_0.mcap"])
    source = opened(folder, instruction="go")
    assert len(source) == 2
    assert any("bag_1.mcap is not listed in metadata.yaml" in note for note in source.notes)


def test_links(tmp_path: Path) -> None:
    for number in range(2):
        write_ros(tmp_path / f"disk/session{number}/deep/rec.mcap", arm(number)[0])
    root = tmp_path / "all"
    root.mkdir()
    for number in range(2):
        (root / f"session{number}").symlink_to(tmp_path / f"disk/session{number}", target_is_directory=True)
    (root / "again").symlink_to(tmp_path / "disk/session1/deep", target_is_directory=True)
    (root / "round").symlink_to(root, target_is_directory=True)
    (root / "file.mcap").symlink_to(tmp_path / "disk/session0/deep/rec.mcap")
    (root / "gone.mcap").symlink_to(tmp_path / "nowhere.mcap")
    (root / "._rec.mcap").write_bytes(b"Mac")
    assert is_recording(root)
    source = opened(root)
    assert sorted(bag.path.relative_to(root).as_posix() for bag in source.bags) == ["again/rec.mcap", "file.mcap"]
    assert {float(source.read(n).state[0, 0]) for n in range(2)} == {float(arm(n)[1]["state"][0, 0]) for n in range(2)}
    notes = " ".join(source.notes)
    for said in (
        "session0/deep/rec.mcap is the same file as",
        "round leads to a folder that is read already",
        f"gone.mcap is a link to {tmp_path}/nowhere.mcap, which does not exist",
        "._rec.mcap is hidden",
    ):
        assert said in notes
    assert len(list(source.bags)) == 2


def test_deep_folders_are_recognised(tmp_path: Path) -> None:
    write_ros(tmp_path / "2024/may/third/rec.mcap", arm()[0])
    assert len(open_source(tmp_path, Hints())) == 1
    assert not is_recording(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.mcap", b"", r"it is empty \(0 bytes\)"),
        ("lfs.mcap", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        ("page.mcap", b"<!doctype html><html>", "it is an HTML page"),
        ("old.bag", b"#ROSBAG V2.0\n", "a bag of ROS 1; rosbags-convert or mcap convert makes"),
        ("other.db3", b"SQLite format 3\x00", "an SQLite database, .*ros2 bag convert"),
        ("cut.mcap", b"\x89MCAP0\r\n", "expected messages, got none|no messages"),
    ],
)
def test_what_is_no_recording_is_named_and_does_not_hide_the_others(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=said):
        open_source(tmp_path / name, Hints())
    write_ros(tmp_path / "good.mcap", arm()[0])
    source = opened(tmp_path)
    number = [bag.path.name for bag in source.bags].index(name)
    source.read(1 - number)
    with pytest.raises(DatasetError, match=said):
        source.read(number)


def test_a_chunk_that_would_fill_the_memory(tmp_path: Path) -> None:
    """3 GB of zeros take some kilobytes; the head of the frame says what it unpacks to, whatever the chunk says."""
    data = b"\x28\xb5\x2f\xfd\xe0" + (3 * 2**30).to_bytes(8, "little") + bytes(100)
    record = (
        (0).to_bytes(8, "little") * 2 + (100).to_bytes(8, "little") + bytes(4) + (4).to_bytes(4, "little") + b"zstd"
    )
    record += len(data).to_bytes(8, "little") + data
    path = write_ros(tmp_path / "a.mcap", arm()[0])
    good = path.read_bytes()
    header = 8 + 9 + int.from_bytes(good[9:17], "little")
    path.write_bytes(good[:header] + b"\x06" + len(record).to_bytes(8, "little") + record + good[header:])
    with pytest.raises(DatasetError, match="a chunk that would unpack to 3221225472 bytes"):
        opened(path)
