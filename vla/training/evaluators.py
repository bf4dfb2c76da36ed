"""What is measured of the averaged weights while a run goes on: on what was held out, and named as it is logged."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from vla.models.model import Model
from vla.training.samples import Samples

_FRAMES = 256
_FIRST_FRAMES = 128


@runtime_checkable
class Evaluator(Protocol):
    """Made once for a run, from its samples and its seed."""

    def __init__(self, samples: Samples, seed: int) -> None: ...

    def __call__(self, model: Model, device: torch.device) -> Iterator[tuple[str, float]]:
        """Names and values; nothing where the samples have nothing to measure on."""


class HeldOutLoss:
    """Every loss of the model on a fixed random sample of what was held out."""

    def __init__(self, samples: Samples, seed: int) -> None:
        count = len(samples.validation)
        items = np.random.default_rng(seed).choice(count, min(_FRAMES, count), replace=False) if count else None
        self._batch = None if items is None else samples.held_out(np.sort(items))

    def __call__(self, model: Model, device: torch.device) -> Iterator[tuple[str, float]]:
        """The metrics of `Model.loss` that were measured: those of a signal that nothing held out knows are not."""
        if self._batch is None:
            return
        batch = self._batch.to(device)
        _, metrics = model.loss(batch.inputs, batch.targets)
        yield from ((name, value.item()) for name, value in metrics.items() if not value.isnan())


class FirstFrames:
    """Errors on the first frames of held-out episodes, where only looking tells where things are."""

    def __init__(self, samples: Samples, seed: int) -> None:
        items = samples.validation.first_items()
        # A mixture lists one dataset after the other: the first of them all would be those of one robot.
        chosen = np.random.default_rng(seed).permutation(len(items))[:_FIRST_FRAMES]
        items = items[np.sort(chosen)]
        self._batch = samples.held_out(items) if len(items) else None

    def __call__(self, model: Model, device: torch.device) -> Iterator[tuple[str, float]]:
        """Mean distances: of actions in scaled units, of each signal that is known there in its own."""
        if self._batch is None:
            return
        batch = self._batch.to(device)
        found, truth = model.act(batch.inputs), batch.targets
        if truth.valid.any():
            yield "first_frame_action_error", (found.actions - truth.actions)[truth.valid].abs().mean().item()
        for name, believed in found.signals.items():
            known = truth.signals[name].isfinite()
            if known.any():
                yield f"first_frame_{name}_error", (believed - truth.signals[name])[known].abs().mean().item()


EVALUATORS: dict[str, type[Evaluator]] = {"held_out": HeldOutLoss, "first_frames": FirstFrames}
