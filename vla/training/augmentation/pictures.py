"""Augmentation: what changes pictures while training, and moves the labels that live in them along."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from vla.core.contract import Dimension
from vla.models.text.plain import words_of
from vla.models.trunk.inputs import Inputs, Targets
from vla.models.trunk.points import Points, points_of
from vla.training.augmentation.config import AugmentationConfig


class Augmentation:
    """Draws from torch's generator, so a seeded step is repeatable; all observations of a sample change alike."""

    def __init__(
        self,
        config: AugmentationConfig,
        signals: Mapping[str, tuple[Dimension, ...]],
        cameras: tuple[str, ...],
        said: Mapping[str, Sequence[int]],
    ) -> None:
        """``said`` are the distinct instructions of the data, and how they stand there in tokens."""
        self._config = config
        self._points = {name: points_of(name, dimensions, cameras) for name, dimensions in signals.items()}
        # Whole instructions are asked, since a tokenizer may spell a word in pieces.
        self._colourless = {tuple(ids) for text, ids in said.items() if not set(config.colours) & set(words_of(text))}

    def __call__(self, inputs: Inputs, targets: Targets) -> tuple[Inputs, Targets]:
        """The batch as it might as well have been recorded."""
        config, goal = self._config, targets.written.get("goal")
        images, signals = inputs.images, dict(targets.signals)
        if goal is not None:  # one more observation: it changes as the others do
            images = torch.cat([images, goal.value[:, None]], dim=1)
        if config.shift:
            b, _, n, height, width, _ = images.shape
            reach = torch.tensor([int(config.shift * height), int(config.shift * width)], device=images.device)
            by = ((2 * reach + 1) * torch.rand(b, n, 2, device=images.device)).long() - reach  # (b, n, 2) pixels
            images = shift_images(images, by)
            moved = 2.0 * by / torch.tensor([height, width], device=images.device)  # the image is 2 across
            one = torch.ones_like(moved)
            signals = {name: _move(signal, self._points[name], moved, one) for name, signal in signals.items()}
        if config.crop:
            b, n = len(images), images.shape[2]
            size = (1 - config.crop * torch.rand(b, n, 1, device=images.device)).expand(b, n, 2)
            centre = (1 - size) * (2 * torch.rand(b, n, 2, device=images.device) - 1)
            images = crop_images(images, centre, size)
            signals = {name: _move(signal, self._points[name], -centre, size) for name, signal in signals.items()}
        if config.brightness or config.contrast or config.saturation:
            images = _recolour(images, config)
        if config.channels:
            colourless = torch.tensor([tuple(ids) in self._colourless for ids in inputs.text.tolist()])
            if targets.acting is not None:  # an answer may name what its question does not
                colourless &= torch.zeros_like(colourless).scatter(0, targets.acting.cpu(), True)
            images = _exchange_channels(images, config.channels, colourless.to(images.device))
        written = targets.written
        if goal is not None:
            written = {**written, "goal": replace(goal, value=images[:, -1])}
            images = images[:, :-1]
        inputs, targets = replace(inputs, images=images), replace(targets, signals=signals, written=written)
        return _covered(inputs, targets, config.covered) if config.covered and written else (inputs, targets)


def _covered(inputs: Inputs, targets: Targets, share: float) -> tuple[Inputs, Targets]:
    """A ``share`` of what is written, from words alone; what is to be done cannot be known there."""
    writes = torch.stack([written.known.any(dim=1) for written in targets.written.values()]).any(dim=0)
    blind = writes & (torch.rand(len(inputs), device=writes.device) < share)  # (b,)
    nothing = {name: signal.masked_fill(blind[:, None], torch.nan) for name, signal in targets.signals.items()}
    inputs = replace(inputs, camera_valid=inputs.camera_valid & ~blind[:, None])
    return inputs, replace(targets, valid=targets.valid & ~blind[:, None, None], signals=nothing)


def shift_images(images: UInt8[Tensor, "b t n y x 3"], by: Int64[Tensor, "b n 2"]) -> UInt8[Tensor, "b t n y x 3"]:
    """Each camera's pictures moved down and right by ``by`` pixels; what enters repeats the border."""
    height, width = images.shape[3:5]
    rows = (torch.arange(height, device=images.device) - by[..., 0, None]).clamp(0, height - 1)  # (b, n, y)
    columns = (torch.arange(width, device=images.device) - by[..., 1, None]).clamp(0, width - 1)  # (b, n, x)
    b = torch.arange(len(images), device=images.device)[:, None, None, None]
    n = torch.arange(images.shape[2], device=images.device)[None, :, None, None]
    moved = rearrange(images, "b t n y x c -> b n y x t c")[b, n, rows[..., None], columns[:, :, None]]
    return rearrange(moved, "b n y x t c -> b t n y x c")


def crop_images(
    images: UInt8[Tensor, "b t n y x 3"], centre: Float[Tensor, "b n 2"], size: Float[Tensor, "b n 2"]
) -> UInt8[Tensor, "b t n y x 3"]:
    """The part of each camera's pictures around ``centre`` (row, column) that is ``size`` of them, as large as all was.

    The picture goes from -1 to 1; bilinear.
    """
    b, t, _, height, width, _ = images.shape
    rows, columns = ((2 * torch.arange(k, device=images.device) + 1) / k - 1 for k in (height, width))
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)  # (y, x, 2)
    where = rearrange(centre[:, :, None, None] + size[:, :, None, None] * grid, "b n y x two -> (b n) y x two")
    flat = rearrange(images, "b t n y x c -> (b n) (t c) y x").float()
    seen = F.grid_sample(flat, where.flip(-1), padding_mode="border", align_corners=False)  # it takes (x, y)
    return rearrange(seen, "(b n) (t c) y x -> b t n y x c", b=b, t=t).round().clamp(0, 255).to(torch.uint8)


def _move(
    signal: Float[Tensor, "b g"], points: Points, by: Float[Tensor, "b n 2"], size: Float[Tensor, "b n 2"]
) -> Float[Tensor, "b g"]:
    """Points in images go where their images go: moved, then seen in a part of this ``size``."""
    moved = signal.clone()
    for camera, things in enumerate(points):
        for place in things:
            moved[:, list(place)] = (moved[:, list(place)] + by[:, camera]) / size[:, camera]
    return moved


def _recolour(images: UInt8[Tensor, "b t n y x 3"], config: AugmentationConfig) -> UInt8[Tensor, "b t n y x 3"]:
    def draw(reach: float) -> Tensor:
        return reach * (2 * torch.rand(len(images), 1, images.shape[2], 1, 1, 1, device=images.device) - 1)

    pixels = images.float()
    if config.saturation:
        grey = pixels.mean(dim=-1, keepdim=True)
        pixels = grey + (pixels - grey) * (1 + draw(config.saturation))
    mean = pixels.mean(dim=(3, 4, 5), keepdim=True)
    changed = mean + (pixels - mean) * (1 + draw(config.contrast)) + 255 * draw(config.brightness)
    return changed.round().clamp(0, 255).to(torch.uint8)


def _exchange_channels(
    images: UInt8[Tensor, "b t n y x 3"], share: float, where: Bool[Tensor, " b"]
) -> UInt8[Tensor, "b t n y x 3"]:
    device = images.device
    orders = torch.tensor(list(permutations(range(3))), device=device)  # (6, 3), the first changes nothing
    chosen = orders[torch.randint(len(orders), (len(images),), device=device)]
    chosen = torch.where((where & (torch.rand(len(images), device=device) < share))[:, None], chosen, orders[0])
    return images.gather(-1, chosen[:, None, None, None, None].expand_as(images))
