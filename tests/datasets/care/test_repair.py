"""What crashes leave is finished or removed, what is live stays, what is sealed never changes, and twice is as once."""

import hashlib
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.sealed import COMMIT
from vla.core.types import Episode
from vla.datasets.care.pack import pack
from vla.datasets.care.repair import Repaired, repair
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.recorder.episode_writer import EpisodeWriter
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.documents import encode
from vla.datasets.store.manifest import latest_number, publish
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.staging import JOURNAL, StagedSegment, alone, host_name, unfinished

MakeDataset = Callable[..., Dataset]
MakeEpisode = Callable[..., Episode]
Same = Callable[[Episode, Episode], None]
Record = Callable[..., None]


def contents(root: Path) -> dict[str, str]:
    """Digest of each file in a sealed segment or manifest, wherever it lies now."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith("segments/."):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def repair_twice(root: Path, **arguments: Any) -> Repaired:
    """Repair; the second time there is nothing to do, and nothing that was sealed has changed either time."""
    before = contents(root)
    report = repair(root, **arguments)
    after = contents(root)
    moved = {name: after.get(name) or _in_quarantine(name, after) for name in before}
    assert moved == before
    again = repair(root, **arguments)
    assert (again.done, again.lost, again.manifest) == ([], [], None)
    assert contents(root) == after
    return report


def _in_quarantine(name: str, files: dict[str, str]) -> str | None:
    folder, _, rest = name.partition("/")
    if folder == "segments":
        return files.get(f"quarantine/{rest}")
    found = [digest for file, digest in files.items() if file.startswith(f"quarantine/{rest or name}")]
    return found[0] if found else None


def unlocked(root: Path, segment: str) -> Path:
    """Undo the last step of a seal: its writer died before the rename."""
    folder = root / "segments" / f".tmp-{segment}-{host_name()}-999999"
    os.rename(root / "segments" / segment, folder)
    return folder


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> Dataset:
    return make_dataset([[3, 2], [4]])


@pytest.fixture
def root(dataset: Dataset) -> Path:
    return Path(dataset.url)


@pytest.fixture
def orphan(root: Path, contract: Contract, make_episode: MakeEpisode) -> str:
    """A segment of an episode of 6 steps, sealed and not published."""
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(make_episode(6, 70))
        return writer.seal()


@pytest.fixture
def record(root: Path, contract: Contract, make_episode: MakeEpisode) -> Record:
    """Hands some steps of an episode to a recorder, and lets it die there."""

    def run(steps: int) -> None:
        episode = make_episode(10, 80)
        with (
            suppress(ZeroDivisionError),
            EpisodeWriter(root, contract, {}, instruction=episode.instruction, task="put", seed=80) as writer,
        ):
            for i in range(steps):
                writer.add(
                    images={camera: frames[i] for camera, frames in episode.images.items()},
                    state=episode.state[i],
                    action=episode.action[i],
                    signals={name: rows[i] for name, rows in episode.signals.items()},
                    time_ns=int(episode.time_ns[i]),
                )
            raise ZeroDivisionError

    return run


def test_nothing_to_do(root: Path) -> None:
    assert repair_twice(root) == Repaired()
    seen: list[str] = []
    repair(root, seen.append)
    assert sorted(seen) == sorted(Dataset.open(root).manifest.segments)


def test_what_is_no_dataset(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DatasetError, match="is no dataset"):
            repair(path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_dataset(tmp_path: Path, contract: Contract) -> None:
    create_dataset(tmp_path, contract)
    assert repair_twice(tmp_path) == Repaired()
    assert latest_number(tmp_path) is None


@pytest.mark.parametrize("files", [[], ["data.zarr/zarr.json"], [f".{COMMIT}"], ["models/x.xml", "episodes.json"]])
def test_a_seal_that_had_not_begun_is_removed(root: Path, files: list[str]) -> None:
    staged = StagedSegment.begin(LocalStorage(root))
    for name in files:
        (staged.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (staged.folder / name).write_text("{}")
    staged.leave()
    report = repair_twice(root)
    assert report.done == [f"{staged.folder.name}: removed, nothing in it was whole"]
    assert not staged.folder.exists()
    assert report.manifest is None


@pytest.mark.parametrize("journal", [True, False])
def test_a_seal_that_lacked_only_the_rename_is_finished(
    root: Path, dataset: Dataset, orphan: str, journal: bool, make_episode: MakeEpisode, assert_same: Same
) -> None:
    folder = unlocked(root, orphan)
    if journal:  # it is removed just before the rename
        (folder / JOURNAL).write_bytes(b"whatever")
    report = repair_twice(root)
    assert report.done == [f"segment {orphan}: its seal was finished", f"segment {orphan}: published"]
    assert report.manifest == 3
    after = Dataset.open(root)
    assert after.manifest.segments == (*dataset.manifest.segments, orphan)
    assert_same(after.read_episode(3), make_episode(6, 70))
    assert validate(root, "full") == []


def test_a_published_segment_that_is_not_in_its_place_yet(root: Path, dataset: Dataset) -> None:
    """After a power cut the rename may be lost, though its version is there."""
    unlocked(root, dataset.manifest.segments[1])
    with pytest.raises(DatasetError, match="never sealed"):
        Dataset.open(root)
    report = repair_twice(root)
    assert report.manifest is None
    assert len(Dataset.open(root).episodes) == 3


def test_an_orphan_is_published_once(root: Path, orphan: str) -> None:
    report = repair_twice(root)
    assert (report.done, report.manifest) == ([f"segment {orphan}: published"], 3)
    assert Dataset.open(root).manifest.reason == "repair"


def test_a_recording_is_recovered(root: Path, record: Record, make_episode: MakeEpisode) -> None:
    record(7)
    (remains,) = unfinished(LocalStorage(root))
    report = repair_twice(root)
    after = Dataset.open(root)
    record_ = after.episodes[3]
    assert report.done[0] == f"episode {record_.uid}: recovered from the journal of its recorder"
    assert record_.uid.removesuffix("-000000") in remains.folder.name
    assert (record_.length, record_.seed, record_.success) == (7, 80, None)
    assert record_.provenance == {"recovered": True}
    episode, truth = after.read_episode(3), make_episode(10, 80)
    for camera in truth.images:
        assert episode.images[camera].tobytes() == truth.images[camera][:7].tobytes()
    assert episode.action.tobytes() == truth.action[:7].tobytes()
    assert validate(root, "full") == []


@pytest.mark.parametrize("left", ["shards", "no shards", "no frames", "empty journal"])
def test_a_recording_without_steps_is_removed(root: Path, record: Record, left: str) -> None:
    record(0 if left == "shards" else 2)
    (remains,) = unfinished(LocalStorage(root))
    if left == "no shards":
        shutil.rmtree(remains.folder / "data.zarr")
    elif left == "no frames":
        for shard in remains.folder.rglob("c/0/0/0/0"):
            os.truncate(shard, 0)
    elif left == "empty journal":
        os.truncate(remains.folder / JOURNAL, 0)
    report = repair_twice(root)
    assert report.done == [f"{remains.folder.name}: removed, nothing in it was whole"]
    assert not remains.folder.exists()


def test_a_seal_of_a_recorder_may_die_anywhere(root: Path, record: Record) -> None:
    """Half of what `finish` writes is there, its commit record under its first name."""
    record(5)
    (remains,) = unfinished(LocalStorage(root))
    folder = remains.folder
    other = root / "segments" / Dataset.open(root).manifest.segments[0]
    for name in ("data.zarr/zarr.json", "data.zarr/action/zarr.json", "data.zarr/state/c/0/0", "episodes.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(other / name, folder / name)
    shard = next(iter(folder.rglob("c/0/0/0/0")))
    with shard.open("ab") as file:
        file.write(b"half an index")
    (folder / f".{COMMIT}").write_bytes((other / COMMIT).read_bytes()[:100])
    repair_twice(root)
    after = Dataset.open(root)
    assert after.episodes[3].length == 5
    after.read_episode(3)
    assert validate(root, "full") == []


def test_live_writers_are_left_alone(
    root: Path, contract: Contract, make_episode: MakeEpisode, assert_same: Same
) -> None:
    episode = make_episode(3, 90)
    step: dict[str, Any] = {
        "images": {camera: frames[0] for camera, frames in episode.images.items()},
        "state": episode.state[0],
        "action": episode.action[0],
        "signals": {name: rows[0] for name, rows in episode.signals.items()},
    }
    with (
        SegmentWriter(root, contract, {}) as writer,
        EpisodeWriter(root, contract, {}, instruction="go", task="go") as recorder,
    ):
        writer.append(episode)
        recorder.add(time_ns=1, **step)
        for _ in range(2):
            report = repair(root)
            assert (report.done, report.lost, report.manifest) == ([], [], None)
            assert sorted(line.split(": ")[1] for line in report.left) == ["its writer is alive"] * 2
        segment = writer.seal()
        report = repair(root)
        assert len(report.left) == 1
        assert (report.done, report.manifest) == ([], None)  # sealed: it is about to be published
        assert publish(root, [segment], "test") == 3
        recorder.add(time_ns=2, **step)
        recorder.finish(True)
    after = Dataset.open(root)
    assert [record.length for record in after.episodes] == [3, 2, 4, 3, 2]
    assert_same(after.read_episode(3), episode)
    assert repair_twice(root) == Repaired()


def test_a_fork_of_a_writer_neither_unlocks_nor_removes(
    root: Path, contract: Contract, make_episode: MakeEpisode
) -> None:
    """It shares the lock, which the writer can still give back alone."""
    writer = SegmentWriter(root, contract, {})
    writer.append(make_episode(2, 90))
    context = multiprocessing.get_context("fork")
    process = context.Process(target=writer.abandon)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert len(repair(root).left) == 1  # it is alive, and its folder is there
    sleeper = context.Process(target=time.sleep, args=(60,))
    sleeper.start()
    segment = writer.seal()
    writer.abandon()
    assert repair(root).done == [f"segment {segment}: published"]
    sleeper.kill()
    sleeper.join()
    assert len(Dataset.open(root).episodes) == 4


def test_other_machines_recover_their_own(root: Path, record: Record) -> None:
    record(4)
    (remains,) = unfinished(LocalStorage(root))
    foreign = remains.folder.with_name(remains.folder.name.replace(host_name(), "robot-7.lab"))
    os.rename(remains.folder, foreign)
    report = repair_twice(root)
    assert report.left == [f"{foreign.name}: written by machine robot-7.lab; run vla data repair there"]
    assert foreign.exists()
    report = repair_twice(root, hosts=["robot-7.lab"])  # it is gone: a container, say
    assert report.manifest == 3
    assert Dataset.open(root).episodes[3].length == 4


def test_temporary_files_are_removed_when_they_are_old(root: Path) -> None:
    names = [".dataset.json.abc", "manifests/.000003.json.abc", "segments/.new-0-host-1"]
    for name in names[:2]:
        (root / name).write_bytes(b"{")
    (root / names[2]).mkdir()
    assert repair_twice(root) == Repaired()
    hour_ago = time.time() - 3600
    for name in names:
        os.utime(root / name, (hour_ago, hour_ago))
    report = repair(root)
    assert sorted(report.done) == sorted(
        f"{Path(name).name}: removed, a temporary file that was left" for name in names
    )
    assert not any((root / name).exists() for name in names)
    assert repair(root) == Repaired()


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_a_damaged_latest_version(root: Path, orphan: str, how: str) -> None:
    """Its segments are published again on the version before."""
    publish(root, [orphan], "the latest")
    path = root / "manifests" / "000003.json"
    data = path.read_bytes()
    path.write_bytes({"flipped": data.replace(b"latest", b"lateSt"), "cut": data[: len(data) // 2], "empty": b""}[how])
    with pytest.raises(DatasetError, match=r"000003\.json.*damaged"):
        Dataset.open(root)
    report = repair_twice(root)
    assert report.manifest == 4
    assert report.lost[0].startswith("manifest 3 is damaged: version 4 starts from version 2")
    after = Dataset.open(root)
    assert (after.manifest.number, after.manifest.parent, len(after.episodes)) == (4, 2, 4)
    assert sorted(path.name for path in (root / "manifests").iterdir()) == [f"00000{n}.json" for n in (1, 2, 4)]
    assert validate(root, "full") == []


def test_all_versions_damaged_or_gone(root: Path, dataset: Dataset) -> None:
    for path in (root / "manifests").iterdir():
        path.write_bytes(b"?")
    report = repair_twice(root)
    assert report.manifest == 3
    assert Dataset.open(root).manifest.segments == dataset.manifest.segments  # ids are in the order of their time
    shutil.rmtree(root / "manifests")
    assert repair_twice(root).manifest == 4  # no number is given twice
    assert [record.uid for record in Dataset.open(root).episodes] == [record.uid for record in dataset.episodes]


def test_a_damaged_older_version_changes_nothing_else(root: Path) -> None:
    (root / "manifests" / "000001.json").write_bytes(b"")
    report = repair_twice(root)
    assert report.manifest is None
    assert "quarantine/000001.json" in report.done[0]
    assert Dataset.open(root).manifest.number == 2


@pytest.mark.parametrize("how", ["missing", "flipped", "empty"])
def test_dataset_json_is_rebuilt(root: Path, how: str) -> None:
    path = root / "dataset.json"
    data = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(data.replace(b"arm", b"ark") if how == "flipped" else b"")
    newest = max((root / "segments").iterdir()) / "dataset.json"
    newest.write_bytes(newest.read_bytes().replace(b"arm", b"ark"))  # a copy that is damaged is not used
    report = repair(root)
    assert "dataset.json restored from segment" in report.done[0]
    assert path.read_bytes() == data
    assert len(list((root / "quarantine").glob("dataset.json-*"))) == (how != "missing")
    assert len(Dataset.open(root).episodes) == 3
    assert repair(root) == Repaired()


def test_dataset_json_without_any_copy(tmp_path: Path, contract: Contract) -> None:
    create_dataset(tmp_path, contract)
    (tmp_path / "dataset.json").write_bytes(b"{")
    with pytest.raises(DatasetError, match=r"dataset\.json is damaged"):
        repair(tmp_path)
    assert (tmp_path / "dataset.json").read_bytes() == b"{"


@pytest.mark.parametrize("name", ["dataset.json", "manifests/000003.json", "segments/SEGMENT/COMMIT.json"])
def test_what_a_newer_version_wrote_is_not_touched(root: Path, orphan: str, name: str) -> None:
    publish(root, [orphan], "latest")
    path = root / name.replace("SEGMENT", orphan)
    path.write_bytes(encode({"format_version": "3.0", "later": 1}))
    before = contents(root)
    with pytest.raises(DatasetError, match=r"format version 3\.0, this software reads 2\.x"):
        repair(root)
    assert contents(root) == before


def test_one_at_a_time(root: Path) -> None:
    with alone(LocalStorage(root), "wait"):
        for act in (repair, pack):
            with pytest.raises(DatasetError, match="another pack or repair is at work; wait until it is done"):
                act(root)
    assert repair(root) == Repaired()


def test_the_lock_of_a_killed_repair_is_free(root: Path) -> None:
    def hold(ready: Any) -> None:
        with alone(LocalStorage(root), "wait"):
            ready.set()
            time.sleep(60)

    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(ready,))
    process.start()
    assert ready.wait(30)
    with pytest.raises(DatasetError, match="another pack or repair"):
        repair(root)
    process.kill()
    process.join()
    assert repair(root) == Repaired()


def test_a_full_disk_keeps_what_waits(root: Path, record: Record) -> None:
    record(6)
    (remains,) = unfinished(LocalStorage(root))

    def attempt(queue: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
        report = repair(root)
        queue.put((report.left, report.done, report.lost))

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=attempt, args=(queue,))
    process.start()
    process.join()
    left, done, lost = queue.get()
    assert (done, lost) == ([], [])
    assert left[0].startswith(f"{remains.folder.name}: cannot be recovered")
    report = repair_twice(root)
    assert report.manifest == 3
    assert Dataset.open(root).episodes[3].length == 6


def test_copies_that_were_never_published_are_put_aside(root: Path, dataset: Dataset, contract: Contract) -> None:
    """A pack that was killed after its segment was sealed."""
    with SegmentWriter(root, contract, {}, replaces=dataset.manifest.segments) as writer:
        for number in range(3):
            writer.copy(dataset.episodes[number], dataset.read_rows(number), dataset.image_files(number))
        copy = writer.seal()
        assert repair(root).done == []  # its writer lives
    report = repair_twice(root)
    assert report.done == [f"segments/{copy}: moved to quarantine/{copy}, a copy that was never published"]
    assert report.manifest is None
    assert Dataset.open(root).manifest == dataset.manifest
