"""How a learned image codec is trained: by pixels and their edges, object pixels weighing as much as all others.

Nothing of this stays but the weights. Steps and minutes end it, whichever come first, and the learning rate falls with
whichever is nearer its end.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vla.core.errors import VlaError
from vla.models.pictures.network import scaled_pixels
from vla.models.pictures.pictures import Pictures
from vla.models.pictures.vq import VqCodec

Progress = Callable[[float, str], None]
"""Hears how far fitting is, in [0, 1], and a word on how well it goes."""
_WARMUP_STEPS, _TOLD_STEPS = 50, 10


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """How long and how hard it is taught."""

    minutes: float
    steps: int
    batch: int
    lr: float
    objects: float
    """Share of the loss that falls on object pixels, however few they are."""
    edges: float
    """Weight of the differences between neighbouring pixels, which keep lines sharp."""
    seed: int


def learn(codec: VqCodec, pictures: Pictures, lessons: Lessons, progress: Progress) -> None:
    """Train ``codec``; the same pictures, lessons and number of steps give the same weights on the same machine."""
    rng = np.random.default_rng([lessons.seed, 0x7671])
    objects = torch.from_numpy(pictures.objects())
    images = torch.from_numpy(pictures.images)
    trained = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=lessons.lr, betas=(0.9, 0.95), weight_decay=1e-4)
    began, fraction, step = time.monotonic(), 0.0, 0
    while fraction < 1.0:
        rows = torch.from_numpy(rng.integers(len(images), size=lessons.batch))
        _rate(optimiser, lessons.lr, step, fraction)
        loss = _loss(codec, scaled_pixels(images[rows]), objects[rows], lessons)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        fraction = min(1.0, max(step / lessons.steps, (time.monotonic() - began) / (60 * lessons.minutes)))
        if step % _TOLD_STEPS == 0 or fraction == 1.0:
            if not np.isfinite(value := loss.item()):
                raise VlaError(f"image codec: the loss at step {step} is {value}; lower lr (it is {lessons.lr:g})")
            progress(fraction, f"step {step:,}  loss {value:.4f}")


def _rate(optimiser: torch.optim.Optimizer, lr: float, step: int, fraction: float) -> None:
    """Up to ``lr`` in the first steps, down to nothing in the second half."""
    for group in optimiser.param_groups:
        group["lr"] = lr * min(1.0, (step + 1) / _WARMUP_STEPS, 2 * (1.02 - fraction))


def _loss(codec: VqCodec, pixels: Float[Tensor, "b 3 y x"], objects: Tensor, lessons: Lessons) -> Float[Tensor, ""]:
    """Of a batch: what the quantiser asks for, and how far pixels and their differences are off."""
    vectors, loss = codec.quantise.learn(codec.latents(pixels))
    off = codec.pixels(vectors) - pixels
    weight = _weights(objects, lessons.objects)[:, None]
    down, right = off.diff(dim=2).abs(), off.diff(dim=3).abs()
    loss = loss + (weight * off.abs()).mean() + 0.5 * (weight * off.square()).mean()
    return loss + lessons.edges * ((weight[:, :, 1:] * down).mean() + (weight[:, :, :, 1:] * right).mean())


def _weights(objects: Tensor, share: float) -> Float[Tensor, "b y x"]:
    """Of each pixel, 1 in the mean: object pixels have ``share`` of all weight, and no one more than 20 of it."""
    present = objects.float().mean().clamp(1e-4, 1 - 1e-4)
    heavy, light = (share / present).clamp(max=20.0), (1 - share) / (1 - present)
    weight = torch.where(objects, heavy, light)
    return weight / weight.mean()
