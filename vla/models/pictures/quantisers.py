"""Quantisers: what a convolutional encoder says of each cell, as one of so many ids, with gradients straight through.

fsq      each of a few numbers is rounded to one of its levels (arXiv 2309.15505): nothing to collapse, no loss
nearest  the nearest of learned vectors (VQ, arXiv 1711.00937)
"""

from abc import ABC, abstractmethod
from math import prod
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F


class Quantiser(nn.Module, ABC):
    """Vectors of ``width`` ↔ ids below ``size``."""

    size: int
    width: int

    @abstractmethod
    def ids(self, z: Float[Tensor, "b l e"]) -> Int64[Tensor, "b l"]:
        """The id that stands for each vector."""

    @abstractmethod
    def vectors(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l e"]:
        """What a decoder is given for each id."""

    @abstractmethod
    def learn(self, z: Float[Tensor, "b l e"]) -> tuple[Float[Tensor, "b l e"], Float[Tensor, ""]]:
        """`vectors` of `ids`, which pass gradients on to ``z`` as they are, and a loss; codes may move."""


class FiniteScalars(Quantiser):
    """Each number in an odd or even count of levels, evenly spaced in [-1, 1]; ids count them as digits."""

    places: Tensor
    levels: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.size, self.width = prod(levels), len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("places", torch.tensor([prod(levels[:i]) for i in range(len(levels))]), persistent=False)

    def ids(self, z: Float[Tensor, "b l e"]) -> Int64[Tensor, "b l"]:
        """See `Quantiser.ids`."""
        digits = self._bounded(z).round().long() + self.levels // 2
        return (digits * self.places).sum(dim=-1)

    def vectors(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l e"]:
        """See `Quantiser.vectors`."""
        digits = ids[..., None] // self.places % self.levels
        return self._scaled(digits - self.levels // 2)

    def learn(self, z: Float[Tensor, "b l e"]) -> tuple[Float[Tensor, "b l e"], Float[Tensor, ""]]:
        """See `Quantiser.learn`: there is no loss, since there is nothing to move."""
        bounded = self._bounded(z)
        return self._scaled(_through(bounded, bounded.round())), z.new_zeros(())

    def _bounded(self, z: Float[Tensor, "b l e"]) -> Float[Tensor, "b l e"]:
        """Within half a level of the outermost ones; even counts are shifted by half, so that rounding has a middle."""
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = 0.5 * (self.levels % 2 == 0)
        return (z + (offset / half).atanh()).tanh() * half - offset

    def _scaled(self, digits: Tensor) -> Float[Tensor, "b l e"]:
        return digits / (self.levels // 2)


class NearestVectors(Quantiser):
    """Learned vectors that are pulled to what they stand for, by a running mean or by gradients.

    One that stood for nothing in ``patience`` batches moves to a vector of the present batch: a code that nothing is
    near would never learn, since only what is chosen moves. ``commitment`` is the weight at which ``z`` is pulled to
    its code, as the paper has it (transformers' classes weigh the other term).
    """

    def __init__(
        self,
        codes: int,
        width: int,
        *,
        commitment: float = 0.25,
        codebook: Literal["mean", "gradient"] = "mean",
        decay: float = 0.99,
        patience: int = 50,
        unit: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.width = codes, width
        self.commitment, self.decay, self.patience, self.unit = commitment, decay, patience, unit
        self.by_gradient = codebook == "gradient"
        self.embedding = nn.Embedding(codes, width)
        nn.init.uniform_(self.embedding.weight, -1.0 / codes, 1.0 / codes)
        self.embedding.weight.requires_grad_(self.by_gradient)
        for name, value in (("sums", torch.zeros(codes, width)), ("counts", torch.zeros(codes))):
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("idle", torch.full((codes,), patience), persistent=False)

    sums: Tensor
    """Running means of what each code stood for, times how often."""
    counts: Tensor
    idle: Tensor
    """Batches in which a code has stood for nothing; at first all count as idle, and begin at what there is."""

    def ids(self, z: Float[Tensor, "b l e"]) -> Int64[Tensor, "b l"]:
        """See `Quantiser.ids`."""
        codes = self.embedding.weight
        # |z - c|² without the |z|², which is the same for all.
        distance: Tensor = codes.square().sum(dim=-1) - 2 * z @ codes.T
        return distance.argmin(dim=-1)

    def vectors(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l e"]:
        """See `Quantiser.vectors`; of unit length where that is asked for."""
        found: Tensor = self.embedding(ids)
        return F.normalize(found, dim=-1) if self.unit else found

    def learn(self, z: Float[Tensor, "b l e"]) -> tuple[Float[Tensor, "b l e"], Float[Tensor, ""]]:
        """See `Quantiser.learn`."""
        self._revive(z.detach())
        ids = self.ids(z.detach())
        chosen = self.embedding(ids)
        loss = self.commitment * F.mse_loss(z, chosen.detach())
        if self.by_gradient:
            loss = loss + F.mse_loss(chosen, z.detach())
        given = _through(z, F.normalize(chosen, dim=-1) if self.unit else chosen)
        self._count(z.detach(), ids)
        return given, loss

    @torch.no_grad()
    def _revive(self, z: Float[Tensor, "b l e"]) -> None:
        """Move codes that were idle for too long to vectors of this batch, each to another as far as there are."""
        dead = (self.idle >= self.patience).nonzero()[:, 0]
        flat = z.flatten(0, 1)
        dead = dead[torch.randperm(len(dead), device=z.device)[: len(flat)]]
        found = flat[torch.randperm(len(flat), device=z.device)[: len(dead)]]
        self.embedding.weight[dead] = found
        self.sums[dead], self.counts[dead], self.idle[dead] = found, 1.0, 0

    @torch.no_grad()
    def _count(self, z: Float[Tensor, "b l e"], ids: Int64[Tensor, "b l"]) -> None:
        """Which codes are used; those that follow a running mean move."""
        flat, chosen = z.flatten(0, 1), ids.flatten()
        counts = torch.bincount(chosen, minlength=self.size).to(z.dtype)
        self.idle += 1
        self.idle[counts > 0] = 0
        sums = torch.zeros_like(self.sums).index_add_(0, chosen, flat)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        if not self.by_gradient:
            alive = self.counts > 1e-6
            self.embedding.weight[alive] = self.sums[alive] / self.counts[alive, None]


def _through(z: Float[Tensor, "b l e"], quantised: Float[Tensor, "b l e"]) -> Float[Tensor, "b l e"]:
    """``quantised`` by value, ``z`` by gradient."""
    return z + (quantised - z).detach()
