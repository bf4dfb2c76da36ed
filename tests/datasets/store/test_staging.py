"""Folders of unfinished segments: whose they are, whether their writer lives, and how they become segments."""

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.sealed import COMMIT
from vla.core.types import Episode
from vla.datasets.dataset import create_dataset
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.layout import read_commit, sealed_segments, segment_name
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.staging import JOURNAL, StagedSegment, alone, host_name, is_locked, unfinished


@pytest.fixture
def storage(tmp_path: Path, contract: Contract) -> LocalStorage:
    create_dataset(tmp_path / "data", contract)
    return LocalStorage(tmp_path / "data")


def test_a_new_folder_is_locked_and_invisible(storage: LocalStorage) -> None:
    assert unfinished(storage) == []
    staged = StagedSegment.begin(storage)
    (remains,) = unfinished(storage)
    assert (remains.folder, remains.host) == (staged.folder, host_name())
    assert staged.folder.name == f".tmp-{staged.id}-{host_name()}-{os.getpid()}"
    assert is_locked(staged.folder)
    assert StagedSegment.adopt(storage, staged.folder) is None
    assert sealed_segments(storage) == []
    staged.abandon()
    assert unfinished(storage) == []
    assert not is_locked(staged.folder)
    assert StagedSegment.adopt(storage, staged.folder) is None  # it is gone
    staged.abandon()


def test_ids_sort_as_they_were_begun(storage: LocalStorage) -> None:
    staged = [StagedSegment.begin(storage) for _ in range(20)]
    ids = [one.id for one in staged]
    assert ids == sorted(set(ids))
    for one in staged:
        one.abandon()


def test_commit_and_install(storage: LocalStorage) -> None:
    staged = StagedSegment.begin(storage)
    (staged.folder / "deep" / "er").mkdir(parents=True)
    (staged.folder / "deep" / "er" / "größe").write_bytes(b"123")
    (staged.folder / "deep" / JOURNAL).write_bytes(b"no journal: it is not at the top")
    (staged.folder / JOURNAL).write_bytes(b"x")
    staged.commit(steps=7, episodes=2)
    assert sealed_segments(storage) == []
    staged.install()
    assert (staged.open, sealed_segments(storage)) == (False, [staged.id])
    folder = storage.root / segment_name(staged.id)
    assert not (folder / JOURNAL).exists()
    commit = read_commit(storage, staged.id)
    assert (commit.steps, commit.episodes) == (7, 2)
    assert set(commit.files) == {"deep/er/größe", f"deep/{JOURNAL}", "dataset.json"}
    assert commit.files["deep/er/größe"] == (3, "107b2fb2")
    assert is_locked(folder)  # until it is published, it is its writer's
    staged.release()
    assert not is_locked(folder)
    for act in (staged.release, staged.abandon, staged.leave):
        act()
    assert sealed_segments(storage) == [staged.id]
    assert unfinished(storage) == []


@pytest.mark.parametrize("committed", [False, True])
def test_a_seal_that_was_cut_short_is_done_again(storage: LocalStorage, committed: bool) -> None:
    """What is left of the first attempt is not part of the segment."""
    staged = StagedSegment.begin(storage)
    (staged.folder / "x").write_bytes(b"1")
    if committed:
        staged.commit(steps=9, episodes=9)
    (staged.folder / f".{COMMIT}").write_bytes(b"half a rec")
    staged.leave()
    adopted = StagedSegment.adopt(storage, staged.folder)
    assert adopted is not None
    assert adopted.id == staged.id
    adopted.commit(steps=2, episodes=1)
    adopted.install()
    adopted.release()
    assert sealed_segments(storage) == [adopted.id]
    assert set(read_commit(storage, adopted.id).files) == {"x", "dataset.json"}
    assert read_commit(storage, adopted.id).steps == 2


def test_leave_keeps_everything(storage: LocalStorage) -> None:
    staged = StagedSegment.begin(storage)
    (staged.folder / "x").write_bytes(b"1")
    staged.leave()
    assert not is_locked(staged.folder)
    assert [remains.folder for remains in unfinished(storage)] == [staged.folder]
    adopted = StagedSegment.adopt(storage, staged.folder)
    assert adopted is not None
    assert is_locked(staged.folder)
    assert (adopted.folder / "x").read_bytes() == b"1"
    adopted.abandon()
    assert unfinished(storage) == []


def test_a_live_writer_of_another_process_is_left_alone(storage: LocalStorage) -> None:
    def hold(began: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
        StagedSegment.begin(storage)
        began.set()
        done.wait()
        os._exit(0)  # as if it were killed

    context = multiprocessing.get_context("fork")
    began, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(began, done))
    process.start()
    assert began.wait(30)
    (remains,) = unfinished(storage)
    assert remains.folder.name.endswith(f"-{process.pid}")
    assert is_locked(remains.folder)
    assert StagedSegment.adopt(storage, remains.folder) is None
    done.set()
    process.join()
    assert not is_locked(remains.folder)
    adopted = StagedSegment.adopt(storage, remains.folder)
    assert adopted is not None
    adopted.abandon()


def test_a_fork_cannot_end_what_its_parent_writes(storage: LocalStorage) -> None:
    staged = StagedSegment.begin(storage)
    for act in (staged.abandon, staged.release, staged.leave):
        process = multiprocessing.get_context("fork").Process(target=act)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert is_locked(staged.folder)
    staged.commit(steps=1, episodes=1)
    staged.install()
    staged.release()
    assert sealed_segments(storage) == [staged.id]


def test_a_lock_ends_with_its_owner_though_a_fork_lives_on(storage: LocalStorage) -> None:
    staged = StagedSegment.begin(storage)
    context = multiprocessing.get_context("fork")
    done = context.Event()
    process = context.Process(target=done.wait)
    process.start()
    staged.leave()
    assert not is_locked(staged.folder)
    done.set()
    process.join()


def test_two_of_those_who_replace_segments(storage: LocalStorage) -> None:
    with alone(storage, "pack"):
        assert is_locked(storage.root)
        with pytest.raises(DatasetError, match="another pack or repair is at work; wait until it is done"):
            alone(storage, "repair").__enter__()
        staged = StagedSegment.begin(storage)  # writers go on
        staged.abandon()
    with alone(storage, "repair"):
        pass
    assert not is_locked(storage.root)
    with alone(LocalStorage(storage.root / "nothing"), "repair"):
        pass


def test_only_one_of_many_adopts(storage: LocalStorage) -> None:
    def attempt(queue: "multiprocessing.SimpleQueue[bool]", barrier: "multiprocessing.synchronize.Barrier") -> None:
        barrier.wait()
        found = StagedSegment.adopt(storage, folder)
        queue.put(found is not None)
        barrier.wait()  # nobody lets go before all have tried

    context = multiprocessing.get_context("fork")
    for _ in range(3):
        staged = StagedSegment.begin(storage)
        folder = staged.folder
        staged.leave()
        queue, barrier = context.SimpleQueue(), context.Barrier(4)
        workers = [context.Process(target=attempt, args=(queue, barrier)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert sorted(queue.get() for _ in workers) == [False, False, False, True]


def test_folders_that_are_none_of_ours(storage: LocalStorage) -> None:
    segments = storage.root / "segments"
    for name in (".new-0000000000000000-00000000-host-1", ".tmp-x-host-1", "0000000000000000-00000000", ".tmp-"):
        (segments / name).mkdir(parents=True)
    ours = ".tmp-0123456789abcdef-01234567-my-robot.lab-12"
    (segments / ours).mkdir()
    assert [(remains.folder.name, remains.host) for remains in unfinished(storage)] == [(ours, "my-robot.lab")]


def test_a_writer_holds_its_lock_until_it_leaves(
    storage: LocalStorage, contract: Contract, make_episode: Callable[..., Episode]
) -> None:
    with SegmentWriter(storage, contract, {}) as writer:
        writer.append(make_episode())
        segment = writer.seal()
        assert is_locked(storage.root / segment_name(segment))
    assert not is_locked(storage.root / segment_name(segment))


def test_a_commit_record_that_cannot_be_written_is_no_segment(storage: LocalStorage) -> None:
    staged = StagedSegment.begin(storage)
    (storage.root / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError):
        staged.commit(steps=1, episodes=1)
    assert not (staged.folder / COMMIT).exists()
    staged.abandon()


def test_what_is_committed_is_json(storage: LocalStorage) -> None:
    staged = StagedSegment.begin(storage)
    staged.commit(steps=1, episodes=1, replaces=("a", "b"))
    value = json.loads((staged.folder / COMMIT).read_text())
    assert value["replaces"] == ["a", "b"]
    assert value["format_version"] == "2.0"
    staged.abandon()


def test_a_lock_needs_a_folder(storage: LocalStorage, tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "nothing")
    name = tmp_path / ".tmp-0123456789abcdef-01234567-host-1"
    assert StagedSegment.adopt(storage, name) is None
    name.touch()
    assert StagedSegment.adopt(storage, name) is None
