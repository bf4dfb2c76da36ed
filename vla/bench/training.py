"""Batches as training takes them: how many frames a second reach it, and whether memory stays as it is."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.bench.frames import record, write_dataset
from vla.bench.measure import Note, Row, cpu_seconds, in_fresh_process, resident_bytes
from vla.bench.settings import LoaderConfig
from vla.datasets.dataset import Dataset
from vla.datasets.sampler import Order, ResumableSampler
from vla.datasets.windows import Windows

HISTORY, HORIZON = 2, 16
_WARM_UP = 4
"""Batches for each process before the clock starts."""
_MEMORY_SIZE = 64


class BatchReader(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Item ``i`` is the whole batch of step ``i``, put together where it is decoded."""

    def __init__(self, root: Path, batch: int, seed: int) -> None:
        self._windows = Windows(Dataset.open(root), HORIZON, history=HISTORY)
        self._sampler = ResumableSampler(order=Order(seed, len(self._windows)), batch=batch)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """Images stay uint8."""
        arrays = self._windows.batch(self._sampler.items(step))
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class _Steps(torch.utils.data.Sampler[int]):
    """0, 1, 2, ... until told to stop: a worker that is ended while it sends a batch aborts, and says so."""

    def __init__(self) -> None:
        self.stopped = False

    def __iter__(self) -> Iterator[int]:
        step = 0
        while not self.stopped:
            yield step
            step += 1


def bench_training(config: LoaderConfig, note: Note) -> list[Row]:
    """JPEG, two steps of two cameras a sample, in this process and in workers; wall time and CPU time of all."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        root, size = Path(folder) / "jpeg", config.training_size
        note(f"training loader: rendering and writing {config.frames} frames of each camera at {size} px")
        write_dataset(root, record(size, config.frames, config.noise, config.seed), "jpeg")
        rows = []
        for workers in (0, config.workers):
            note(f"training loader: {config.training_seconds:g} s with {workers} workers")
            wall, cpu = training_rates(root, config, workers)
            name = f"training loader, {size} px jpeg, {workers} workers"
            goal = 2500.0 if workers else None
            rows += [
                Row(name=f"{name}, wall time", value=wall, unit="frames/s", bar=goal),
                Row(name=f"{name}, CPU time", value=cpu, unit="frames/s"),
            ]
        return rows


def training_rates(root: Path, config: LoaderConfig, workers: int) -> tuple[float, float]:
    """Frames in a second of wall time, and in a second of CPU time of all processes."""
    reader = BatchReader(root, config.batch, config.seed)
    steps = _Steps()
    # Workers run one thread each, and send whole batches through shared memory.
    processes: dict[str, Any] = {"prefetch_factor": 4, "multiprocessing_context": "spawn"} if workers else {}
    loader = torch.utils.data.DataLoader(reader, batch_size=None, sampler=steps, num_workers=workers, **processes)
    batches = iter(loader)
    frames = 0
    for _ in range(_WARM_UP * max(1, workers)):
        next(batches)
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
    before, start = sum(map(cpu_seconds, pids)), time.perf_counter()
    while time.perf_counter() - start < config.training_seconds:
        images = next(batches)["images"]
        frames += images.shape[0] * images.shape[1] * images.shape[2]  # (b, t, n, ...)
    wall, cpu = time.perf_counter() - start, sum(map(cpu_seconds, pids)) - before
    steps.stopped = True
    for _ in batches:
        pass
    return frames / wall, frames / cpu


def bench_memory(config: LoaderConfig, note: Note) -> list[Row]:
    """Resident memory while samples are read, in a process of its own, from 5 % of them on."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        root = Path(folder) / "memory"
        note(f"memory: {config.memory_samples:,} samples of {_MEMORY_SIZE} px in one process")
        write_dataset(root, record(_MEMORY_SIZE, 4 * config.frames, 0.0, config.seed), "zstd")
        growth = in_fresh_process(memory_growth, root, config.memory_samples, config.batch, config.seed)
    return [
        Row(name=f"{name} growth over {config.memory_samples:,} samples", value=100 * value, unit="%", bar=10.0)
        for name, value in growth.items()
    ]


def memory_growth(root: Path, samples: int, batch: int, seed: int) -> dict[str, float]:
    """By how much the highest resident memory exceeds the lowest, as a fraction: all of it, and without files."""
    reader = BatchReader(root, batch, seed)
    steps = -(-samples // batch)
    seen: list[dict[str, int]] = []
    for step in range(steps):
        reader[step]
        if step >= steps // 20:
            seen.append(resident_bytes())
    series = {"RSS": [s["rss"] for s in seen], "RssAnon": [s["anonymous"] for s in seen]}
    return {name: float(np.max(values) / np.min(values) - 1) for name, values in series.items()}
