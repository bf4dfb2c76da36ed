"""What tests of models do to weights: make every one matter, and learn a batch by heart."""

from typing import TypeVar

import torch
from torch import nn

from vla.models.model import Model
from vla.models.trunk.inputs import Batch, Metrics

M = TypeVar("M", bound=nn.Module)


def scaled(model: M, scale: float = 0.2) -> M:
    """Weights far from their small initial values, so that every token matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=scale)
    return model


def learn(model: Model, batch: Batch, *, steps: int, lr: float) -> list[Metrics]:
    """What each step on the same batch says of its loss."""
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    found = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss, metrics = model.loss(batch.inputs, batch.targets)
        loss.backward()
        optimiser.step()
        found.append(metrics)
    return found
