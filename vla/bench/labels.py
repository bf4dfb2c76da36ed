"""What labels are worth: one recipe with the simulator's, with those made of the logs, and with none.

Same episodes, budget and seeds; only the auxiliaries differ. Every run leaves its result in a file and is not repeated,
and one that was stopped goes on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.bench.measure import Note, Row
from vla.bench.settings import LabelsConfig
from vla.bench.trained import trained
from vla.core.config import load_recipe
from vla.core.contract import Dimension
from vla.core.errors import ConfigError
from vla.datasets.dataset import Dataset
from vla.models.auxiliaries.config import AuxiliaryConfig, GroundingConfig, PointingConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.training.recipe import TrainConfig

SIMULATOR: Mapping[str, AuxiliaryConfig] = {"grounding": GroundingConfig(), "pointing": PointingConfig()}
"""What the demo learns beside actions: where the named things are, in metres and in the pictures."""
BELIEVED = {"simulator": ("grounding", "block"), "logs": ("gripper_event", "close")}
"""The signal that says where the thing to be grasped is, and what its x and y begin with there."""


def bench_labels(config: LabelsConfig, note: Note) -> list[Row]:
    """One row a measure and kind of labels, the mean over seeds; then what labels from logs recover."""
    recipes = dict(_recipes(config))
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in recipes}
    for seed in config.seeds:
        for kind, recipe in recipes.items():
            results[kind].append(_result(config, kind, replace(recipe, seed=seed), note))
    rows = [row for kind, found in results.items() for row in _means(kind, found)]
    return [*rows, *_recovered(results)]


def _recipes(config: LabelsConfig) -> Iterator[tuple[str, TrainConfig]]:
    """The recipe with each kind of labels; a dataset without one of the signals is refused."""
    if not config.dataset:
        raise ConfigError("bench labels: which dataset? vla bench labels DATASET, as vla data label writes it")
    recipe = load_recipe(TrainConfig, config.recipe)
    if not isinstance(recipe.model, UnifiedConfig):
        raise ConfigError(f"bench labels: recipe {config.recipe} is of a {recipe.model.kind}, which learns no signals")
    kinds = {"simulator": dict(SIMULATOR), "logs": recipe.model.auxiliaries, "none": {}}
    offered = Dataset.open(config.dataset).contract.signals
    for kind, auxiliaries in kinds.items():
        missing = [a.signal for a in auxiliaries.values() if a.signal not in offered]
        if missing:
            raise ConfigError(
                f"bench labels: {config.dataset} has no signal {missing[0]}, only {', '.join(offered) or 'none'}; "
                "collect in a simulator, then vla data label"
            )
        yield (
            kind,
            replace(
                recipe,
                data=replace(recipe.data, path=config.dataset),
                model=replace(recipe.model, auxiliaries=auxiliaries),
                steps=config.steps or recipe.steps,
                engine="inline",
                workers=1,
                batch=recipe.batch * recipe.workers,
                threads=config.threads,
                minutes=config.minutes,
            ),
        )


def _result(config: LabelsConfig, kind: str, recipe: TrainConfig, note: Note) -> dict[str, Any]:
    folder = Path(config.out) / f"{kind}-{recipe.seed}"
    note(f"{folder}: training, unless it is done")
    found = trained(
        recipe,
        folder,
        env=config.env,
        episodes=config.episodes,
        measure=lambda checkpoint: first_frames(recipe, checkpoint, BELIEVED.get(kind)),
    )
    note(f"{folder}: success {found['success']:.0%}")
    return found


def first_frames(recipe: TrainConfig, checkpoint: Path, believed: tuple[str, str] | None) -> dict[str, float]:
    """Errors on the first frames of held-out episodes: of actions, scaled; of the thing's place, in m.

    The truth is the simulator's, whatever was learned from: here alone it judges.
    """
    from vla.models.checkpoint import load_model
    from vla.training.evaluators import FirstFrames
    from vla.training.samples import open_samples

    samples = open_samples(recipe)
    _, model = load_model(checkpoint)
    model.eval()
    with torch.no_grad():
        errors = dict(FirstFrames(samples, recipe.seed)(model, torch.device("cpu")))
        found = {"first_frame_action_error": errors.get("first_frame_action_error", float("nan"))}
        if believed is not None:
            batch = samples.held_out(samples.validation.first_items())
            signals = samples.blueprint.preprocessor.signals
            said = model.act(batch.inputs).signals[believed[0]]
            ours = said[:, _columns(signals[believed[0]], believed[1])]
            name, thing = BELIEVED["simulator"]
            truth = batch.targets.signals[name][:, _columns(signals[name], thing)]
            found["first_frame_place_error_m"] = torch.linalg.vector_norm(ours - truth, dim=1).mean().item()
    return found


def _columns(dimensions: Sequence[Dimension], thing: str) -> list[int]:
    names = [d.name for d in dimensions]
    return [names.index(f"{thing}_{axis}") for axis in "xy"]


def _means(kind: str, found: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for measure, unit in (
        ("success", "share"),
        ("first_frame_action_error", "scaled"),
        ("first_frame_place_error_m", "m"),
    ):
        values = [one[measure] for one in found if measure in one]
        if values:
            name = f"{kind}: {measure.removesuffix('_m').replace('_', ' ')}"
            yield Row(name=f"{name}, mean of {len(values)} seeds", value=float(np.mean(values)), unit=unit)
            yield Row(name=f"{name}, least and most", value=min(values), unit=unit, against=float(np.max(values)))


def _recovered(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Row]:
    """Which part of what the simulator's labels bring over none, labels from logs bring too."""
    mean = {kind: float(np.mean([one["success"] for one in found])) for kind, found in results.items()}
    none, simulator, logs = mean["none"], mean["simulator"], mean["logs"]
    lift = simulator - none
    yield Row(
        name="success that labels from logs bring, against the simulator's",
        value=logs - none,
        unit="share",
        against=lift,
        ratio=(logs - none) / lift if lift > 0 else None,
        bar=0.5 if lift > 0 else None,
    )
