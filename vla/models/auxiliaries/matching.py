"""Tokens that are matched with the patches of a vision tower: where a picture shows the named things.

What pointing (`vla.models.auxiliaries.pointing`) teaches a reader that pools by maps, for one that does not. Each thing
has a token that sees what was read; its hidden state, projected, times the features of a patch is the score of that
patch. So the tower learns, at its output, to tell apart what words name, and the token what to look for.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.models.auxiliaries.auxiliary import AUXILIARY_BLOCK, Auxiliary
from vla.models.auxiliaries.config import MatchingConfig, PointingConfig
from vla.models.auxiliaries.pointing import Pointing
from vla.models.readers.reader import Activations
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Metrics
from vla.models.trunk.interface import Interface
from vla.models.trunk.points import cell_grid
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable


class Matching(Auxiliary):
    """A token for each thing, the same for all cameras."""

    def __init__(self, config: MatchingConfig, interface: Interface, width: int) -> None:
        super().__init__()
        self.signal, self.weight = config.signal, config.weight
        self.pointing = Pointing(PointingConfig(signal=config.signal), interface)
        self.position = nn.Parameter(torch.empty(self.pointing.rows.shape[1], width))
        self.project = nn.Linear(width, config.channels)
        initialise(self)

    def segment(self, b: int, table: TokenTable) -> Segment:
        """The queries."""
        return Segment.of(repeat(table.special("query") + self.position, "m e -> b m e", b=b), AUXILIARY_BLOCK)

    def predict(self, activations: Activations, table: TokenTable) -> Float[Tensor, "b g"]:
        """The mean place of each map; entries that are no points are 0."""
        maps = self._maps(activations)
        weights = torch.softmax(rearrange(maps, "b n m y x -> b n m (y x)"), dim=-1)
        points = weights @ cell_grid(*maps.shape[3:], like=maps)
        return self.pointing.predict({"images.points": points}, table)

    def loss(
        self, activations: Activations, target: Float[Tensor, "b g"], table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """As of pointing."""
        return self.pointing.loss({"images.scores": self._maps(activations)[:, None]}, target, table)

    def _maps(self, activations: Activations) -> Float[Tensor, "b n m y x"]:
        """Scores of the patches of each camera, which stand in a square."""
        features = activations.get("images.features")
        if features is None or features.shape[-1] != self.project.out_features:
            found = "there is none" if features is None else f"its tower has {features.shape[-1]} channels"
            raise ConfigError(
                f"model.auxiliaries: kind matching, channels={self.project.out_features}, scores the patches of a "
                f"reader of kind connected: {found}; set channels to the tower's width, or leave it out"
            )
        queries: Tensor = self.project(activations[self.signal]) * features.shape[-1] ** -0.5  # (b, m, c)
        scores = torch.einsum("bmc,bnpc->bnmp", queries, features)
        side = round(features.shape[2] ** 0.5)
        return rearrange(scores, "b n m (y x) -> b n m y x", y=side)
