"""The training loop of one worker: the same in this process and under Ray."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vla.core.config import to_dict
from vla.core.errors import VlaError
from vla.core.files import write_atomic
from vla.core.provenance import provenance
from vla.datasets.sampling.order import ResumableSampler
from vla.models.unified import UnifiedTransformer
from vla.train.optimiser import build_optimisers
from vla.train.recipe import TrainConfig
from vla.train.samples import Batches, Samples, open_run
from vla.train.state import Position, claim_data, load_state, save_state, write_final
from vla.train.step import lr_scale, train_step, update_average

Log = Callable[[dict[str, Any]], None]
STOP = "STOP"
"""A file of this name in the run folder ends the run after the present step, with a state to resume from."""


@runtime_checkable
class Worker(Protocol):
    """One of ``world`` processes that train one model."""

    rank: int
    world: int

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over all workers."""

    def agree(self, values: Tensor) -> Tensor:
        """Rank 0's values, on every rank."""


class Alone:
    """The worker of engine ``inline``."""

    rank, world = 0, 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def agree(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values


def train_worker(config: TrainConfig, run: Path, worker: Worker, log: Log = lambda _: None) -> None:
    """Train until the time or the steps of the recipe are used up, or until asked to stop."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    samples, parts = open_run(config)
    claim_data(run, parts.contract, write=worker.rank == 0)
    model = parts.build()
    optimisers = build_optimisers(model, config.optimiser)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    position = load_state(run, model, average, optimisers)
    journal = _Journal(run, log, position.step) if worker.rank == 0 else None
    sampler = ResumableSampler(
        order=samples.order, batch=config.batch, rank=worker.rank, world=worker.world, start=position.consumed
    )
    batches = Batches(samples.train, parts, sampler)
    session = _Session(config, run, worker, samples, batches, model, average, optimisers, position, journal)
    position, finished = session.run()
    if worker.rank == 0:
        save_state(run, position, model, average, optimisers)
        if finished:
            extra = {"recipe": to_dict(config), "training": vars(position), "parameters": _count(model)}
            write_final(run, parts, average, provenance(**extra))


class _Session:
    """The steps of one worker, from where the run stands to its end."""

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        worker: Worker,
        samples: Samples,
        batches: Batches,
        model: UnifiedTransformer,
        average: dict[str, Tensor],
        optimisers: list[torch.optim.Optimizer],
        position: Position,
        journal: "_Journal | None",
    ) -> None:
        self._config, self._folder, self._worker = config, run, worker
        self._model, self._average, self._optimisers = model, average, optimisers
        self._position, self._journal = position, journal
        self._batches = batches
        self._wrapped = worker.wrap(model)
        self._first = batches.first_frames(samples.validation)
        self._any = batches.any_frames(samples.validation, config.seed)

    def run(self) -> tuple[Position, bool]:
        """Where the run stands afterwards, and whether it is finished (or was asked to stop)."""
        config, start = self._config, self._position
        per_step = config.batch * self._worker.world
        began = time.monotonic()
        due = {"validate": began + config.validate_s, "save": began + config.checkpoint_s}
        position, logged = start, (start.step, began)
        sums: dict[str, float] = {}
        for batch in self._batches.loader(config.data.loaders):
            now = time.monotonic()
            seconds = start.seconds + now - began
            fraction, stop = self._plan(position.step, seconds)
            if stop or fraction >= 1.0:
                return position, not stop
            if self._journal and now >= due["save"]:
                due["save"] = now + config.checkpoint_s
                save_state(self._folder, position, self._model, self._average, self._optimisers)
            torch.manual_seed(_mix(config.seed, position.step, self._worker.rank))
            scale = lr_scale(position.step, fraction, warmup_steps=config.warmup_steps, constant=config.constant)
            metrics = train_step(self._wrapped, batch, self._optimisers, lr_scale=scale, clip=config.optimiser.clip)
            position = Position(
                step=position.step + 1,
                consumed=position.consumed + per_step,
                seconds=start.seconds + time.monotonic() - began,
            )
            if self._journal is None:
                continue
            update_average(self._average, self._model, step=position.step, span=config.ema)
            for key, value in metrics.items():
                sums[key] = sums.get(key, 0.0) + value.item()
            if position.step % config.log_steps == 0:
                steps, elapsed = position.step - logged[0], time.monotonic() - logged[1]
                row = {key: value / steps for key, value in sums.items()}
                row |= {"samples_per_s": steps * per_step / elapsed, "lr_scale": scale, "fraction": fraction}
                self._journal.write("train", position, row)
                sums, logged = {}, (position.step, time.monotonic())
            if time.monotonic() >= due["validate"]:
                self._journal.write("validation", position, self._validate())
                due["validate"] = time.monotonic() + config.validate_s
        raise AssertionError("batches never end")

    def _plan(self, step: int, seconds: float) -> tuple[float, bool]:
        """Rank 0 decides for all: how far the run is, and whether to stop."""
        config = self._config
        fraction = max(seconds / (60 * config.minutes), step / config.steps)
        stop = self._worker.rank == 0 and (self._folder / STOP).exists()
        values = self._worker.agree(torch.tensor([fraction, float(stop)], dtype=torch.float64))
        return float(values[0]), bool(values[1])

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Losses of the averaged weights on held-out episodes, and the error of looking, which tells most."""
        raw = {k: v.clone() for k, v in self._model.state_dict().items()}
        self._model.load_state_dict(self._average)
        self._model.eval()
        row: dict[str, float] = {}
        if self._any is not None:
            _, metrics = self._model.loss(self._any)
            row |= {key: value.item() for key, value in metrics.items()}
        if self._first is not None:
            actions, grounding = self._model.act(self._first)
            metric = list(self._model.layout.metric)
            error = (grounding - self._first["grounding"])[:, metric].abs()
            row["first_frame_error_m"] = error.mean().item() if metric else 0.0
            row["first_frame_action_error"] = (actions - self._first["actions"]).abs().mean().item()
        self._model.load_state_dict(raw)
        self._model.train()
        return row


class _Journal:
    """``metrics.jsonl`` and TensorBoard; a resumed run drops the lines of steps that it repeats."""

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

    def write(self, kind: str, position: Position, row: dict[str, float]) -> None:
        """Record one line; values are means since the last."""
        bad = [key for key, value in row.items() if not math.isfinite(value)]
        if bad:
            raise VlaError(
                f"training diverged at step {position.step}: {', '.join(bad)} is not finite; "
                "lower optimiser.lr, or look for damaged episodes in the dataset"
            )
        line = {"kind": kind, "step": position.step, "seconds": round(position.seconds, 2)} | row
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._board:
            for key, value in row.items():
                self._board.add_scalar(f"{kind}/{key}", value, position.step)
            self._board.flush()
        self._log(line)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; a last line that is cut off is left out."""
    try:
        text = (run / "metrics.jsonl").read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]


def _mix(seed: int, step: int, rank: int) -> int:
    """A seed for each step and rank, so that a resumed run draws what an uninterrupted one would."""
    return (seed * 1_000_003 + step) * 1009 + rank


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
