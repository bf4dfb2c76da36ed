"""How long it takes to open a dataset of very many episodes, and what its index weighs."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vla.bench.measure import Note, Row, in_fresh_process
from vla.bench.settings import IndexConfig
from vla.core.contract import Contract, Dimension
from vla.core.machine.memory import resident_bytes
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

_REPEATS = 3


def bench_index(config: IndexConfig, note: Note) -> list[Row]:
    """Write the dataset into a temporary folder, open it in fresh processes, ask ``vla data info`` about it."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        root = Path(folder) / "index"
        note(f"writing {config.episodes:,} episodes of {config.steps} steps to {root}")
        start = time.perf_counter()
        write_synthetic(root, config)
        rows = [Row(name="write", value=config.episodes / (time.perf_counter() - start), unit="episodes/s")]
        note("opening it")
        found = [in_fresh_process(open_dataset, root) for _ in range(_REPEATS)]
        seconds, megabytes = min(s for s, _ in found), statistics.median(m for _, m in found)
        rows += [
            Row(name="Dataset.open", value=seconds, unit="s", bar=2.0),
            Row(name="memory of the open index", value=megabytes, unit="MB", bar=50.0),
        ]
        rows += time_info(root, note)
    return rows


def write_synthetic(root: Path, config: IndexConfig) -> None:
    """A dataset of random walks, with a hundred instructions and a tenth of the episodes failed."""
    contract = Contract(
        robot="synthetic",
        cameras=(),
        state=tuple(Dimension(name=f"joint{i}", unit="rad", low=-3.0, high=3.0) for i in range(8)),
        action=tuple(Dimension(name=f"joint{i}", unit="rad", low=-3.0, high=3.0) for i in range(8)),
        control_hz=20.0,
    )
    create_dataset(root, contract)
    segments = []
    for first in range(0, config.episodes, config.per_segment):
        with SegmentWriter(root, contract, {"about": "synthetic"}) as writer:
            for number in range(first, min(first + config.per_segment, config.episodes)):
                writer.append(_episode(number, config.steps))
            segments.append(writer.seal())
    publish(root, segments, "synthetic episodes")


def _episode(number: int, steps: int) -> Episode:
    rng = np.random.default_rng(number)
    walk = np.clip(np.cumsum(rng.normal(0, 0.05, (steps + 1, 8)), axis=0), -3, 3).astype(np.float32)
    time_ns = np.arange(steps, dtype=np.int64) * 50_000_000
    success = bool(rng.random() < 0.9)
    done = np.zeros(steps, np.bool_)
    done[-1] = success
    return Episode(
        images={},
        state=walk[:-1],
        action=walk[1:],
        action_executed=walk[1:],
        reward=done.astype(np.float32),
        done=done,
        valid=np.ones(steps, np.bool_),
        time_ns=time_ns,
        command_time_ns=time_ns + 1_000_000,
        instruction=f"reach pose {number % 100}",
        task="reach",
        split="train",
        seed=number,
        success=success,
    )


def open_dataset(root: Path) -> tuple[float, float]:
    """Seconds to open a dataset, and by how many MB the process grew."""
    before, start = resident_bytes()["rss"], time.perf_counter()
    dataset = Dataset.open(root)
    seconds = time.perf_counter() - start
    grown = resident_bytes()["rss"] - before
    assert len(dataset.episodes) > 0
    return seconds, grown / 1e6


def time_info(root: Path, note: Note) -> list[Row]:
    """``vla data info`` as a whole process."""
    command = [sys.executable, "-m", "vla.cli.main", "data", "info", str(root)]
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        seconds.append(time.perf_counter() - start)
        if done.returncode != 0:
            note(f"vla data info failed and is left out: {(done.stderr or done.stdout).strip()[-300:]}")
            return []
    return [Row(name="vla data info, the whole process", value=min(seconds), unit="s", bar=5.0)]
