"""Run as a process that writes: ``endless ROOT`` until it is killed, ``full ROOT [LIMIT]`` until the disk is full."""

import json
import resource
import sys
from pathlib import Path

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.manifest import publish
from vla.datasets.segment import SegmentWriter

_DIMENSION = (Dimension(name="x", unit="m", low=-1.0, high=1.0),)
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
        grounding=np.zeros((steps, 0), np.float32),
        instruction="go",
        task="go",
        split="train",
        seed=seed,
        success=None,
    )


def endless(root: Path) -> None:
    create_dataset(root, CONTRACT)
    seed = 0
    while True:
        with SegmentWriter(root, CONTRACT, {}) as writer:
            for _ in range(3):
                writer.append(episode(seed))
                seed += 1
            publish(root, [writer.seal()], "endless")
        sys.stdout.write("sealed\n")
        sys.stdout.flush()


def full(root: Path, limit: int | None) -> None:
    create_dataset(root, CONTRACT)
    with SegmentWriter(root, CONTRACT, {}) as writer:
        writer.append(episode(0, steps=2))
        writer.append(episode(1, steps=2))
        publish(root, [writer.seal()], "before")
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
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
    result = {"message": message, "entries": entries, "listed": list(after.manifest.segments), "same": same}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    if sys.argv[1] == "endless":
        endless(Path(sys.argv[2]))
    else:
        full(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
