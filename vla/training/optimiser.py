"""AdamW for tables, norms and convolutions; Muon for the matrices of the trunk.

Muon orthogonalises the momentum of each matrix (Jordan et al. 2024, kellerjordan.github.io/posts/muon). PyTorch's own
runs its Newton-Schulz iterations in bfloat16, which on a CPU without bfloat16 instructions takes three times as long
as the rest of the step; this one works in the parameter's precision and iterates over equal shapes at once.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.models.lora import is_factor
from vla.models.model import Model
from vla.training.recipe import OptimiserConfig

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: the update's singular values are all about one."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            shapes: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                nesterov = parameter.grad.lerp(buffer, group["momentum"])
                shapes[parameter.shape].append((parameter, nesterov))
            for shape, pairs in shapes.items():
                updates = orthogonalise(torch.stack([update for _, update in pairs]))
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    parameter.sub_(update, alpha=scale)


def orthogonalise(matrices: Float[Tensor, "k rows columns"]) -> Float[Tensor, "k rows columns"]:
    """The nearest (semi-)orthogonal matrices, roughly, by five quintic Newton-Schulz iterations."""
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


def build_optimisers(model: Model, config: OptimiserConfig) -> list[torch.optim.Optimizer]:
    """Muon for what the model calls its matrices, AdamW for all else; each parameter that is trained once."""
    # Orthogonalised factors would make the largest step of a low rank in every direction at once.
    matrices = {name for name in model.matrices() if not is_factor(name)} if config.muon_lr else set()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    rest = [p for name, p in trained if name not in matrices]
    hidden = [p for name, p in trained if name in matrices]
    betas = (config.betas[0], config.betas[1])
    optimisers: list[torch.optim.Optimizer] = []
    if rest:
        decay = config.weight_decay
        optimisers.append(torch.optim.AdamW(rest, lr=config.lr, betas=betas, weight_decay=decay, foreach=True))
    if hidden:
        optimisers.append(Muon(hidden, config.muon_lr))
    return optimisers
