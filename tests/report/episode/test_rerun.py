"""Recordings are read back with Rerun's own reader; what needs no Rerun is tested without it."""

import importlib.util
import io
import subprocess
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError, VlaError
from vla.core.types import Episode
from vla.report.episode.rerun import write_rrd

STEPS = 6
CLOCK_NS = np.array([-10, 40, 55, 190, 510], np.int64) * 1_000_000
needs_rerun = pytest.mark.skipif(importlib.util.find_spec("rerun") is None, reason="rerun-sdk is not installed")


@pytest.fixture
def contract() -> Contract:
    cameras = (
        Camera(name="front", height=16, width=24),
        Camera(name="depth.0", height=16, width=24, kind="depth"),
        Camera(name="side", height=16, width=24, hz=9.0),
    )
    joint, grip = (Dimension(name=n, unit=u, low=-1.0, high=1.0) for n, u in (("joint 1", "rad"), ("grip", "m/s")))
    return Contract(robot="arm", cameras=cameras, state=(joint, grip, joint), action=(joint, grip), control_hz=10.0)


@pytest.fixture
def episode() -> Episode:
    rng = np.random.default_rng(0)
    action = rng.standard_normal((STEPS, 2)).astype(np.float32)
    executed = action.copy()
    executed[3, 0] += 1
    time_ns = 1_700_000_000_000_000_000 + np.arange(STEPS, dtype=np.int64) * 100_000_000
    shades = np.broadcast_to((np.arange(STEPS) * 40).astype(np.uint8)[:, None, None, None], (STEPS, 16, 24, 3))
    return Episode(
        images={
            "front": shades.copy(),
            "depth.0": rng.integers(0, 60_000, (STEPS, 16, 24, 1)).astype(np.uint16),
            "side": shades[:5].copy(),
        },
        image_time_ns={"side": time_ns[0] + CLOCK_NS},
        state=rng.standard_normal((STEPS, 3)).astype(np.float32),
        action=action,
        action_executed=executed,
        reward=(np.arange(STEPS) == 4).astype(np.float32),
        done=np.arange(STEPS) == STEPS - 1,
        valid=np.arange(STEPS) > 1,
        time_ns=time_ns,
        command_time_ns=time_ns,
        instruction="把红色方块 <put> it",
        task="put",
        split="train",
        seed=3,
        success=True,
    )


def read(path: Path) -> dict[str, dict[str, list[Any]]]:
    """For each entity the values of each column, in the order of the rows; time in nanoseconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        chunk = pytest.importorskip("rerun.chunk", reason="reading back needs rerun-sdk 0.41 or newer")
    entities: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for part in chunk.RrdReader(path).stream():
        batch = part.to_record_batch()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            cast = column.cast("int64") if str(column.type).startswith("duration") else column
            entities[part.entity_path][name] += cast.to_pylist()
    return {entity: dict(columns) for entity, columns in entities.items()}


@needs_rerun
def test_numbers_come_back(contract, episode, tmp_path):
    path = tmp_path / "an episode.rrd"
    write_rrd(episode, contract, path, title="set <1>")
    entities = read(path)
    for signal, values in (("state", episode.state), ("action", episode.action)):
        radians = [i for i, d in enumerate(getattr(contract, signal)) if d.unit == "rad"]
        for unit, columns in (("rad", radians), (r"m\/s", [1])):
            lines = entities[f"/{signal}/{unit}"]
            scalars = [row for row in lines["Scalars:scalars"] if row is not None]
            np.testing.assert_array_equal(np.array(scalars, np.float32), values[:, columns])
            assert lines["step"] == list(range(STEPS))
            assert lines["time"] == (episode.time_ns - episode.time_ns[0]).tolist()
            (names,) = [row for row in lines["SeriesLines:names"] if row is not None]
            assert names == [getattr(contract, signal)[i].name for i in columns]
    executed = [row for row in entities["/action_executed/rad"]["Scalars:scalars"] if row is not None]
    np.testing.assert_array_equal(np.array(executed, np.float32), episode.action_executed[:, :1])
    assert r"/action_executed/m\/s" not in entities  # sent as commanded


@needs_rerun
def test_frames_come_back(contract, episode, tmp_path):
    path = tmp_path / "episode.rrd"
    write_rrd(episode, contract, path, title="set")
    entities = read(path)
    front = entities["/cameras/front"]
    assert front["step"] == list(range(STEPS))
    for step, (blob,) in enumerate(front["EncodedImage:blob"]):
        with Image.open(io.BytesIO(bytes(blob))) as image:
            assert np.abs(np.asarray(image).astype(int) - episode.images["front"][step]).max() <= 2
    depth = entities["/cameras/depth.0"]
    assert depth["step"] == list(range(STEPS))
    for step, (buffer,) in enumerate(depth["DepthImage:buffer"]):
        pixels = np.frombuffer(bytes(buffer), np.uint16).reshape(16, 24)
        np.testing.assert_array_equal(pixels, episode.images["depth.0"][step, ..., 0])
    assert depth["DepthImage:meter"][0] == [1000.0]


@needs_rerun
def test_a_camera_with_its_own_clock_keeps_its_times(contract, episode, tmp_path):
    path = tmp_path / "episode.rrd"
    write_rrd(episode, contract, path, title="set")
    side = read(path)["/cameras/side"]
    assert sorted(side["time"]) == CLOCK_NS.tolist()
    assert sorted(s for s in side["step"] if s is not None) == [0, 1, 1, 2]  # the last frame is after the last step


@needs_rerun
def test_words_and_events(contract, episode, tmp_path):
    path = tmp_path / "episode.rrd"
    write_rrd(episode, contract, path, title="set")
    entities = read(path)
    ((text,),) = entities["/episode"]["TextDocument:text"]
    assert text.startswith("把红色方块 <put> it\n")
    assert "success: yes" in text
    events = entities["/events"]
    found = sorted(zip(events["step"], (row[0] for row in events["TextLog:text"]), strict=True))
    assert found == [(0, "not to learn from, until step 1"), (4, "reward 1"), (5, "done")]


@needs_rerun
def test_rerun_itself_finds_no_fault(contract, episode, tmp_path):
    path = tmp_path / "episode.rrd"
    write_rrd(episode, contract, path, title="set")
    command = [sys.executable, "-m", "rerun", "rrd", "verify", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified without error" in done.stdout + done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["episode.rrd"]


def test_without_rerun_the_error_says_how_to_get_it(contract, episode, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(VlaError, match=r"episode\.rrd.*pip install 'vla\[rerun\]'"):
        write_rrd(episode, contract, tmp_path / "episode.rrd", title="set")
    assert list(tmp_path.iterdir()) == []


def test_an_episode_of_another_contract_is_refused_and_leaves_nothing(contract, episode, tmp_path):
    other = Contract(**{**vars(contract), "cameras": contract.cameras[:1]})
    with pytest.raises(DatasetError, match="cameras"):
        write_rrd(episode, other, tmp_path / "episode.rrd", title="set")
    assert list(tmp_path.iterdir()) == []
