"""The log of a run: ``metrics.jsonl``, and TensorBoard where it is installed."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vla.core.errors import VlaError
from vla.core.files import write_atomic

Log = Callable[[dict[str, Any]], None]


class MetricsLog:
    """A resumed run drops the lines of steps that it repeats."""

    def __init__(self, run: Path, log: Log, step: int) -> None:
        self._path, self._log = run / "metrics.jsonl", log
        kept = [line for line in read_metrics(run) if line["step"] <= step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(run / "tensorboard", purge_step=step)

    def write(self, kind: str, step: int, seconds: float, row: Mapping[str, float]) -> None:
        """Record one line; numbers that are not finite end the run."""
        bad = [key for key, value in row.items() if not math.isfinite(value)]
        if bad:
            raise VlaError(
                f"training diverged at step {step}: {', '.join(bad)} is not finite; "
                "lower optimiser.lr, or look for damaged episodes in the dataset"
            )
        line = {"kind": kind, "step": step, "seconds": round(seconds, 2)} | dict(row)
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._board:
            for key, value in row.items():
                self._board.add_scalar(f"{kind}/{key}", value, step)
            self._board.flush()
        self._log(line)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; a last line that is cut off is left out."""
    try:
        text = (run / "metrics.jsonl").read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]
