"""Driving while training: a process beside the run lets the averaged weights act, and the best of them are kept.

The scenes that choose are neither trained on nor those that are reported afterwards: a rate that chose its policy says
too much of it. Which they were stands in the provenance of ``RUN/best``. The process yields to the training; while it
drives, no new weights are handed over, so a run never waits for it but at its end.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from vla.core.errors import CheckpointError, ConfigError
from vla.core.files import write_json
from vla.core.machine.memory import collect_seldom
from vla.core.machine.processes import end_with_parent
from vla.core.machine.spawned import spawn
from vla.core.sealed import seal_folder
from vla.models.checkpoint import open_checkpoint, read_object
from vla.training.metrics import MetricsLog
from vla.training.recipe import ClosedLoopConfig
from vla.training.state import new_folder, replace_folder

BEST = "best"
"""The folder of the chosen checkpoint."""
_LOWER_PRIORITY = 10
_PATIENCE_S = 900.0
"""What the end of a run waits for an answer, at most."""

Write = Callable[[Path], None]
"""Writes a checkpoint of the present weights."""


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What came of some weights."""

    step: int
    succeeded: int
    of: int
    """Episodes that ran to their end; those that crashed are none."""

    @property
    def rate(self) -> float:
        """0 where none ran."""
        return self.succeeded / self.of if self.of else 0.0


class ClosedLoop:
    """Of the first worker of a run."""

    def __init__(
        self, config: ClosedLoopConfig, run: Path, scenes: Mapping[str, Sequence[Sequence[int]]], log: MetricsLog
    ) -> None:
        """A `ConfigError` where the scenes that choose are among those of the training data, ``scenes``."""
        last = config.seed + config.episodes - 1
        if any(low <= last and config.seed <= high for low, high in scenes.get(config.env, ())):
            raise ConfigError(
                f"train.closed_loop: scenes {config.seed} to {last} of {config.env} are in the training data; "
                "choose another closed_loop.seed"
            )
        self._config, self._run, self._log = config, run, log
        self._drives: list[Drive] = []
        self._best = _best(run)
        self._candidate: tuple[Path, int] | None = None
        self._due = time.monotonic() + config.every_s
        self._process, self._pipe = spawn(_serve, asdict(config))

    def offer(self, step: int, seconds: float, write: Write) -> None:
        """Take an answer if there is one; hand over the present weights if it is time and nobody is driving."""
        if self._candidate is not None and self._pipe.poll():
            self._take(seconds)
        if self._candidate is None and time.monotonic() >= self._due and self._process.is_alive():
            self._due = time.monotonic() + self._config.every_s
            self._hand_over(step, write)

    def finish(self, step: int, seconds: float, write: Write) -> None:
        """Wait for who is driving, then let the last weights drive."""
        self._wait(seconds)
        if self._process.is_alive() and step not in {drive.step for drive in self._drives}:
            self._hand_over(step, write)
            self._wait(seconds)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        if self._candidate is not None:
            shutil.rmtree(self._candidate[0], ignore_errors=True)

    def _hand_over(self, step: int, write: Write) -> None:
        folder = new_folder(self._run / BEST)
        self._candidate = folder, step
        write(folder)
        with suppress(OSError):  # it died: reading from the pipe tells
            self._pipe.send(str(folder))

    def _wait(self, seconds: float) -> None:
        if self._candidate is None:
            return
        if self._pipe.poll(_PATIENCE_S):
            self._take(seconds)
        else:
            self._end(f"no answer for {_PATIENCE_S:.0f} s")

    def _take(self, seconds: float) -> None:
        assert self._candidate is not None
        folder, step = self._candidate
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            self._end(f"its process ended (exit code {self._process.exitcode})")
            return
        if isinstance(answer, str):
            self._end(answer)
            return
        self._candidate = None
        drive = Drive(step=step, succeeded=answer[0], of=answer[1])
        self._drives.append(drive)
        self._log.write("closed_loop", step, seconds, {"success": drive.rate, "episodes": float(drive.of)})
        if drive.of and (self._best is None or drive.rate >= self._best.rate):  # of equals the later
            self._best = drive
            value = read_object(open_checkpoint(folder), "provenance.json")
            write_json(folder / "provenance.json", value | {"selection": self._selection()})
            seal_folder(folder)
            replace_folder(folder, self._run / BEST)
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def _end(self, why: str) -> None:
        """The run goes on without."""
        assert self._candidate is not None
        shutil.rmtree(self._candidate[0], ignore_errors=True)
        self._candidate = None
        self._process.kill()
        self._process.join()
        self._log.event("note", text=f"closed loop at {self._config.env}: {why}; the run goes on without it")

    def _selection(self) -> dict[str, Any]:
        config = self._config
        seeds = [config.seed, config.seed + config.episodes - 1]
        tried = [asdict(drive) for drive in self._drives]
        chosen = asdict(self._drives[-1])
        return {"env": config.env, "settings": config.settings, "seeds": seeds, "tried": tried, "chosen": chosen}


def _best(run: Path) -> Drive | None:
    """What an earlier part of the run has chosen."""
    if not (run / BEST).exists():
        return None
    try:
        return Drive(**read_object(open_checkpoint(run / BEST), "provenance.json")["selection"]["chosen"])
    except (CheckpointError, KeyError, TypeError):
        return None  # damaged: the next one takes its place


def _serve(pipe: Connection, settings: dict[str, Any]) -> None:
    """In the process: checkpoints in; successes and episodes that ran, or what went wrong, out."""
    end_with_parent()
    collect_seldom()
    os.nice(_LOWER_PRIORITY)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS"):
        os.environ[name] = "1"
    import torch

    from vla.evaluation.evaluate import evaluate
    from vla.evaluation.settings import RunConfig

    torch.set_num_threads(1)
    config = ClosedLoopConfig(**settings)
    while True:
        try:
            path = pipe.recv()
        except EOFError:
            return
        try:
            result = evaluate(
                path,
                env=config.env,
                settings=config.settings,
                episodes=config.episodes,
                seed=config.seed,
                run=RunConfig(workers=1, batch=min(10, config.episodes)),
            )
            pipe.send((result.success.successes, result.success.episodes))
        except Exception as error:
            pipe.send(" ".join(str(error).split()) or type(error).__name__)
