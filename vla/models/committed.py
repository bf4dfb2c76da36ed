"""What is decided of a chunk before it is asked for: conditioning on it in training (training-time RTC, 2512.05964).

A robot does not stop while its policy computes: the first steps of the new chunk will have run by the time that it is
there. So they are given, the model goes on from them, and nothing jumps at the seam. This is one mechanism for every
head: the decided steps are tokens before the actions, and their places among the actions are padding (or, where a codec
spells a chunk as a whole, written all the same), replaced by what was given. In training, how many are decided is drawn
for each sample.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.models.heads.head import ACTION_BLOCK
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Committed, Inputs, Targets
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment


class CommittedReader(nn.Module):
    """A token for each step that may be decided."""

    def __init__(self, most: int, noise: float, interface: Interface, width: int) -> None:
        super().__init__()
        self.most, self.noise = most, noise
        self.project = nn.Linear(interface.action, width)
        self.position = nn.Parameter(torch.empty(most, width))
        initialise(self)

    def forward(self, inputs: Inputs) -> Segment:
        """Tokens behind the inputs, of which auxiliaries see nothing; ``most`` of them, valid where decided."""
        if inputs.committed is None:
            x = self.position.expand(len(inputs), -1, -1)
            return Segment(
                x=x, valid=torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device), block=ACTION_BLOCK - 1
            )
        x = self.project(inputs.committed.actions[:, : self.most]) + self.position
        valid = torch.arange(self.most, device=x.device) < inputs.committed.steps[:, None]
        return Segment(x=x, valid=valid, block=ACTION_BLOCK - 1)

    def draw(self, targets: Targets) -> Committed:
        """Of every second chunk no step, of the others as many as chance says, and none that may not be learned.

        They are what was sent, and not what should have been: what runs already is a policy's own, with its errors, and
        goes on from are labels that put them right. A model that had only met faultless steps would go on with the
        faults (DECISIONS.md). And what an expert has decided gives away where it is going, which a model then need not
        find out by itself: hence the half without, and the noise, which leaves the labels where they are.
        """
        b, device = len(targets.actions), targets.actions.device
        steps = torch.randint(1, self.most + 1, (b,), device=device) * (torch.rand(b, device=device) < 0.5)
        known = targets.valid.any(dim=-1).long().cumprod(dim=1).sum(dim=1)  # leading steps that may be learned
        ran = targets.actions if targets.executed is None else targets.executed
        return Committed(actions=ran + self._faults(ran), steps=torch.minimum(steps, known))

    def _faults(self, actions: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
        """A policy is wrong in much the same way for all of a chunk: most of it is one offset for each sample."""
        b, h, d = actions.shape
        size = self.noise * torch.rand(b, 1, 1, device=actions.device, dtype=actions.dtype)
        offset, each = (torch.randn(b, n, d, device=actions.device, dtype=actions.dtype) for n in (1, h))
        return size * (offset + 0.3 * each)


def kept(committed: Committed, actions: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
    """``actions`` with what was decided in the place of what was written of it."""
    decided = torch.arange(actions.shape[1], device=actions.device) < committed.steps[:, None]  # (b, h)
    return torch.where(decided[..., None], committed.actions.to(actions.dtype), actions)
