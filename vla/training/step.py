"""One training step, and the average of the weights: no files, no processes, no clock."""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


def train_step(
    model: nn.Module,
    loss: Float[Tensor, ""],
    optimisers: Sequence[torch.optim.Optimizer],
    *,
    lr_scale: float,
    clip: float,
) -> dict[str, Tensor]:
    """Update ``model`` by the gradients of ``loss`` and return what to log of it.

    Each parameter group runs at its own ``initial_lr`` times ``lr_scale``.
    """
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * lr_scale
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return {"loss": loss.detach(), "gradient_norm": norm}


def lr_scale(step: int, fraction: float, *, warmup_steps: int, constant: float) -> float:
    """Linear warm-up by steps, then constant, then linear to zero as ``fraction`` of the run goes to 1."""
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * min(1.0, (1.0 - fraction) / (1.0 - constant) + 1e-3)


@torch.no_grad()
def update_average(
    average: dict[str, Tensor], model: nn.Module, *, step: int, span: float, frozen: Collection[str] = ()
) -> None:
    """Exponential moving average whose memory is the last ``span`` of the steps so far; whole numbers are copied."""
    weight = 1.0 / max(1.0, span * (step + 1))
    weights = model.state_dict()
    moving = [name for name, value in average.items() if name not in frozen and value.is_floating_point()]
    torch._foreach_lerp_([average[name] for name in moving], [weights[name] for name in moving], weight)
    for name, value in average.items():
        if not value.is_floating_point():
            value.copy_(weights[name])
