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

    def __init__(self, most: int, interface: Interface, width: int) -> None:
        super().__init__()
        self.most = most
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
        """As many steps of each chunk as chance says, from none to ``most``, and none that may not be learned.

        They are what was sent, and not what should have been: what runs already is a policy's own, with its errors, and
        goes on from are labels that put them right. A model that had only met faultless steps would go on with the
        faults (DECISIONS.md).
        """
        b, device = len(targets.actions), targets.actions.device
        steps = torch.randint(0, self.most + 1, (b,), device=device)
        known = targets.valid.any(dim=-1).long().cumprod(dim=1).sum(dim=1)  # leading steps that may be learned
        ran = targets.actions if targets.executed is None else targets.executed
        return Committed(actions=ran, steps=torch.minimum(steps, known))


def kept(committed: Committed, actions: Float[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
    """``actions`` with what was decided in the place of what was written of it."""
    decided = torch.arange(actions.shape[1], device=actions.device) < committed.steps[:, None]  # (b, h)
    return torch.where(decided[..., None], committed.actions.to(actions.dtype), actions)
