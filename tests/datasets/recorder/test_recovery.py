"""What a recorder leaves that was killed, failed or met a full disk becomes an episode, up to its last whole step."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.running import running
from vla.core.contract import Contract
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.frames.codecs import FRAME_CODECS
from vla.datasets.recorder.episode_writer import EpisodeWriter
from vla.datasets.recorder.journal import recover
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.layout import image_name, sealed_segments, segment_name
from vla.datasets.store.manifest import publish
from vla.datasets.store.staging import JOURNAL, StagedSegment, unfinished

MakeEpisode = Callable[..., Episode]
Same = Callable[[Episode, Episode], None]
SCRIPT = Path(__file__).parents[1] / "store" / "writer_process.py"
ROWS = ("state", "action", "action_executed")
SCALARS = ("reward", "done", "valid", "time_ns", "command_time_ns")


@pytest.fixture
def root(tmp_path: Path, contract: Contract) -> Path:
    create_dataset(tmp_path / "my data", contract)
    return tmp_path / "my data"


@pytest.fixture
def rich_root(tmp_path: Path, rich_contract: Contract) -> Path:
    create_dataset(tmp_path / "rich", rich_contract, {"depth": "raw"})
    return tmp_path / "rich"


def record_and_fall(root: Path, contract: Contract, episode: Episode) -> None:
    """Hand over an episode as it happens, and raise a RuntimeError."""
    names = ("instruction", "instruction_alternatives", "task", "split", "seed", "model")
    events = [(time_ns, 1, "", i) for i, time_ns in enumerate(episode.time_ns.tolist())]
    for camera, times in episode.image_time_ns.items():
        events += [(time_ns, 0, camera, i) for i, time_ns in enumerate(times.tolist())]
    with EpisodeWriter(root, contract, {}, **{name: getattr(episode, name) for name in names}) as writer:
        for time_ns, _, camera, i in sorted(events):
            if camera:
                writer.add_frame(camera, episode.images[camera][i], time_ns)
                continue
            values: dict[str, Any] = {name: getattr(episode, name)[i] for name in ROWS}
            values |= {name: getattr(episode, name)[i].item() for name in SCALARS}
            values["signals"] = {name: rows[i] for name, rows in episode.signals.items()}
            images = {name: frames[i] for name, frames in episode.images.items() if name not in episode.image_time_ns}
            writer.add(images=images, sim_state=None if episode.sim_state is None else episode.sim_state[i], **values)
        raise RuntimeError("robot fell")


def recovered(storage: LocalStorage) -> str | None:
    """Recover the only unfinished recording; its uid."""
    (remains,) = unfinished(storage)
    staged = StagedSegment.adopt(storage, remains.folder)
    assert staged is not None
    uid = recover(staged)
    staged.leave()
    return uid


def pictured(step: int) -> np.ndarray:
    """As in ``writer_process.py``."""
    return np.random.default_rng(step).integers(0, 256, (64, 64, 3), np.uint8)


def assert_is_recording(episode: Episode, steps: int) -> None:
    assert len(episode) == len(episode.images["eye"]) == steps
    for i in range(steps):
        np.testing.assert_array_equal(episode.images["eye"][i], pictured(i))
    np.testing.assert_array_equal(episode.state[:, 0], np.arange(steps, dtype=np.float32))
    np.testing.assert_array_equal(episode.action, -episode.state)
    np.testing.assert_array_equal(episode.time_ns, np.arange(steps) * 1000)


@pytest.mark.parametrize("handed_over", [1, 1000])
def test_killed_while_recording(tmp_path: Path, handed_over: int) -> None:
    root = tmp_path / "größe 1"
    with running([sys.executable, SCRIPT, "record", root], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for i in range(handed_over):
            assert int(process.stdout.readline()) == i
        storage = LocalStorage(root)
        (remains,) = unfinished(storage)
        assert remains.folder.name.endswith(f"-{process.pid}")
        assert StagedSegment.adopt(storage, remains.folder) is None  # it lives
        process.kill()
        handed_over += len(process.stdout.read().split())
    uid = recovered(storage)
    if uid is None:
        assert handed_over < 50
        return
    assert unfinished(storage) == []
    publish(storage, sealed_segments(storage), "repair")
    data = Dataset.open(root)
    record = data.episodes[0]
    assert record.uid == uid
    # 2 ms each: less than a second is lost, and on a busy machine what waited to be packed.
    assert record.length >= handed_over - 500 - 256
    assert_is_recording(data.read_episode(0), record.length)
    assert (record.instruction, record.task, record.seed, record.success) == ("geh über 🧱", "go", 5, None)
    assert record.provenance == {"recovered": True}
    assert data.provenance(0) == {"git": "abc"}


@pytest.mark.parametrize("limit", [3_500, 200_000])
def test_a_full_disk_keeps_what_was_written(tmp_path: Path, limit: int) -> None:
    """The limit is met in the first frame, or between steps."""
    command: list[str | Path] = [sys.executable, "-W", "error", SCRIPT, "record-full", tmp_path, str(limit)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert b"Error" not in done.stderr  # such as files that were left to the garbage collector
    assert b"Warning" not in done.stderr
    result = json.loads(done.stdout)
    assert "disk full while writing recording" in result["message"]
    assert "vla data repair keeps its steps" in result["message"]
    assert result["steps"] < 99
    storage = LocalStorage(tmp_path)
    assert len(unfinished(storage)) == 1
    uid = recovered(storage)
    if limit < 64 * 64 * 3:
        assert uid is None
        return
    assert uid is not None
    expected = limit // len(FRAME_CODECS["zstd"].encode(pictured(0)))
    assert_is_recording(Dataset.of_segment(storage, sealed_segments(storage)[0]).read_episode(0), expected)


def test_an_exception_keeps_what_was_recorded(
    root: Path, contract: Contract, make_episode: MakeEpisode, assert_same: Same
) -> None:
    episode = make_episode(6)
    with pytest.raises(RuntimeError, match="robot fell"):
        record_and_fall(root, contract, episode)
    storage = LocalStorage(root)
    assert sealed_segments(storage) == []
    uid = recovered(storage)
    publish(storage, sealed_segments(storage), "repair")
    found = Dataset.open(root)
    assert found.episodes[0].uid == uid
    assert_same(found.read_episode(0), replace(episode, success=None, provenance={"recovered": True}))


@pytest.fixture
def left(rich_root: Path, rich_contract: Contract, make_rich_episode: MakeEpisode) -> tuple[Path, Path, Episode]:
    """The dataset, a copy of what a dead recorder left in it, and the episode that it recorded."""
    episode = make_rich_episode(6, provenance={})
    with pytest.raises(RuntimeError, match="robot fell"):
        record_and_fall(rich_root, rich_contract, episode)
    (found,) = unfinished(LocalStorage(rich_root))
    copy = rich_root.parent / "left" / found.folder.name
    copy.parent.mkdir()
    shutil.move(found.folder, copy)
    return rich_root, copy, episode


def cut(root: Path, copy: Path, name: str, size: int) -> Path:
    """Put the remains back, one file of them cut."""
    folder = root / "segments" / copy.name
    shutil.rmtree(folder.parent)
    shutil.copytree(copy, folder)
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])
    return folder


def assert_prefix(root: Path, episode: Episode, assert_same: Same) -> int:
    """Recover, and compare with the first steps of the episode; how many there are."""
    storage = LocalStorage(root)
    if recovered(storage) is None:
        return 0
    (segment,) = sealed_segments(storage)
    found = Dataset.of_segment(storage, segment).read_episode(0)
    n = len(found)
    assert n > 0
    frames = {camera: len(times) for camera, times in found.image_time_ns.items()}
    for camera, count in frames.items():  # as many as came before the last step, and perhaps some after it
        assert count >= np.searchsorted(episode.image_time_ns[camera], episode.time_ns[n - 1], side="right")
    images = {camera: array[: frames.get(camera, n)] for camera, array in episode.images.items()}
    clocks = {camera: array[: frames[camera]] for camera, array in episode.image_time_ns.items()}
    names = [*ROWS, *SCALARS, "sim_state"]
    rows: dict[str, Any] = {name: getattr(episode, name)[:n] for name in names}
    rows["signals"] = {name: values[:n] for name, values in episode.signals.items()}
    marks: dict[str, Any] = {"success": None, "provenance": {"recovered": True}}
    assert_same(found, replace(episode, images=images, image_time_ns=clocks, **rows, **marks))
    return n


def test_files_cut_anywhere_give_the_steps_before(left: tuple[Path, Path, Episode], assert_same: Same) -> None:
    root, copy, episode = left
    shards = [f"data.zarr/{image_name(camera, 0)}/c/0/0/0/0" for camera in episode.images]
    sizes = {name: (copy / name).stat().st_size for name in (JOURNAL, *shards)}
    lost = set()

    @settings(max_examples=30)
    @given(name=st.sampled_from(sorted(sizes)), share=st.floats(0, 1))
    def cut_anywhere(name: str, share: float) -> None:
        cut(root, copy, name, round(share * sizes[name]))
        lost.add(6 - assert_prefix(root, episode, assert_same))

    cut_anywhere()
    assert len(lost) > 3
    cut(root, copy, JOURNAL, sizes[JOURNAL])
    assert assert_prefix(root, episode, assert_same) == 6


def test_a_journal_cut_at_its_lines(left: tuple[Path, Path, Episode], assert_same: Same) -> None:
    root, copy, episode = left
    lines = (copy / JOURNAL).read_bytes().splitlines(keepends=True)
    steps, size = 0, len(lines[0])
    for line in lines[1:]:
        if b'"step"' in line:
            cut(root, copy, JOURNAL, size + len(line) - 1)
            assert assert_prefix(root, episode, assert_same) == steps
            steps += 1
        size += len(line)
        if b'"step"' in line:
            cut(root, copy, JOURNAL, size)
            assert assert_prefix(root, episode, assert_same) == steps
    assert steps == 6


def test_damaged_frames_end_a_recovery(left: tuple[Path, Path, Episode], assert_same: Same) -> None:
    root, copy, episode = left
    name = f"data.zarr/{image_name('depth', 0)}/c/0/0/0/0"
    size = (copy / name).stat().st_size
    for step in (0, 3, 5):
        folder = cut(root, copy, name, size)
        data = bytearray((folder / name).read_bytes())
        data[step * size // 6 + 20] ^= 4
        (folder / name).write_bytes(data)
        assert assert_prefix(root, episode, assert_same) == step


@pytest.mark.parametrize("name", ["journal", "images", "everything"])
def test_a_recorder_that_died_at_once(left: tuple[Path, Path, Episode], name: str) -> None:
    root, copy, _ = left
    folder = cut(root, copy, JOURNAL, 0 if name == "journal" else 10**6)
    if name == "images":
        shutil.rmtree(folder / "data.zarr" / "images" / "fast")
    elif name == "everything":
        shutil.rmtree(folder / "data.zarr")
    assert recovered(LocalStorage(root)) is None
    assert sealed_segments(LocalStorage(root)) == []


def test_a_recovery_that_was_cut_short_is_done_again(left: tuple[Path, Path, Episode], assert_same: Same) -> None:
    root, copy, episode = left
    folder = cut(root, copy, JOURNAL, 10**6)
    assert assert_prefix(root, episode, assert_same) == 6
    storage = LocalStorage(root)
    (segment,) = sealed_segments(storage)
    shutil.move(root / segment_name(segment), folder)  # as it was before the last rename
    shutil.copy(copy / JOURNAL, folder)
    assert assert_prefix(root, episode, assert_same) == 6
    shutil.move(root / segment_name(segment), folder)
    shutil.copy(copy / JOURNAL, folder)
    (folder / "COMMIT.json").rename(folder / ".COMMIT.json")  # and before the one before
    (folder / "episodes.json").unlink()
    assert assert_prefix(root, episode, assert_same) == 6
