"""How long the recorder holds up a control loop that hands it two frames and a step at a fixed rate."""

import tempfile
import time
from pathlib import Path

import numpy as np

from vla.bench.data.frames import ENV, Recorded, record
from vla.bench.measure import Note, Row
from vla.bench.settings import RecorderConfig
from vla.datasets.dataset import create_dataset
from vla.datasets.recorder.episode_writer import EpisodeWriter

_FRAMES = 100
"""Rendered frames of each camera; they are recorded over and over."""


def bench_recorder(config: RecorderConfig, note: Note) -> list[Row]:
    """The time that `EpisodeWriter.add` takes on the calling thread, and how late the last step is on disk."""
    note(f"rendering {_FRAMES} frames of each camera at {config.size} px")
    recorded = record(config.size, _FRAMES, config.noise, 0)
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        root = Path(folder) / "recorded"
        create_dataset(root, recorded.contract, dict.fromkeys(recorded.cameras, config.codec))
        note(f"recording {config.seconds:g} s at {config.hz:g} Hz")
        seconds, finish = record_latencies(root, recorded, config)
    title = f"EpisodeWriter.add, 2 × {config.size} px {config.codec} at {config.hz:g} Hz"
    quantiles = {"median": 50, "99 %": 99, "worst": 100}
    rows = [
        Row(name=f"{title}, {name}", value=1e3 * float(np.percentile(seconds, percent)), unit="ms")
        for name, percent in quantiles.items()
    ]
    return [*rows, Row(name="EpisodeWriter.finish: rest packed, sealed, published", value=1e3 * finish, unit="ms")]


def record_latencies(root: Path, recorded: Recorded, config: RecorderConfig) -> tuple[np.ndarray, float]:
    """Seconds of each call of ``add``, float64 (t,), and of ``finish``."""
    rows = [(episode, step) for episode in recorded.episodes for step in range(len(episode))]
    steps, period_ns = round(config.seconds * config.hz), round(1e9 / config.hz)
    taken = np.empty(steps)
    with EpisodeWriter(root, recorded.contract, {}, instruction="measure", task=ENV) as writer:
        begin = time.perf_counter_ns()
        for number in range(steps):
            episode, row = rows[number % len(rows)]
            time.sleep(max(0, begin + number * period_ns - time.perf_counter_ns()) / 1e9)
            start = time.perf_counter_ns()
            writer.add(
                images={camera: frames[row] for camera, frames in episode.images.items()},
                state=episode.state[row],
                action=episode.action[row],
                signals={name: values[row] for name, values in episode.signals.items()},
                time_ns=number * period_ns,
            )
            taken[number] = (time.perf_counter_ns() - start) / 1e9
        start = time.perf_counter_ns()
        writer.finish(success=None)
    return taken, (time.perf_counter_ns() - start) / 1e9
