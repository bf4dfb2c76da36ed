"""A token that says where the named things are, in metres: each coordinate in bins of its own."""

from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from vla.core.contract import Dimension
from vla.models.auxiliaries.auxiliary import AUXILIARY_BLOCK, Auxiliary
from vla.models.auxiliaries.config import GroundingConfig
from vla.models.readers.reader import Activations
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Metrics, measured
from vla.models.trunk.sequence import Segment
from vla.models.trunk.soft_bins import SoftBins
from vla.models.trunk.vocabulary import TokenTable


class Grounding(Auxiliary):
    """One query at the end of the inputs, read as distributions between the limits of the signal's dimensions."""

    def __init__(self, config: GroundingConfig, dimensions: Sequence[Dimension], width: int) -> None:
        super().__init__()
        self.signal, self.weight = config.signal, config.weight
        low, high = (torch.tensor([getattr(d, end) for d in dimensions]) for end in ("low", "high"))
        self.cells = SoftBins(low, high, bins=config.bins, sigma=config.label_sigma)
        ids = len(dimensions) * config.bins
        self.own = nn.Linear(width, ids) if config.own else None
        self.ids = 0 if config.own else ids
        # A query of its own would need an id; the shared `query` and a learned position do the same.
        self.position = nn.Parameter(torch.empty(width))
        initialise(self)

    def segment(self, b: int, table: TokenTable) -> Segment:
        """The query."""
        return Segment.of(repeat(table.special("query") + self.position, "e -> b 1 e", b=b), AUXILIARY_BLOCK)

    def predict(self, activations: Activations, table: TokenTable) -> Float[Tensor, "b g"]:
        """The mean near the mode of each coordinate."""
        return self.cells.decode(self._logits(activations, table))

    def loss(
        self, activations: Activations, target: Float[Tensor, "b g"], table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Cross entropy against soft targets."""
        logits = self._logits(activations, table)
        known = target.isfinite()
        # NaN times a weight of zero is NaN, so what is unknown gets a value before it is left out.
        target = torch.where(known, target, self.cells.low)
        weight = known.to(logits.dtype)
        loss = (table.cross_entropy(logits, self.cells.targets(target)) * weight).sum() / weight.sum().clamp(min=1)
        error = ((self.cells.decode(logits.detach()) - target).abs() * weight).sum() / weight.sum().clamp(min=1)
        return loss, {f"{self.signal}_loss": measured(loss, weight), f"{self.signal}_error": measured(error, weight)}

    def _logits(self, activations: Activations, table: TokenTable) -> Float[Tensor, "b g v"]:
        hidden = activations[self.signal][:, 0]
        logits = table.logits(self.signal, hidden) if self.own is None else self.own(hidden)
        return rearrange(logits, "b (g v) -> b g v", v=self.cells.bins)
