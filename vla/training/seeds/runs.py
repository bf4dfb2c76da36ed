"""One recipe with several seeds: a run says what a recipe brought once, their band what it brings.

RUN/
seed-3/ seed-4/ …   a run for each seed (see `vla.training.state`)
seeds.json          which seeds, and once all are trained what came of them, with the band of each metric

Each seed draws other weights, batches and, where a share of the episodes is held out, other episodes; what differs
between runs is all of that together. Metrics of held-out episodes are those of the final weights.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from vla.core.config import to_dict
from vla.core.errors import CheckpointError, ConfigError
from vla.core.files import write_json
from vla.core.lookup import lookup
from vla.core.provenance import folder_digest, provenance
from vla.evaluation.folder import results_of
from vla.models.checkpoint import load_model
from vla.models.device import choose_device
from vla.training.claims import finished, progress, read_claim
from vla.training.closed_loop import BEST
from vla.training.engines import train
from vla.training.evaluators import EVALUATORS
from vla.training.metrics import Log, read_metrics
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples
from vla.training.seeds.band import SeedRun, SeedRuns, bands
from vla.training.state import newest_state, position_of

SEEDS = "seeds.json"


def run_of(group: Path, seed: int) -> Path:
    """The folder of one seed's run."""
    return group / f"seed-{seed}"


def train_seeds(
    config: TrainConfig, group: Path, seeds: int, log: Log = lambda _: None, *, prolong: bool = False
) -> SeedRuns:
    """Train ``config`` with its seed and those that follow, ``seeds`` in all, one run after the other.

    Runs that are finished stay as they are, one that was stopped goes on, and what came of them is written anew: so
    the same command resumes, and a further one with more seeds adds them. ``prolong`` is that of `train`. Lines of
    ``log`` are those of the runs, each with its ``seed``.
    """
    config = config.resolved()
    if seeds < 1:
        raise ConfigError(f"train: seeds={seeds} must be at least 1")
    if (group / "recipe.json").exists():
        raise CheckpointError(f"{group} holds the run of one seed; choose another --out for several")
    numbers = range(config.seed, config.seed + seeds)
    if not (group / SEEDS).exists() or seeds_of(group) != list(numbers):
        write_json(group / SEEDS, {"seeds": list(numbers)})
    known = _known(group)
    found = []
    for seed in numbers:
        own, run = replace(config, seed=seed), run_of(group, seed)
        if not _done(own, run):
            log(
                {
                    "kind": "note",
                    "step": 0,
                    "seed": seed,
                    "text": f"seed {seed} of {numbers[0]} to {numbers[-1]}: {run}",
                }
            )
            train(own, run, _told(log, seed), prolong=prolong)
        found.append(_came_of(own, run, known))
    result = SeedRuns(runs=tuple(found), bands=tuple(bands(found)))
    origin = provenance(recipe=to_dict(config))
    write_json(group / SEEDS, {"seeds": list(numbers), **asdict(result), "provenance": origin})
    return result


def seeds_of(group: Path) -> list[int]:
    """Those that a folder is for; a folder that is for none is a `CheckpointError`."""
    value = _read(group)
    seeds = value.get("seeds") if isinstance(value, dict) else None
    if not (isinstance(seeds, list) and seeds and all(isinstance(seed, int) for seed in seeds)):
        raise CheckpointError(f"{group / SEEDS} is damaged: expected a list of seeds; remove the file and train again")
    return seeds


def recipe_of(group: Path) -> TrainConfig:
    """The recipe of the first seed, which is that of all; its run has begun, or it is a `CheckpointError`."""
    return read_claim(run_of(group, seeds_of(group)[0])).recipe


def _done(config: TrainConfig, run: Path) -> bool:
    """Whether there is nothing left to train; a run of another recipe is not, and `train` says so."""
    if not (run / "checkpoint").exists():
        return False
    state = newest_state(run)
    if state is None:
        return finished(run, config)
    at = position_of(state)
    return to_dict(read_claim(run).recipe) == to_dict(config) and progress(config, at.step, at.seconds) >= 1


def _told(log: Log, seed: int) -> Log:
    return lambda line: log({**line, "seed": seed})


def _came_of(config: TrainConfig, run: Path, known: Mapping[str, Mapping[str, float]]) -> SeedRun:
    checkpoint = run / "checkpoint"
    digest = folder_digest(checkpoint)
    training = json.loads((checkpoint / "provenance.json").read_text())["training"]
    measured = known.get(digest) or _held_out(config, checkpoint)
    held_out = {name: value for name, value in measured.items() if "success" not in name}
    return SeedRun(
        seed=config.seed,
        checkpoint=str(checkpoint),
        digest=digest,
        steps=training["step"],
        seconds=training["seconds"],
        metrics=held_out | _success(run, digest),
    )


@torch.no_grad()
def _held_out(config: TrainConfig, checkpoint: Path) -> dict[str, float]:
    """What the recipe's evaluators say of a checkpoint."""
    device = choose_device(config.device)
    _, model = load_model(checkpoint, device)
    samples = open_samples(config)
    torch.manual_seed(config.seed)  # of losses that draw
    evaluators = [lookup("evaluator", name, EVALUATORS)(samples, config.seed) for name in config.evaluators]
    return {name: value for evaluator in evaluators for name, value in evaluator(model, device)}


def _success(run: Path, digest: str) -> dict[str, float]:
    """In closed loop: of the final weights beside the training, and of every evaluation that lies with the run."""
    drives = [line["success"] for line in read_metrics(run) if line["kind"] == "closed_loop"]
    found = {"closed_loop_success": drives[-1]} if drives else {}
    policies = {digest: ""}
    if (run / BEST).is_dir():
        policies.setdefault(folder_digest(run / BEST), ", best on the way")
    for policy, which in policies.items():
        for _, result in results_of(policy, [run]):
            for row in result.rows:
                if row.condition.plain and row.success.episodes:
                    words = "" if row.condition.language == "right" else f", {row.condition.language}"
                    split = f" {row.condition.split}" if row.condition.split else ""
                    found[f"success {row.condition.env}{split}{words}{which}"] = row.success.rate
    return found


def _known(group: Path) -> dict[str, Mapping[str, float]]:
    """What an earlier command measured, by the digest of the checkpoint: it holds as long as the weights do."""
    return {run["digest"]: run["metrics"] for run in _read(group).get("runs", ())}


def _read(group: Path) -> Any:
    path = group / SEEDS
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: {group} holds no runs of several seeds") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove the file and train again") from None
