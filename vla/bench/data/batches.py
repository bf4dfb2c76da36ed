"""Batches as training takes them: how many frames a second reach it, and whether memory stays as it is."""

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vla.bench.data.frames import record, write_dataset
from vla.bench.measure import Note, Row, cpu_seconds, in_fresh_process
from vla.bench.settings import LoaderConfig
from vla.core.machine.memory import resident_bytes
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.loader import Batches, iterate_steps, tensors
from vla.datasets.sampling.order import Order, ResumableSampler
from vla.datasets.sampling.windows import Windows

HISTORY, HORIZON = 2, 16
_WARM_UP = 4
"""Batches for each process before the clock starts."""
_MEMORY_SIZE = 64


def batches(root: Path, batch: int, seed: int) -> Batches[dict[str, torch.Tensor]]:
    """Shuffled windows of a dataset, two steps of history and 16 of actions."""
    windows = Windows(Dataset.open(root), HORIZON, history=HISTORY)
    return Batches(windows, ResumableSampler(order=Order(seed, len(windows)), batch=batch), tensors)


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
    loaded = iterate_steps(batches(root, config.batch, config.seed), workers)
    frames = 0
    for _ in range(_WARM_UP * max(1, workers)):
        next(loaded)
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
    before, start = sum(map(cpu_seconds, pids)), time.perf_counter()
    while time.perf_counter() - start < config.training_seconds:
        images = next(loaded)["images"]
        frames += images.shape[0] * images.shape[1] * images.shape[2]  # (b, t, n, ...)
    wall, cpu = time.perf_counter() - start, sum(map(cpu_seconds, pids)) - before
    loaded.close()
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
    reader = batches(root, batch, seed)
    steps = -(-samples // batch)
    seen: list[dict[str, int]] = []
    for step in range(steps):
        reader[step]
        if step >= steps // 20:
            seen.append(resident_bytes())
    series = {"RSS": [s["rss"] for s in seen], "RssAnon": [s["anonymous"] for s in seen]}
    return {name: float(np.max(values) / np.min(values) - 1) for name, values in series.items()}
