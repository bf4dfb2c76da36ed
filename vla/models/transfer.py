"""Starting from a checkpoint: what of it a new model takes, what is new, what is left, and why.

Tensors are carried by name, and by what their parts stand for: a camera's weights by the camera, a robot's by the
robot, a word's by the word. What is fitted to data comes along where it means the same:

    words     all of the checkpoint's, then those that are new; a new one begins as what is not known was read
    scale     of a robot of the same name, dimensions, rate and action space: weights mean nothing in another scale
    codec     of the actions, where model and scale are the checkpoint's and the new data lies within its limits
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vla.core.config import to_dict
from vla.core.errors import CheckpointError, ConfigError
from vla.models.checkpoint import Blueprint, load_model, open_checkpoint
from vla.models.config import ModelConfig
from vla.models.model import Model
from vla.models.preprocessor import Embodiment
from vla.models.text.tokenizer import InstructionTokenizer

Verdict = Literal["taken", "partly", "new", "left"]


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The checkpoint that a run starts from."""

    path: Path
    digest: str
    """Of its seal."""
    blueprint: Blueprint
    model: Model

    @staticmethod
    def open(path: Path) -> "Parent":
        """Read it whole; damage is a `CheckpointError`."""
        try:
            digest = open_checkpoint(path).digest
            blueprint, model = load_model(path)
        except CheckpointError as error:
            raise CheckpointError(f"--init {path}: {error}") from None
        return Parent(path=path, digest=digest, blueprint=blueprint, model=model)


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What became of a part."""

    verdict: Verdict
    part: str
    why: str = ""


def inherit_robots(
    parent: Parent, embodiments: Sequence[Embodiment], horizon: int
) -> tuple[tuple[Embodiment, ...], list[Fate]]:
    """The robots of new data, in the checkpoint's scale where it means the same, and what was decided of each."""
    robots, fates = [], []
    known = {_meaning(theirs): theirs for theirs in parent.blueprint.preprocessor.embodiments}
    for ours in embodiments:
        part = f"scale of {ours.contract.robot}"
        theirs = known.get(_meaning(ours))
        if theirs is None or parent.blueprint.preprocessor.horizon != horizon:
            why = "other horizon" if theirs else "other robot, dimensions, rate or action space"
            fates.append(Fate(verdict="new", part=part, why=f"measured on the data: {why} than the checkpoint's"))
            robots.append(ours)
            continue
        reach = max(_reach(theirs.state, ours.state), _reach(theirs.action, ours.action))
        fates.append(Fate(verdict="taken", part=part, why=f"the checkpoint's, in which the data reaches {reach:.3g}"))
        robots.append(replace(ours, state=theirs.state, action=theirs.action))
    return tuple(robots), fates


def inherit_words(parent: Parent, config: ModelConfig, sentences: Sequence[str]) -> tuple[InstructionTokenizer, Fate]:
    """The checkpoint's text tokens, and behind them those that ``sentences`` add."""
    known, wanted = (to_dict(one.tokenizer.resolved()) for one in (parent.blueprint.config, config))
    if known != wanted:
        raise ConfigError(
            f"--init {parent.path}: its instructions are read by {known}, the recipe says {wanted}; "
            "give model.tokenizer as the checkpoint has it, or begin without it"
        )
    theirs = parent.blueprint.preprocessor.tokenizer
    ours = theirs.extended(sentences)
    if len(ours) == len(theirs):
        return ours, Fate(verdict="taken", part="words", why=f"all {len(theirs)} tokens, and no new ones")
    new = ours.pieces()[len(theirs) :]
    shown = ", ".join(new[:8]) + (", …" if len(new) > 8 else "")
    return ours, Fate(verdict="partly", part="words", why=f"all {len(theirs)}, and {len(new)} new: {shown}")


def inherit_codec(parent: Parent, blueprint: Blueprint) -> tuple[Blueprint, Fate]:
    """The blueprint with the checkpoint's codec, where it fits."""
    theirs = parent.blueprint
    if not blueprint.fitted or blueprint.fitted == theirs.fitted:
        return blueprint, Fate(verdict="taken", part="codec of actions", why="the same")
    scales = [robot.action for robot in blueprint.preprocessor.embodiments]
    why = ""
    if [robot.action for robot in theirs.preprocessor.embodiments] != scales:
        why = "other scale or robots"
    elif theirs.config != blueprint.config:
        why = "other model"
    elif not _within(blueprint.fitted, theirs.fitted):
        why = "the data leaves the checkpoint's limits"
    if why:
        return blueprint, Fate(verdict="new", part="codec of actions", why=f"fitted to the data: {why}")
    return replace(blueprint, fitted=theirs.fitted), Fate(
        verdict="taken", part="codec of actions", why="the data lies within the checkpoint's limits"
    )


@torch.no_grad()
def transfer(parent: Parent, blueprint: Blueprint, model: Model) -> list[Fate]:
    """Fill ``model``, which has fresh weights, with those of the checkpoint that it has a place for."""
    theirs, fates = parent.model.state_dict(), list[Fate]()
    names = {parent.model.meaning(name): name for name in theirs}
    rows_there, rows_here = _rows(parent.model, parent.blueprint), _rows(model, blueprint)
    taken = weights = 0
    for name, ours in model.state_dict().items():
        meaning = model.meaning(name)
        source = names.pop(meaning, None)
        if source is None:
            fates.append(Fate(verdict="new", part=meaning, why="not in the checkpoint"))
            continue
        old = theirs[source]
        if name in rows_here and source in rows_there and ours.shape[1:] == old.shape[1:]:
            places = {row: place for place, row in enumerate(rows_there[source])}
            new = _carry(ours, old, rows_here[name], places)
            weights += (len(ours) - len(new)) * ours[0].numel()
            if new:
                known = f"{len(ours) - len(new)} of {len(ours)} rows"
                shown = ", ".join(new[:4]) + (", …" if len(new) > 4 else "")
                fates.append(Fate(verdict="partly", part=meaning, why=f"{known}; new: {shown}"))
                continue
        elif ours.shape == old.shape:
            ours.copy_(old)
            weights += ours.numel()
        else:
            shapes = f"{tuple(old.shape)} there, {tuple(ours.shape)} here"
            fates.append(Fate(verdict="new", part=meaning, why=f"other shape: {shapes}"))
            continue
        taken += 1
    if not taken:
        raise CheckpointError(f"--init {parent.path}: none of its weights fits this model; check model in the recipe")
    fates += [Fate(verdict="left", part=meaning, why="not in this model") for meaning in names]
    count = f"{taken} of {len(model.state_dict())} tensors, {weights:,} weights"
    return [Fate(verdict="taken", part=f"weights of {parent.path}", why=count), *fates]


def _carry(ours: torch.Tensor, old: torch.Tensor, rows: Sequence[str], places: Mapping[str, int]) -> list[str]:
    """Copy rows by what they stand for; returns those that are new. A new word begins as an unknown one."""
    unknown = places.get("text <unknown>")
    new = []
    for i, row in enumerate(rows):
        if row in places:
            ours[i] = old[places[row]]
            continue
        new.append(row)
        if row.startswith("text ") and unknown is not None:
            ours[i] = old[unknown]
    return new


def _rows(model: Model, blueprint: Blueprint) -> Mapping[str, Sequence[str]]:
    preprocessor = blueprint.preprocessor
    robots = [robot.contract.robot for robot in preprocessor.embodiments]
    return model.rows(preprocessor.tokenizer.pieces(), robots)


def _meaning(robot: Embodiment) -> Any:
    """What states and actions of a robot are, apart from their limits."""
    contract = robot.contract
    dimensions = [tuple((d.name, d.unit) for d in part) for part in (contract.state, contract.action)]
    return contract.robot, *dimensions, robot.space.relative_to, contract.control_hz


def _reach(scale: Any, data: Any) -> float:
    """The largest scaled value of the data, 1 being where the scale's own quantiles lie."""
    ends = [np.abs(scale.normalise(np.asarray(end, np.float64))) for end in (data.min, data.max)]
    return float(np.max(ends, initial=0.0))


def _within(inner: Any, outer: Any) -> bool:
    """Whether limits (entries called ``low`` and ``high``) lie within others, and all else is equal."""
    if isinstance(inner, Mapping) and isinstance(outer, Mapping):
        if inner.keys() != outer.keys():
            return False
        return all(_bounded(key, inner[key], outer[key]) for key in inner)
    return bool(inner == outer)


def _bounded(key: str, inner: Any, outer: Any) -> bool:
    if key not in ("low", "high"):
        return _within(inner, outer)
    ours, theirs = np.asarray(inner), np.asarray(outer)
    return ours.shape == theirs.shape and bool(np.all(ours >= theirs if key == "low" else ours <= theirs))
