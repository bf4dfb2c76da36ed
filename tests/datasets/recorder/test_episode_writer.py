"""What a recorder was handed is in the episode to the last bit; what does not fit is refused and nothing else."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract
from vla.core.errors import ContractError, DatasetError
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.recorder.episode_writer import EpisodeWriter
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.content import content_hash
from vla.datasets.store.layout import sealed_segments, segment_name
from vla.datasets.store.manifest import latest_number
from vla.datasets.store.staging import JOURNAL, is_locked, unfinished

MakeEpisode = Callable[..., Episode]
Same = Callable[[Episode, Episode], None]
ROWS = ("state", "action", "action_executed")
SCALARS = ("reward", "done", "valid", "time_ns", "command_time_ns")
ABOUT: dict[str, Any] = {"instruction": "räume den Tisch ab 🧱", "task": "clear"}


@pytest.fixture
def root(tmp_path: Path, contract: Contract) -> Path:
    create_dataset(tmp_path / "my data", contract)
    return tmp_path / "my data"


@pytest.fixture
def rich_root(tmp_path: Path, rich_contract: Contract) -> Path:
    create_dataset(tmp_path / "rich", rich_contract, {"depth": "raw"})
    return tmp_path / "rich"


def about(episode: Episode) -> dict[str, Any]:
    names = ("instruction", "instruction_alternatives", "task", "split", "seed", "model")
    return {name: getattr(episode, name) for name in names}


def step(episode: Episode, i: int) -> dict[str, Any]:
    """The arguments of `EpisodeWriter.add`."""
    values = {name: getattr(episode, name)[i] for name in ROWS}
    values |= {name: getattr(episode, name)[i].item() for name in SCALARS}
    values["signals"] = {name: rows[i] for name, rows in episode.signals.items()}
    values["images"] = {c: frames[i] for c, frames in episode.images.items() if c not in episode.image_time_ns}
    if episode.sim_state is not None:
        values["sim_state"] = episode.sim_state[i]
    return values


def events(episode: Episode) -> Iterator[tuple[str | None, int]]:
    """The steps (None, i) and the frames (camera, i) of an episode as they happen."""
    found: list[tuple[int, int, str | None, int]]
    found = [(time_ns, 1, None, i) for i, time_ns in enumerate(episode.time_ns.tolist())]
    for camera, times in episode.image_time_ns.items():
        found += [(time_ns, 0, camera, i) for i, time_ns in enumerate(times.tolist())]
    for _, _, name, i in sorted(found, key=lambda event: event[:2]):
        yield name, i


def record(writer: EpisodeWriter, episode: Episode) -> None:
    for camera, i in events(episode):
        if camera is None:
            writer.add(**step(episode, i))
        else:
            time_ns = int(episode.image_time_ns[camera][i])
            writer.add_frame(camera, episode.images[camera][i], time_ns)


@pytest.mark.parametrize("success", [True, False, None])
def test_steps_come_out_bit_equal(
    root: Path, contract: Contract, make_episode: MakeEpisode, assert_same: Same, success: bool | None
) -> None:
    episode = make_episode(
        9, 3, success=success, instruction="größer 🧱", instruction_alternatives=("a", "b"), split="val"
    )
    odd = np.array([-0.0, 1e-45, 2.9999998, 0.1, -1 / 3], np.float32)
    episode.state[:5] = odd
    episode.reward[:5] = np.where(odd > 2, np.float32(3.4028235e38), odd)
    with EpisodeWriter(root, contract, {"operator": "Jürgen"}, **about(episode)) as writer:
        record(writer, episode)
        uid = writer.finish(success)
    data = Dataset.open(root)
    assert (data.manifest.number, data.manifest.reason) == (1, "recorded put")
    assert_same(data.read_episode(0), episode)
    assert data.episodes[0].uid == uid
    assert data.episodes[0].content_hash == content_hash(episode)
    assert data.provenance(0) == {"operator": "Jürgen"}
    assert unfinished(data.storage) == []
    assert not is_locked(root / segment_name(data.manifest.segments[0]))
    assert JOURNAL not in data.storage.sizes(segment_name(data.manifest.segments[0]))


def test_cameras_with_clocks_and_simulator(
    rich_root: Path, rich_contract: Contract, make_rich_episode: MakeEpisode, assert_same: Same
) -> None:
    for seed, steps in enumerate([5, 1, 12]):
        episode = make_rich_episode(steps, seed, provenance={})
        with EpisodeWriter(rich_root, rich_contract, {}, **about(episode)) as writer:
            record(writer, episode)
            writer.finish(True)
        assert_same(Dataset.open(rich_root).read_episode(seed), episode)


def test_cameras_of_their_own_threads(
    rich_root: Path, rich_contract: Contract, make_rich_episode: MakeEpisode, assert_same: Same
) -> None:
    episode = make_rich_episode(40, 2, provenance={})

    def watch(camera: str) -> None:
        for i, time_ns in enumerate(episode.image_time_ns[camera].tolist()):
            writer.add_frame(camera, episode.images[camera][i], time_ns)
            first.set()
            time.sleep(0.001)

    with EpisodeWriter(rich_root, rich_contract, {}, **about(episode)) as writer:
        threads = []
        for camera in episode.image_time_ns:
            first = threading.Event()
            threads.append(threading.Thread(target=watch, args=(camera,)))
            threads[-1].start()
            assert first.wait(10)
        for i in range(40):
            writer.add(**step(episode, i))
            time.sleep(0.001)
        for thread in threads:
            thread.join()
        writer.finish(True)
    assert_same(Dataset.open(rich_root).read_episode(0), episode)


def test_what_may_be_left_out(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    episode = make_episode(2)
    with EpisodeWriter(root, contract, {}, **ABOUT) as writer:
        for i in range(2):
            known = {name: step(episode, i)[name] for name in ("images", "state", "action", "time_ns", "signals")}
            writer.add(**known)
        writer.finish(None)
    found = Dataset.open(root).read_episode(0)
    np.testing.assert_array_equal(found.action_executed, episode.action)
    np.testing.assert_array_equal(found.command_time_ns, episode.time_ns)
    assert (found.reward.tolist(), found.done.tolist(), found.valid.tolist()) == ([0, 0], [False] * 2, [True] * 2)
    assert (found.seed, found.split, found.success) == (0, "train", None)


def test_buffers_may_be_used_again(
    root: Path, contract: Contract, make_episode: MakeEpisode, assert_same: Same
) -> None:
    episode = make_episode(20)
    buffers = {name: np.empty_like(value) for name, value in step(episode, 0).items() if name in ROWS}
    images = {camera: np.empty((6, 8, 3), np.uint8) for camera in episode.images}
    with EpisodeWriter(root, contract, {}, **about(episode)) as writer:
        for i in range(20):
            values = step(episode, i)
            for name, buffer in buffers.items():
                buffer[...] = values[name]
            for camera, image in images.items():
                image[...] = values["images"][camera]
            writer.add(**{**values, **buffers, "images": images})
        writer.finish(True)
    assert_same(Dataset.open(root).read_episode(0), episode)


def test_a_refused_step_changes_nothing(
    rich_root: Path, rich_contract: Contract, make_rich_episode: MakeEpisode, assert_same: Same
) -> None:
    episode = make_rich_episode(6, provenance={})
    front, depth = episode.images["front"][0], episode.images["depth"][0]
    frames = {"front": front, "depth": depth}
    nan, inf = np.full(5, np.nan, np.float32), np.array([0, 0, np.inf, 0], np.float32)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"state": np.full(5, 57.3, np.float32)}, r"state s0: expected -3 to 3 rad .*, got 57.3; correct its unit"),
        ({"state": nan}, r"state: expected finite float32 \(5,\), got .*; drop the step"),
        ({"state": np.zeros(4, np.float32)}, r"state: expected finite float32 \(5,\)"),
        ({"state": np.zeros((1, 5), np.float32)}, r"state: expected finite float32 \(5,\)"),
        ({"action": inf}, r"action: expected finite float32 \(4,\)"),
        ({"action_executed": inf}, r"action_executed: expected finite float32 \(4,\)"),
        ({"reward": float("nan")}, r"reward: expected finite float32 \(\)"),
        ({"signals": {"place": np.zeros(1, np.float32)}}, r"signals: expected \[\], got \['place'\]"),
        ({"images": {"front": front}}, r"images: expected cameras \['front', 'depth'\], got \['front'\]"),
        ({"images": {**frames, "fast": front}}, "images: expected cameras"),
        ({"images": {**frames, "front": front[:-1]}}, r"images\['front'\]: expected uint8 \(6, 8, 3\), got uint8 \(5,"),
        ({"images": {**frames, "depth": depth[..., 0]}}, r"images\['depth'\]: expected uint16 \(5, 7, 1\)"),
        ({"images": {**frames, "depth": depth.astype(np.int32)}}, "expected uint16 .*, got int32"),
        ({"sim_state": None}, r"sim_state: expected shape \(6,\) as before, got None"),
        ({"sim_state": np.zeros(7)}, r"sim_state: expected shape \(6,\) as before, got \(7,\)"),
        ({"sim_state": np.full(6, np.nan)}, "sim_state: expected finite"),
        ({"time_ns": 0}, "time_ns of step: expected more than 50000000, got 0; clocks never run backwards"),
        ({"time_ns": 50_000_000}, "time_ns of step: expected more than 50000000, got 50000000"),
    ]
    with EpisodeWriter(rich_root, rich_contract, {}, **about(episode)) as writer:
        for camera, i in events(episode):
            if camera is None:
                if i == 2:
                    for change, message in wrong:
                        with pytest.raises(DatasetError, match=message):
                            writer.add(**{**step(episode, i), **change})
                writer.add(**step(episode, i))
            else:
                image, time_ns = episode.images[camera][i], int(episode.image_time_ns[camera][i])
                if camera == "fast" and i == 2:
                    for name, bad, at, message in [
                        ("fast", image[1:], time_ns, r"images\['fast'\]: expected uint8"),
                        ("fast", image, int(episode.image_time_ns["fast"][1]), "time_ns of fast: expected more than"),
                        ("front", image, time_ns, r"camera 'front': expected one with a rate of its own, \['fast'"),
                        ("side", image, time_ns, "camera 'side': expected one with a rate of its own"),
                    ]:
                        with pytest.raises(DatasetError, match=message):
                            writer.add_frame(name, bad, at)
                writer.add_frame(camera, image, time_ns)
        writer.finish(True)
    assert_same(Dataset.open(rich_root).read_episode(0), episode)


def test_the_first_step_needs_a_frame_of_each_camera(
    rich_root: Path, rich_contract: Contract, make_rich_episode: MakeEpisode, assert_same: Same
) -> None:
    episode = make_rich_episode(3, provenance={})
    times = {camera: episode.image_time_ns[camera].tolist() for camera in ("fast", "slow-depth")}
    with EpisodeWriter(rich_root, rich_contract, {}, **about(episode)) as writer:
        with pytest.raises(DatasetError, match=r"cameras \['fast', 'slow-depth'\] had given no frame"):
            writer.add(**step(episode, 0))
        writer.add_frame("fast", episode.images["fast"][0], times["fast"][0])
        writer.add_frame("slow-depth", episode.images["slow-depth"][0], 5)  # comes after step 0
        with pytest.raises(DatasetError, match=r"cameras \['slow-depth'\] had given no frame at 0 ns"):
            writer.add(**step(episode, 0))
        writer.add(**step(episode, 1))
        writer.finish(True)
    data = Dataset.open(rich_root)
    np.testing.assert_array_equal(data.frame("slow-depth", 0), episode.images["slow-depth"][0])


def test_what_is_said_of_an_episode_is_checked(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    wrong: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"instruction": " "}, {}, "instruction: expected a sentence"),
        ({"instruction": "\ud800"}, {}, "UTF-8"),
        ({"task": "\ud800"}, {}, "UTF-8"),
        ({"seed": 2**63}, {}, "seed: expected 64 bits"),
        ({}, {"x": float("nan")}, "provenance: expected JSON"),
        ({}, {"x": {1}}, "provenance: expected JSON"),
    ]
    for change, provenance, message in wrong:
        with pytest.raises(DatasetError, match=message):
            EpisodeWriter(root, contract, provenance, **{**ABOUT, **change})
    with pytest.raises(ContractError, match="the recorder does not fit dataset"):
        EpisodeWriter(root, replace(contract, control_hz=5.0), {}, **ABOUT)
    with pytest.raises(DatasetError, match="is no dataset"):
        EpisodeWriter(root / "nowhere", contract, {}, **ABOUT)
    assert unfinished(LocalStorage(root)) == []
    with (
        EpisodeWriter(root, contract, {}, **ABOUT, model="<mujoco/>") as writer,
        pytest.raises(DatasetError, match="model: a simulator model needs sim_state"),
    ):
        writer.add(**step(make_episode(1), 0))


def test_an_empty_recording(root: Path, contract: Contract) -> None:
    with EpisodeWriter(root, contract, {}, **ABOUT) as writer:
        with pytest.raises(DatasetError, match="the recording has no steps: expected at least 1; nothing was kept"):
            writer.finish(True)
        with pytest.raises(DatasetError, match="finished or abandoned"):
            writer.finish(True)
    storage = LocalStorage(root)
    assert (unfinished(storage), sealed_segments(storage), latest_number(storage)) == ([], [], None)


def test_leaving_without_finish_abandons(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    with EpisodeWriter(root, contract, {}, **ABOUT) as writer:
        record(writer, make_episode())
    storage = LocalStorage(root)
    assert (unfinished(storage), sealed_segments(storage)) == ([], [])
    with pytest.raises(DatasetError, match="the recording is finished or abandoned: begin a new EpisodeWriter"):
        writer.add(**step(make_episode(), 0))


def test_after_finish(root: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    episode = make_episode(3)
    with EpisodeWriter(root, contract, {}, **ABOUT) as writer:
        record(writer, episode)
        writer.finish(True)
        assert len(writer) == 3
        with pytest.raises(DatasetError, match="finished or abandoned"):
            writer.add(**{**step(episode, 0), "time_ns": 10**10})
        with pytest.raises(DatasetError, match="finished or abandoned"):
            writer.finish(False)
        writer.abandon()
    assert len(Dataset.open(root).episodes) == 1


def test_many_recorders_at_once(root: Path, contract: Contract, make_episode: MakeEpisode, assert_same: Same) -> None:
    episodes = {seed: make_episode(5, seed, success=None) for seed in range(4)}

    def run(episode: Episode) -> None:
        with EpisodeWriter(root, contract, {}, **about(episode)) as writer:
            record(writer, episode)
            writer.finish(None)

    threads = [threading.Thread(target=run, args=(episode,)) for episode in episodes.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = Dataset.open(root)
    assert data.manifest.number == 4
    for i, seed in enumerate(data.episodes.seeds.tolist()):
        assert_same(data.read_episode(i), episodes.pop(seed))
    assert not episodes


@pytest.fixture
def large(tmp_path: Path, contract: Contract) -> Contract:
    """A robot whose frames take milliseconds to pack."""
    wide = replace(contract, cameras=(Camera(name="front", height=480, width=640),), signals={})
    create_dataset(tmp_path / "large", wide)
    return wide


def large_step(contract: Contract, i: int, noise: np.ndarray) -> dict[str, Any]:
    state, action = (np.full(len(d), i / 10, np.float32) for d in (contract.state, contract.action))
    return {"images": {"front": np.roll(noise, i, axis=0)}, "state": state, "action": action, "time_ns": i}


def test_packing_is_off_the_calling_thread(tmp_path: Path, large: Contract) -> None:
    noise = np.random.default_rng(0).integers(0, 64, (480, 640, 3), np.uint8)
    with EpisodeWriter(tmp_path / "large", large, {}, **ABOUT) as writer:
        may_pack, threads, encode = threading.Event(), set[str](), writer._encode["front"]

        def packed(frame: np.ndarray) -> bytes:
            assert may_pack.wait(60)
            threads.add(threading.current_thread().name)
            return encode(frame)

        writer._encode["front"] = packed
        for i in range(24):
            writer.add(**large_step(large, i, noise))  # it waits for nobody
        assert len(writer) == 0
        may_pack.set()
        writer.finish(True)
    assert threads == {"episode-writer"}
    data = Dataset.open(tmp_path / "large")
    for i in (0, 23):
        np.testing.assert_array_equal(data.frame("front", i), np.roll(noise, i, axis=0))


def test_what_waits_is_limited(tmp_path: Path, large: Contract) -> None:
    noise = np.random.default_rng(0).integers(0, 64, (480, 640, 3), np.uint8)
    taken, refused = [], 0
    with EpisodeWriter(tmp_path / "large", large, {}, **ABOUT, max_pending=3) as writer:
        for i in range(30):
            values = large_step(large, i, noise)
            try:
                writer.add(**values)
            except DatasetError as error:
                refused += "3 steps wait to be written: packing is slower than the recording" in str(error)
            else:
                taken.append(i)
        writer.finish(True)
    assert refused == 30 - len(taken) > 0
    data = Dataset.open(tmp_path / "large")
    assert data.time_ns.tolist() == taken
    for row, i in enumerate(taken):
        np.testing.assert_array_equal(data.frame("front", row), np.roll(noise, i, axis=0))
