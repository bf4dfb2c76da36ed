"""The log of a run: ``metrics.jsonl``; TensorBoard where it is installed, Weights & Biases where it is asked for."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.core.errors import ConfigError, VlaError
from vla.core.files import write_atomic
from vla.training.parallel import Parallel

Log = Callable[[dict[str, Any]], None]


class MetricsLog:
    """A resumed run drops the lines of steps that it repeats."""

    def __init__(self, run: Path, log: Log, step: int, *, wandb: str = "") -> None:
        """``wandb`` is a project of Weights & Biases; a `ConfigError` where that is not installed."""
        self._path, self._log = run / "metrics.jsonl", log
        kept = [line for line in read_metrics(run) if line["step"] <= step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(run / "tensorboard", purge_step=step)
        self._wandb = _wandb_run(wandb, run) if wandb else None

    def close(self) -> None:
        """Hand over what is on its way."""
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()

    def event(self, kind: str, **facts: Any) -> None:
        """Record what a person should know of the beginning of a run, once: a ``note`` has a ``text``."""
        line = {"kind": kind, "step": 0, **facts}
        if line not in read_metrics(self._path.parent):
            self._append(line)

    def write(self, kind: str, step: int, seconds: float, row: Mapping[str, float]) -> None:
        """Record one line; numbers that are not finite end the run."""
        bad = [key for key, value in row.items() if not math.isfinite(value)]
        if bad:
            raise VlaError(
                f"training diverged at step {step}: {', '.join(bad)} is not finite; "
                "lower optimiser.lr, or look for damaged episodes in the dataset"
            )
        line = {"kind": kind, "step": step, "seconds": round(seconds, 2)} | dict(row)
        if self._board:
            for key, value in row.items():
                self._board.add_scalar(f"{kind}/{key}", value, step)
            self._board.flush()
        if self._wandb:
            self._wandb.log({f"{kind}/{key}": value for key, value in row.items()} | {"step": step})
        self._append(line)

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._log(line)


class Silence(MetricsLog):
    """The log of workers that are not the first: they share in the means, and write nothing."""

    def __init__(self) -> None:
        pass

    def close(self) -> None:
        """Nothing is on its way."""

    def event(self, kind: str, **facts: Any) -> None:
        """The first worker says it."""

    def write(self, kind: str, step: int, seconds: float, row: Mapping[str, float]) -> None:
        """The first worker writes it."""


class Means:
    """Means of metrics over steps and workers, kept on the device: only what is logged waits for it.

    A part that is NaN beside a finite loss was not measured in that step, and counts for nothing.
    """

    def __init__(self, samples: int) -> None:
        """``samples`` of one step, of all workers together."""
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._samples, self._steps, self._since = samples, 0, time.monotonic()

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """One step; ``loss`` is among them."""
        self._steps += 1
        diverged = ~metrics["loss"].isfinite()
        for name, value in metrics.items():
            counts = diverged | ~value.isnan()
            value = torch.where(counts, value, 0.0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts[name] + counts if name in self._counts else counts.to(value.dtype)

    def take(self, parallel: Parallel) -> dict[str, float]:
        """The means since the last time, of what was measured at all, and the rate; every worker calls this."""
        names = list(self._sums)
        sums, counts = (torch.stack([part[name] for name in names]) for part in (self._sums, self._counts))
        sums, counts = parallel.sum(torch.stack([sums, counts]))
        self._sums, self._counts = {}, {}
        found = zip(names, sums.tolist(), counts.tolist(), strict=True)
        row = {name: total / count for name, total, count in found if count}
        now = time.monotonic()  # after the sums, which wait for the device
        row["samples_per_s"] = self._steps * self._samples / (now - self._since)
        self._steps, self._since = 0, now
        return row


def _wandb_run(project: str, run: Path) -> Any:
    """One run of theirs for each folder, also when it is resumed: its id is the folder's path."""
    try:
        import wandb
    except ImportError:
        raise ConfigError(f"train.wandb={project}: Weights & Biases is not installed; pip install wandb") from None
    identity = hashlib.blake2b(str(run.resolve()).encode(), digest_size=6).hexdigest()
    try:
        found = wandb.init(project=project, dir=str(run), id=identity, name=run.name, resume="allow")
    except Exception as error:
        raise ConfigError(
            f"train.wandb={project}: {' '.join(str(error).split())}; log in with wandb login, or set WANDB_MODE=offline"
        ) from None
    found.define_metric("*", step_metric="step")
    return found


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; a last line that is cut off is left out."""
    path = run / "metrics.jsonl"
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not (isinstance(entry, dict) and isinstance(entry.get("step"), int)):
            raise VlaError(f"{path}, line {number} is damaged: expected a JSON object with a step; remove the line")
        found.append(entry)
    return found
