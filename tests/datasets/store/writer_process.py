"""Run as a process that writes: it is killed, or its disk is full.

endless ROOT             segments, until it is killed
full ROOT [LIMIT]        a segment, until the disk is full, or a file has LIMIT bytes
record ROOT              a recording, until it is killed; each step that was handed over is a line of output
record-full ROOT LIMIT   a recording, until a file has LIMIT bytes
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.recorder.episode_writer import EpisodeWriter
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

_DIMENSION = (Dimension(name="x", unit="m", low=-1e6, high=1e6),)
CONTRACT = Contract(
    robot="point",
    cameras=(Camera(name="eye", height=64, width=64),),
    state=_DIMENSION,
    action=_DIMENSION,
    control_hz=10.0,
)


def episode(seed: int, steps: int = 30) -> Episode:
    rng = np.random.default_rng(seed)
    line = np.full((steps, 1), seed, np.float32)
    return Episode(
        images={"eye": rng.integers(0, 256, (steps, 64, 64, 3), np.uint8)},
        state=line,
        action=line,
        action_executed=line,
        reward=np.zeros(steps, np.float32),
        done=np.zeros(steps, bool),
        valid=np.ones(steps, bool),
        time_ns=np.arange(steps, dtype=np.int64),
        command_time_ns=np.arange(steps, dtype=np.int64),
        instruction="go",
        task="go",
        split="train",
        seed=seed,
        success=None,
    )


def picture(step: int) -> np.ndarray:
    """The frame of a recording's step."""
    return np.random.default_rng(step).integers(0, 256, (64, 64, 3), np.uint8)


def add(writer: EpisodeWriter, step: int) -> None:
    line = np.full(1, step, np.float32)
    writer.add(images={"eye": picture(step)}, state=line, action=-line, time_ns=step * 1000)


def added(writer: EpisodeWriter, step: int) -> bool:
    """Whether there was room for it: a busy machine packs more slowly than this records."""
    try:
        add(writer, step)
    except DatasetError as error:
        if "wait to be written" not in str(error):
            raise
        return False
    return True


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def endless(root: Path) -> None:
    create_dataset(root, CONTRACT)
    seed = 0
    while True:
        with SegmentWriter(root, CONTRACT, {}) as writer:
            for _ in range(3):
                writer.append(episode(seed))
                seed += 1
            publish(root, [writer.seal()], "endless")
        say("sealed")


def _fill_disk(limit: int) -> None:
    """No file can become longer; nor is anything compiled that would be cut short for all that come after."""
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def full(root: Path, limit: int | None) -> None:
    create_dataset(root, CONTRACT)
    with SegmentWriter(root, CONTRACT, {}) as writer:
        writer.append(episode(0, steps=2))
        writer.append(episode(1, steps=2))
        publish(root, [writer.seal()], "before")
    if limit is not None:
        _fill_disk(limit)
    message = ""
    try:
        with SegmentWriter(root, CONTRACT, {}) as writer:
            for seed in range(100):
                writer.append(episode(seed))
            writer.seal()
    except DatasetError as error:
        message = str(error)
    after = Dataset.open(root)
    entries = [path.name for path in (root / "segments").iterdir()]
    same = all(np.array_equal(after.read_episode(i).images["eye"], episode(i, 2).images["eye"]) for i in range(2))
    say(json.dumps({"message": message, "entries": entries, "listed": list(after.manifest.segments), "same": same}))


def record(root: Path) -> None:
    create_dataset(root, CONTRACT)
    with EpisodeWriter(root, CONTRACT, {"git": "abc"}, instruction="geh über 🧱", task="go", seed=5) as writer:
        for step in range(10_000):
            while not added(writer, step):
                time.sleep(0.05)
            say(str(step))
            time.sleep(0.002)


def record_full(root: Path, limit: int) -> None:
    create_dataset(root, CONTRACT)
    _fill_disk(limit)
    message, step = "", 0
    try:
        with EpisodeWriter(root, CONTRACT, {}, instruction="go", task="go") as writer:
            for step in range(100):
                add(writer, step)
                time.sleep(0.002)
            writer.finish(True)
    except DatasetError as error:
        message = str(error)
    say(json.dumps({"message": message, "steps": step}))


if __name__ == "__main__":
    mode, folder = sys.argv[1], Path(sys.argv[2])
    size = int(sys.argv[3]) if len(sys.argv) > 3 else None
    if mode == "endless":
        endless(folder)
    elif mode == "full":
        full(folder, size)
    elif mode == "record":
        record(folder)
    else:
        assert size is not None
        record_full(folder, size)
