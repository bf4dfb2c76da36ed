"""What heads share that write a chunk step by step: a token for each step, and the mean over what may be learned.

Steps that are committed (`vla.models.committed`) are decided already: nobody asks for them, sees their tokens, or
learns from them. They are padding here, so no head has to think of them.
"""

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.models.heads.head import ACTION_BLOCK
from vla.models.trunk.inputs import Inputs, Metrics, Targets, measured
from vla.models.trunk.sequence import Segment


def step_positions(horizon: int, width: int) -> nn.Parameter:
    """Which step a token is of, (h, e): learned, for every head the same scheme."""
    positions = nn.Parameter(torch.empty(horizon, width))
    nn.init.normal_(positions, std=0.02)
    return positions


def readout(width: int, action: int) -> nn.Sequential:
    """From what the transformer made of a step's token to the step's numbers."""
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, action))


def step_segment(x: Float[Tensor, "b q e"], asked: Bool[Tensor, "b h"], block: int = ACTION_BLOCK) -> Segment:
    """Tokens of all steps, one or several for each; those of steps that are not ``asked`` for are padding."""
    return Segment(x=x, valid=repeat(asked, "b h -> b (h j)", j=x.shape[1] // asked.shape[1]), block=block)


def step_mean(
    loss: Float[Tensor, "b h d"], inputs: Inputs, targets: Targets
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The mean of ``loss`` over what may be learned, and the same as the metric ``action_loss``.

    Steps past the end of an episode, dimensions that a robot lacks and committed steps teach nothing.
    """
    loss = loss.float()
    weight = (targets.valid & undecided(inputs, loss.shape[1])[..., None]).to(loss.dtype)
    # Selected before it is weighted: what an untaught step gives may be anything, and infinity times zero is NaN.
    mean = torch.where(weight > 0, loss, 0.0).sum() / weight.sum().clamp(min=1)
    metrics: Metrics = {"action_loss": measured(mean, weight)}
    return mean, metrics


def undecided(inputs: Inputs, horizon: int) -> Bool[Tensor, "b h"]:
    """The steps that are not committed."""
    steps = torch.arange(horizon, device=inputs.state.device)
    if inputs.committed is None:
        return torch.ones(len(inputs), horizon, dtype=torch.bool, device=steps.device)
    return steps >= inputs.committed.steps[:, None]
