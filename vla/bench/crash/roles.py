"""What the processes of the crash test do until they are killed. Each says on a pipe what it has done."""

import itertools
import json
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from vla.bench.crash.episodes import CONTRACT, SourceTruth, digest, make, truth_of
from vla.bench.crash.recording import hand_over, recorder_of
from vla.core.errors import DatasetError
from vla.core.machine.processes import Engine, end_with_parent
from vla.datasets.care.pack import pack
from vla.datasets.care.repair import repair
from vla.datasets.dataset import Dataset
from vla.datasets.formats.importing import ImportSettings, import_source
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

_NEWEST = 3
"""Episodes that a reader looks at in each version that it finds."""


def say(pipe: Connection, kind: str, *values: Any) -> None:
    """One message."""
    pipe.send_bytes(json.dumps([kind, *values]).encode())


def log_of(root: Path) -> Path:
    """Where the processes of a dataset write their complaints: those of a pool that is killed have many."""
    return root.with_name(f"{root.name}.log")


def _begin(root: Path) -> None:
    """A process group of its own, so that what it starts can be found; it ends when the test does."""
    os.setsid()
    end_with_parent()
    with log_of(root).open("ab") as log:
        os.dup2(log.fileno(), 2)


def write_segments(pipe: Connection, root: Path, seed: int) -> None:
    """Segments of one to three episodes; says of each that it is sealed, then that it is published."""
    _begin(root)
    rng = np.random.default_rng(seed)
    while True:
        with SegmentWriter(root, CONTRACT, {"role": "writer"}) as writer:
            sealed = []
            for _ in range(rng.integers(1, 4)):
                seed += 1 + (seed % 4 == 3)  # no long ones
                episode = make(seed)
                say(pipe, "stage", "writing")
                sealed.append([digest(episode), writer.append(episode)])
            say(pipe, "stage", "sealing")
            segment = writer.seal()
            say(pipe, "sealed", sealed)
            say(pipe, "stage", "publishing")
            publish(root, [segment], "crash test")
            say(pipe, "published", sealed)


def record_episodes(pipe: Connection, root: Path, seed: int) -> None:
    """Recordings at 100 Hz, some short, some long; says when each step was handed over."""
    _begin(root)
    while True:
        seed += 1
        episode = make(seed)
        say(pipe, "stage", "recording")
        writer = recorder_of(root, episode)
        with writer:
            due = time.monotonic()
            for step in hand_over(writer, episode):
                say(pipe, "step", seed, step, time.monotonic_ns())
                due += 0.01
                time.sleep(max(0.0, due - time.monotonic()))
            say(pipe, "stage", "sealing")
            uid = writer.finish(episode.success)
            say(pipe, "published", [[digest(episode), uid]])


def pack_often(pipe: Connection, root: Path, seed: int) -> None:
    """Pack to ever other sizes, so that there is always something to do."""
    _begin(root)
    rng = np.random.default_rng(seed)
    while True:
        try:
            pack(root, float(rng.uniform(0.1, 2.0)), on_episode=lambda steps: say(pipe, "stage", "packing"))
        except DatasetError as error:
            say(pipe, "refused", str(error))
            time.sleep(0.01)


def import_often(pipe: Connection, root: Path, source: Path, name: str, engine: Engine) -> None:
    """Import a file under ever other names; says when it begins with each, and when all of it is there."""
    _begin(root)
    for number in itertools.count():
        say(pipe, "begun", f"{name}-{number}")
        import_file(root, source, f"{name}-{number}", engine, lambda steps: say(pipe, "stage", "importing"))


def import_file(root: Path, source: Path, where: str, engine: Engine, on_episode: Callable[[int], None]) -> None:
    """Import a file under the name ``where``."""
    settings = ImportSettings(codecs={}, workers=2, engine=engine, segment_episodes=2, allow_duplicates=True)
    opened = SourceTruth(source).source
    import_source(opened, root, where=where, settings=settings, provenance={"role": "import"}, on_episode=on_episode)


def repair_often(pipe: Connection, root: Path) -> None:
    """Repair again and again."""
    _begin(root)
    while True:
        say(pipe, "stage", "repairing")
        try:
            repair(root)
        except DatasetError as error:
            say(pipe, "refused", str(error))
            time.sleep(0.01)


def read_newest(pipe: Connection, root: Path, source: Path | None) -> None:
    """Open the latest version and compare its newest episodes until told to stop; says how many, and what was wrong."""
    _begin(root)
    truth, read, versions, errors = truth_of(source), 0, 0, []
    while not pipe.poll(0.005):
        try:
            dataset = Dataset.open(root)
            versions += 1
            count = len(dataset.episodes)
            for number in range(max(0, count - _NEWEST), count):
                read += 1
                record = dataset.episodes[number]
                if digest(dataset.read_episode(number)) != truth.digest(record):
                    errors.append(f"episode {record.uid} of version {dataset.manifest.number} is not what was written")
        except DatasetError as error:
            if "nothing has been published" not in str(error):
                errors.append(str(error))
        except Exception as error:  # a reader must never see any
            errors.append(repr(error))
    say(pipe, "read", versions, read, errors[:20])
