"""What a run resumes from: raw and averaged weights, optimiser state, and how far it came.

RUN/
recipe.json            the resolved recipe; a run folder belongs to one
contract.json          the robot, and what was fitted to the data: statistics, limits, tokenizer
precision.json         what ``precision: auto`` measured and chose
metrics.jsonl          one line for each log and each validation
states/<step>/         state.safetensors, state.json; the newest two are kept
checkpoint/            the averaged weights, written when training ends (see `vla.models.checkpoint`)
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vla.core.contract import Contract, differences, read_contract
from vla.core.errors import CheckpointError, ContractError, VlaError
from vla.core.files import sync_folder, write_json
from vla.models.checkpoint import Blueprint, fill, read_tensors, write_checkpoint, write_tensors
from vla.training.parallel import Parallel
from vla.training.precision import Precision, measure_precision

_KEPT = 2


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
    folder = final.with_name(f".tmp-{final.name}-{os.getpid()}")
    folder.mkdir(parents=True)
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for i, optimiser in enumerate(optimisers):
        for index, entries in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{index}.{key}": torch.as_tensor(value) for key, value in entries.items()}
    write_tensors(folder / "state.safetensors", tensors)
    write_json(folder / "state.json", asdict(position))
    os.rename(folder, final)
    sync_folder(final.parent)
    for old in _states(run)[:-_KEPT]:
        shutil.rmtree(old)
    return final


def load_state(
    run: Path, model: nn.Module, average: dict[str, Tensor], optimisers: list[torch.optim.Optimizer]
) -> Position:
    """Continue from the newest state of a run; a fresh run begins at step 0."""
    states = _states(run)
    if not states:
        return Position()
    newest = states[-1]
    tensors = read_tensors(newest / "state.safetensors")
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        kind, rest = name.split(".", 1)
        parts[kind][rest] = tensor
    fill(model, parts["model"], where=newest)
    for name, tensor in parts["average"].items():
        average[name].copy_(tensor)
    for i, optimiser in enumerate(optimisers):
        value = optimiser.state_dict()
        for name, tensor in parts["optimiser"].items():
            owner, index, key = name.split(".")
            if int(owner) == i:
                value["state"].setdefault(int(index), {})[key] = tensor
        optimiser.load_state_dict(value)
    return Position(**json.loads((newest / "state.json").read_text()))


def write_final(run: Path, blueprint: Blueprint, average: Mapping[str, Tensor], provenance: Mapping[str, Any]) -> Path:
    """Write ``RUN/checkpoint`` beside the old one and swap them."""
    final, fresh, old = run / "checkpoint", run / f".checkpoint-{os.getpid()}", run / f".checkpoint-old-{os.getpid()}"
    write_checkpoint(fresh, blueprint, average, provenance)
    if final.exists():
        os.rename(final, old)
    os.rename(fresh, final)
    sync_folder(run)
    shutil.rmtree(old, ignore_errors=True)
    return final


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


def claim_run(run: Path, recipe: Mapping[str, Any]) -> None:
    """Make ``run`` the folder of this recipe; one with states of another is refused."""
    path = run / "recipe.json"
    if path.exists() and _states(run):
        theirs = json.loads(path.read_text())
        changed = [line for line in _changes(theirs, dict(recipe)) if line != _pinned(run)]
        if changed:
            raise CheckpointError(
                f"{run} holds a run of another recipe ({'; '.join(changed[:4])}); choose another --out, or delete it"
            )
    else:
        write_json(path, dict(recipe))


def claim_data(run: Path, contract: Contract, *, write: bool) -> None:
    """Make ``run`` the folder of what was fitted to this data; states or a checkpoint of other data are refused.

    Weights mean nothing without the statistics and limits that they were trained with, and a recipe that takes the
    latest version of a dataset fits others once it grows. One worker of a run may ``write``.
    """
    path = run / "contract.json"
    if not _states(run):
        if write:
            write_json(path, contract.to_json())
        return
    for place in (path, run / "checkpoint" / "contract.json"):
        if place == path or place.exists():
            _require_same_data(contract, read_contract(place), place)


def _require_same_data(ours: Contract, theirs: Contract, place: Path) -> None:
    """Raise `ContractError` that names what differs, the statistics first."""
    specs = [c.policy for c in (theirs, ours)]
    hashes = [", ".join(spec.statistics) if spec else "none" for spec in specs]
    bare = [replace(c, policy=c.policy and replace(c.policy, statistics=(), preprocessor="")) for c in (theirs, ours)]
    lines = differences(*bare, scope="all")
    if hashes[0] != hashes[1]:
        lines.insert(0, f"statistics of the training data: {hashes[0]} there, {hashes[1]} here")
    elif not lines and len({spec.preprocessor for spec in specs if spec}) > 1:
        lines.append("preprocessor.json: another one there")
    if not lines:
        return
    then, now = ([v.manifest for v in spec.datasets] if spec else [] for spec in specs)
    fix = f"resume on version {then[0]} of the dataset (--data.manifest {then[0]})" if len(then) == 1 else ""
    if not fix or then == now:
        fix = "restore the dataset or the checkpoint that belongs here"
    raise ContractError(f"{place} was fitted to other data ({'; '.join(lines)}); {fix}, or choose another --out")


def _pinned(run: Path) -> str | None:
    """The one change of a recipe that changes nothing: naming the version that was the latest when the run began."""
    path = run / "contract.json"
    spec = read_contract(path).policy if path.exists() else None
    if spec is None or len(spec.datasets) != 1:
        return None
    return f"data.manifest: None there, {spec.datasets[0].manifest!r} here"


def _changes(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [line for n in names for line in _changes(old.get(n), new.get(n), f"{key}.{n}" if key else n)]
    return [] if old == new else [f"{key}: {old!r} there, {new!r} here"]


def _states(run: Path) -> list[Path]:
    """Complete states, oldest first."""
    return sorted(p for p in (run / "states").glob("[0-9]*") if (p / "state.json").exists())
