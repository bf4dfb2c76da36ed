"""What a run resumes from: raw and averaged weights, optimiser state, and how far it came.

RUN/
lock                   held by the one process that trains here
recipe.json            the resolved recipe; a run folder belongs to one (see `vla.training.claims`)
contract.json          the robot, and what was fitted to the data: statistics, limits, tokenizer
speech.json            which speech bank, where one is
precision.json         what ``precision: auto`` measured and chose
metrics.jsonl          one line for each log and each validation
states/<step>/         state.safetensors, state.json, and their seal; the newest two are kept
checkpoint/            the averaged weights, written when training ends (see `vla.models.checkpoint`)
best/                  those that drove best on the way, where the recipe asks for it (see `vla.training.closed_loop`)
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from vla.core.errors import CheckpointError, VlaError
from vla.core.files import sync_folder, write_json
from vla.core.sealed import SealedFolder, seal_folder
from vla.models.checkpoint import read_object, read_tensors, restore, write_tensors
from vla.training.parallel import Parallel
from vla.training.precision import Precision, measure_precision

_KEPT = 2
_UNFINISHED = ".unfinished-"
"""What the names of folders begin with while they are written."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a run came."""

    step: int = 0
    consumed: int = 0
    """Slots of the sampler used by all workers."""
    seconds: float = 0.0
    """Time spent in the loop, over all restarts."""


def save_state(
    run: Path,
    position: Position,
    model: nn.Module,
    average: Mapping[str, Tensor],
    optimisers: list[torch.optim.Optimizer],
) -> Path:
    """Write a state that `load_state` continues from, atomically, and remove all but the newest ones."""
    final = run / "states" / f"{position.step:08d}"
    if final.exists():
        return final
    if bad := [name for name, value in average.items() if not value.isfinite().all()]:
        raise VlaError(
            f"training diverged at step {position.step}: {len(bad)} weights are not finite, {bad[0]} among them; "
            "lower optimiser.lr, or look for damaged episodes in the dataset"
        )
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for i, optimiser in enumerate(optimisers):
        for index, entries in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{index}.{key}": torch.as_tensor(value) for key, value in entries.items()}
    with unfinished(final) as folder:
        write_tensors(folder / "state.safetensors", tensors)
        write_json(folder / "state.json", asdict(position))
        seal_folder(folder)
        os.rename(folder, final)
    sync_folder(final.parent)
    for old in states(run)[:-_KEPT]:
        shutil.rmtree(old)
    return final


def load_state(
    run: Path, model: nn.Module, average: dict[str, Tensor], optimisers: list[torch.optim.Optimizer]
) -> Position:
    """Continue from the newest state of a run; a fresh run begins at step 0."""
    newest = newest_state(run)
    if newest is None:
        return Position()
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
    for name, tensor in read_tensors(newest, "state.safetensors").items():
        kind, rest = name.split(".", 1)
        parts[kind][rest] = tensor
    restore(model, parts["model"], where=newest.path)
    for name, tensor in parts["average"].items():
        average[name].copy_(tensor)
    for i, optimiser in enumerate(optimisers):
        value = optimiser.state_dict()
        for name, tensor in parts["optimiser"].items():
            owner, index, key = name.split(".")
            if int(owner) == i:
                value["state"].setdefault(int(index), {})[key] = tensor
        optimiser.load_state_dict(value)
    return position_of(newest)


def states(run: Path) -> list[Path]:
    """The folders of states, oldest first."""
    return sorted(path for path in (run / "states").glob("[0-9]*") if path.is_dir())


def newest_state(run: Path) -> SealedFolder | None:
    """The newest state, of which the seal alone has been read; None of a fresh run."""
    found = states(run)
    return _open(found[-1]) if found else None


def position_of(state: SealedFolder) -> Position:
    """How far the run had come."""
    return Position(**read_object(state, "state.json"))


def settle_states(run: Path, note: Callable[[str], None]) -> None:
    """Before a run goes on: remove what a crash left half written, and set damaged states aside for the one before.

    ``note`` hears of the latter. Where no state is whole, all stay, and it is a `CheckpointError`.
    """
    _sweep(run)
    damaged: list[tuple[Path, str]] = []
    for path in reversed(states(run)):
        try:
            _open(path).check(error=CheckpointError, fix="it cannot be resumed from")
            break
        except CheckpointError as error:
            damaged.append((path, str(error)))
    else:
        if damaged:
            raise CheckpointError(
                f"no state of {run} is whole: {damaged[0][1]}; put the states back, or start from the weights of a "
                f"checkpoint with --init {run / 'checkpoint'} and another --out"
            )
    for path, why in damaged:
        aside = path.with_name(f"damaged-{path.name}-{uuid.uuid4().hex[:8]}")
        os.rename(path, aside)
        note(f"{why}: set aside as {aside.name}, and resumed from state {states(run)[-1].name}")


def _open(path: Path) -> SealedFolder:
    try:
        return SealedFolder.open(path, error=CheckpointError, fix="it cannot be resumed from")
    except FileNotFoundError:
        raise CheckpointError(f"{path} has no seal: vla 2.0 or older wrote it, or a file was lost") from None


def new_folder(final: Path) -> Path:
    """An empty folder of a new name beside ``final``, to be filled and renamed; what crashes leave is swept."""
    folder = final.with_name(f"{_UNFINISHED}{final.name}-{uuid.uuid4().hex[:8]}")
    folder.mkdir(parents=True)
    return folder


@contextmanager
def unfinished(final: Path) -> Iterator[Path]:
    """A `new_folder`; what is left of it in the end is removed."""
    folder = new_folder(final)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(fresh: Path, final: Path) -> None:
    """Put ``fresh`` in the place of ``final``, if that is there."""
    with unfinished(final) as old:
        if final.exists():
            os.rename(final, old)
        os.rename(fresh, final)
        sync_folder(final.parent)


def _sweep(run: Path) -> None:
    """Remove what processes that were killed had begun to write: nobody else writes here, the run is locked."""
    for folder in (run, run / "states"):
        for left in (*folder.glob(f"{_UNFINISHED}*"), *folder.glob(".tmp-*"), *folder.glob(".checkpoint-*")):
            shutil.rmtree(left, ignore_errors=True)
    for name in ("recipe.json", "contract.json", "precision.json", "speech.json", "metrics.jsonl"):
        for file in run.glob(f".{name}.*"):
            file.unlink(missing_ok=True)


def write_final(run: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make ``RUN/checkpoint`` beside the old one, and swap them."""
    with unfinished(run / "checkpoint") as fresh:
        write(fresh)
        replace_folder(fresh, run / "checkpoint")


def settle_precision(run: Path, asked: Literal["auto", "float32", "bfloat16"], parallel: Parallel) -> Precision:
    """The precision of this run: as asked; for ``auto``, what rank 0 chose when the run began, on every rank."""
    if asked != "auto":
        return asked
    path = run / "precision.json"
    if parallel.rank == 0 and not path.exists():
        rates = measure_precision(parallel.device)
        write_json(path, {"precision": rates.best, "device": str(parallel.device), "gflop_per_s": asdict(rates)})
    chosen = path.exists() and json.loads(path.read_text())["precision"] == "bfloat16"
    return "bfloat16" if parallel.broadcast(torch.tensor(float(chosen))).item() else "float32"
