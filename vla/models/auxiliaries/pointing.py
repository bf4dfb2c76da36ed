"""Pooling maps that point at the named things: gradients that reach the pixels directly.

The image reader's first seekers get a target, the place of a thing in the image. Nothing else taught a small model from
scratch to look for what the instruction names (DECISIONS.md, "What made it learn").
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vla.core.errors import ConfigError, ContractError
from vla.models.auxiliaries.auxiliary import Auxiliary
from vla.models.auxiliaries.config import PointingConfig
from vla.models.readers.reader import Activations
from vla.models.trunk.inputs import Metrics, measured
from vla.models.trunk.interface import Interface
from vla.models.trunk.points import cell_grid, points_of
from vla.models.trunk.vocabulary import TokenTable

_SPOT = 0.1
"""Deviation of the target spot of a pointing map; the image is 2 across."""


class Pointing(Auxiliary):
    """Has no weights of its own. Cameras of which the signal says nothing are left alone."""

    cameras: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, config: PointingConfig, interface: Interface) -> None:
        super().__init__()
        self.signal, self.weight = config.signal, config.weight
        dimensions = interface.signals[config.signal]
        points = points_of(config.signal, dimensions, interface.cameras)
        told = [number for number, of_camera in enumerate(points) if of_camera]
        if len({len(points[number]) for number in told}) != 1:
            found = {camera: len(things) for camera, things in zip(interface.cameras, points, strict=True)}
            raise ContractError(
                f"signal {config.signal}: every camera that it tells of needs the same number of things to point at, "
                f"got {found} of {[d.name for d in dimensions]}"
            )
        self._size = len(dimensions)
        self.register_buffer("cameras", torch.tensor(told), persistent=False)
        entries = torch.tensor([points[number] for number in told])  # (n', m, 2), n' cameras that it tells of
        self.register_buffer("rows", entries[..., 0], persistent=False)
        self.register_buffer("columns", entries[..., 1], persistent=False)

    def predict(self, activations: Activations, table: TokenTable) -> Float[Tensor, "b g"]:
        """Where the maps point; entries that are no points are 0."""
        points = self._pointing(_left(activations, "images.points"))  # (b, n', m, 2)
        found = points.new_zeros(len(points), self._size)
        found[:, self.rows.flatten()] = points[..., 0].flatten(1)
        found[:, self.columns.flatten()] = points[..., 1].flatten(1)
        return found

    def loss(
        self, activations: Activations, target: Float[Tensor, "b g"], table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Of each look the mean over all points that are in view; the looks' sum, so that a second weakens no first."""
        places = torch.stack([target[:, self.rows], target[:, self.columns]], dim=-1)  # (b, n', m, 2)
        means = []
        for scores in _left(activations, "images.scores").unbind(1):  # (b, n, m, y, x) of each look
            loss, seen = pointing_loss(self._pointing(scores), places)
            means.append(loss.sum() / seen.sum().clamp(min=1))
        return torch.stack(means).sum(), {f"{self.signal}_loss": measured(means[-1], seen)}

    def _pointing(self, maps: Tensor) -> Tensor:
        """The first maps (b, n', m, ...) of each camera that is told of, as many as there are things."""
        things = self.rows.shape[1]
        if maps.shape[2] < things:
            raise ConfigError(
                f"model.readers.images.tokens must be at least {2 * things}: half of them can point, "
                f"and the dataset has {things} things to point at in each image"
            )
        return maps[:, self.cameras, :things]


def _left(activations: Activations, name: str) -> Tensor:
    """What the image reader left; another reader in its place is a `ConfigError`."""
    if name not in activations:
        raise ConfigError(
            "model.auxiliaries: kind pointing teaches the maps of a reader of kind images, and this model has none; "
            "give it one, or leave the auxiliary out (pointing: null)"
        )
    return activations[name]


def pointing_loss(
    scores: Float[Tensor, "*b rows columns"], target: Float[Tensor, "*b 2"]
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Cross entropy of each map against a spot around its point, and 1 where that is in view, which NaN is not."""
    grid = cell_grid(scores.shape[-2], scores.shape[-1], target)
    seen = (target.abs() <= 1).all(dim=-1)
    place = torch.where(seen[..., None], target, 0.0)
    distance = ((grid - place[..., None, :]) ** 2).sum(dim=-1)  # (*b, p)
    spot = torch.softmax(-0.5 * distance / _SPOT**2, dim=-1)
    flat = rearrange(scores, "... y x -> ... (y x)").float()
    loss = -(spot * F.log_softmax(flat, dim=-1)).sum(dim=-1)
    return loss * seen, seen.to(loss.dtype)
