"""Diffusion Policy (arXiv 2303.04137): a chunk is drawn by taking noise away, with a U-Net over its steps.

    x_k = √ᾱ_k a + √(1 - ᾱ_k) ε        the network says ε of (x_k, k, what is seen and said)

Noise follows the squared cosine (arXiv 2102.09672); acting takes a few large steps of DDIM without new noise (arXiv
2010.02502), from noise that the observation's seed decides. What is seen are the points of a spatial softmax of each
camera, the state and the instruction, as one vector that conditions every convolution.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vla.models.baselines.observing import Camera, Sentence, known_rows, spatial_softmax
from vla.models.codecs.fitted import fitted_number
from vla.models.heads.noise import seeded_normal
from vla.models.kinds.baselines import DiffusionConfig
from vla.models.model import Model
from vla.models.trunk.inputs import Inputs, Metrics, Prediction, Targets, measured
from vla.models.trunk.interface import Interface

_GROUPS = 8


class Diffusion(Model):
    """Reads observations once, and takes noise away in several passes of the U-Net alone."""

    config: DiffusionConfig
    kept: Tensor

    def __init__(self, config: DiffusionConfig, interface: Interface, fitted: Mapping[str, Any]) -> None:
        super().__init__()
        self.config, self.interface = config, interface
        self._reach = fitted_number(fitted, "reach", least=0.0, most=1e6)
        width, n, t = config.width, len(interface.cameras), interface.history
        self.sentence = Sentence(interface.words, width)
        self.camera = Camera(config.channels, width)
        self.maps = nn.Conv2d(config.channels[-1], config.points, 1)
        self.embodiment = nn.Parameter(torch.zeros(interface.embodiments, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.Mish(), nn.Linear(width, width))
        condition = width + t * interface.state + t * n * 2 * config.points + width
        self.unet = UNet(interface.action, config.levels, condition)
        # ᾱ_k of each noise level, and 1 behind the last step, where nothing is left; derived, so not in the weights.
        self.register_buffer("kept", torch.cat([_squared_cosine(config.train_steps), torch.ones(1)]), persistent=False)

    def loss(self, inputs: Inputs, targets: Targets) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Model.loss`: the squared error of the noise, of several noised chunks for each observation."""
        passes = self.config.passes
        seen = repeat(self._read(inputs), "b e -> (p b) e", p=passes)
        # What may not be learned must not be read off a noised chunk either.
        actions = torch.where(targets.valid, targets.actions, 0.0)
        actions = repeat(actions, "b h d -> (p b) h d", p=passes)
        level = torch.randint(self.config.train_steps, (len(actions),), device=actions.device)
        noise = torch.randn_like(actions)
        kept = self.kept[level, None, None]
        error = (self._noise(kept.sqrt() * actions + (1 - kept).sqrt() * noise, level, seen) - noise) ** 2
        weight = repeat(targets.valid, "b h d -> (p b) h d", p=passes).to(error.dtype)
        mean = torch.where(weight > 0, error, 0.0).sum() / weight.sum().clamp(min=1)
        return mean, {"action_loss": measured(mean, weight)}

    def predict(self, inputs: Inputs) -> Prediction:
        """See `Model.predict`: DDIM, each answer from the noise of its seed."""
        seen = self._read(inputs)
        seeds = torch.zeros_like(inputs.embodiment) if inputs.seeds is None else inputs.seeds
        x = seeded_normal(seeds, self.interface.horizon, self.interface.action)
        levels = torch.linspace(self.config.train_steps - 1, 0, self.config.steps).round().long().tolist()
        for level, following in zip(levels, [*levels[1:], -1], strict=True):  # -1: the 1 behind the last one
            kept, then = self.kept[level], self.kept[following]
            noise = self._noise(x, torch.full_like(seeds, level), seen)
            clean = ((x - (1 - kept).sqrt() * noise) / kept.sqrt()).clamp(-self._reach, self._reach)
            # The noise that goes with what was cut off, or the two would not belong together.
            noise = (x - kept.sqrt() * clean) / (1 - kept).sqrt()
            x = then.sqrt() * clean + (1 - then).sqrt() * noise
        return Prediction(actions=x)

    def rows(self, words: Sequence[str], robots: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """See `Model.rows`."""
        return known_rows(self, words, robots)

    def _read(self, inputs: Inputs) -> Float[Tensor, "b e"]:
        """All that is seen and said as one vector; what there is not is 0."""
        b, t, n = inputs.images.shape[:3]
        sentence = self.sentence(inputs.text, inputs.text_valid)
        image = rearrange(inputs.images, "b t n y x c -> (b t n) y x c")
        features = self.camera(image, repeat(sentence, "b e -> (b t n) e", t=t, n=n))
        points = rearrange(spatial_softmax(self.maps(features)), "(b t n) k two -> b t n (k two)", b=b, t=t)
        there = inputs.observed[:, :, None] & inputs.camera_valid[:, None]
        points = torch.where(there[..., None], points, 0.0)
        told = sentence + self.embodiment[inputs.embodiment]
        return torch.cat([told, inputs.state.flatten(1), points.flatten(1)], dim=1)

    def _noise(
        self, x: Float[Tensor, "b h d"], level: Int64[Tensor, " b"], seen: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b h d"]:
        half = self.config.width // 2
        frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=x.device) / (half - 1 or 1))
        angle = level[:, None] * frequency
        time = self.time(torch.cat([angle.sin(), angle.cos()], dim=-1).to(seen.dtype))
        noise: Tensor = self.unet(x, torch.cat([time, seen], dim=1))
        return noise.float()


class UNet(nn.Module):
    """Convolutions over the steps of a chunk, down to half of them at each level and up again."""

    def __init__(self, action: int, levels: tuple[int, ...], condition: int) -> None:
        super().__init__()
        sizes = list(zip((action, *levels), levels, strict=False))
        last = levels[-1]
        self.down = nn.ModuleList(_Block(before, after, condition) for before, after in sizes)
        self.shorten = nn.ModuleList(nn.Conv1d(level, level, 3, stride=2, padding=1) for level in levels[:-1])
        self.middle = _Block(last, last, condition)
        self.up = nn.ModuleList(_Block(2 * after, before, condition) for before, after in sizes[:0:-1])
        self.lengthen = nn.ModuleList(
            nn.ConvTranspose1d(level, level, 4, stride=2, padding=1) for level in levels[-2::-1]
        )
        self.last = _Block(2 * levels[0], levels[0], condition)
        self.out = nn.Conv1d(levels[0], action, 1)

    def forward(self, x: Float[Tensor, "b h d"], condition: Float[Tensor, "b e"]) -> Float[Tensor, "b h d"]:
        """The noise in ``x``."""
        x = rearrange(x, "b h d -> b d h")
        passed = []
        for i, block in enumerate(self.down):
            x = block(x, condition)
            passed.append(x)
            if i < len(self.shorten):
                x = self.shorten[i](x)
        x = self.middle(x, condition)
        for block, lengthen in zip(self.up, self.lengthen, strict=True):
            x = lengthen(block(torch.cat([x, passed.pop()], dim=1), condition))
        x = self.last(torch.cat([x, passed.pop()], dim=1), condition)
        noise: Tensor = self.out(x)
        return rearrange(noise, "b d h -> b h d")


class _Block(nn.Module):
    """Two convolutions, the first scaled and shifted by the condition, and a way around both."""

    def __init__(self, before: int, after: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(before, after, 5, padding=2), nn.GroupNorm(_GROUPS, after), nn.Mish())
        self.second = nn.Sequential(nn.Conv1d(after, after, 5, padding=2), nn.GroupNorm(_GROUPS, after), nn.Mish())
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * after))
        self.around = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h"], condition: Float[Tensor, "b e"]) -> Float[Tensor, "b f h"]:
        scale, shift = rearrange(self.film(condition), "b (two c) -> two b c 1", two=2)
        inner = self.first(x) * (1 + scale) + shift
        out: Tensor = self.second(inner) + self.around(x)
        return out


def _squared_cosine(steps: int) -> Float[Tensor, " k"]:
    """ᾱ of each noise level; single steps take away at most 0.999 of what there is."""
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    whole = torch.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2
    return (whole[1:] / whole[:-1]).clamp(min=1e-3).cumprod(dim=0).float()
