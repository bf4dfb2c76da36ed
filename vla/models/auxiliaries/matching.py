"""Tokens that are matched with the patches of a vision tower: where a picture shows the named things.

What pointing (`vla.models.auxiliaries.pointing`) teaches a reader that pools by maps, for one that does not. Each thing
has a token that sees what was read; its hidden state, projected, times the features of a patch is the score of that
patch. So the tower learns, at its output, to tell apart what words name, and the token what to look for.

What was found, and where, is said in tokens of its own behind the inputs, as language models say places before they
act on them (PaliGemma's location tokens, Qwen-VL's boxes): without them a small model learns what to look for long
before it learns to read off where it is (DECISIONS.md, "What makes fusion look").
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
from vla.models.trunk.points import WAVES, cell_grid, waves
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
        cameras, things = self.pointing.rows.shape
        self.saying = Saying(config.channels, (cameras, things), width) if config.says else None
        self.says = self.pointing.rows.numel() if config.says else 0
        initialise(self)

    def segment(self, b: int, table: TokenTable) -> Segment:
        """The queries."""
        return Segment.of(repeat(table.special("query") + self.position, "m e -> b m e", b=b), AUXILIARY_BLOCK)

    def said(self, activations: Activations) -> Segment:
        """Of each camera and thing what was found and where, as readers that pool by maps say it."""
        assert self.saying is not None
        of, (weights, points) = self.pointing.cameras, self._found(activations)
        pooled = weights @ activations["images.features"]  # (b, n, m, c)
        x = self.saying(pooled[:, of], points[:, of])
        return Segment(
            x=rearrange(x, "b n m e -> b (n m) e"),
            valid=repeat(activations["images.there"][:, of], "b n -> b (n m)", m=x.shape[2]),
            block=AUXILIARY_BLOCK,
        )

    def predict(self, activations: Activations, table: TokenTable) -> Float[Tensor, "b g"]:
        """The mean place of each map; entries that are no points are 0."""
        return self.pointing.predict({"images.points": self._found(activations)[1]}, table)

    def loss(
        self, activations: Activations, target: Float[Tensor, "b g"], table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """As of pointing."""
        return self.pointing.loss({"images.scores": self._maps(activations)[:, None]}, target, table)

    def _found(self, activations: Activations) -> tuple[Float[Tensor, "b n m p"], Float[Tensor, "b n m 2"]]:
        """Where each token looks, and the mean of that."""
        maps = self._maps(activations)
        weights = torch.softmax(rearrange(maps, "b n m y x -> b n m (y x)"), dim=-1)
        rows, columns = maps.shape[3:]
        return weights, weights @ cell_grid(rows, columns, like=maps)

    def _maps(self, activations: Activations) -> Float[Tensor, "b n m y x"]:
        """Scores of the patches of each camera, which stand in a square."""
        features = activations.get("images.features")
        if features is None or features.shape[-1] != self.project.out_features:
            found = "there is none" if features is None else f"its tower has {features.shape[-1]} channels"
            raise ConfigError(
                f"model.auxiliaries: kind matching, channels={self.project.out_features}, scores the patches of a "
                f"reader of kind connected: {found}; set channels to those, or leave it out"
            )
        queries: Tensor = self.project(activations[self.signal]) * features.shape[-1] ** -0.5  # (b, m, c)
        scores = torch.einsum("bmc,bnpc->bnmp", queries, features)
        side = round(features.shape[2] ** 0.5)
        return rearrange(scores, "b n m (y x) -> b n m y x", y=side)


class Saying(nn.Module):
    """Tokens of what was found and where, for as many cameras and things as ``each`` says."""

    def __init__(self, channels: int, each: tuple[int, int], width: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels + WAVES, width)
        self.position = nn.Parameter(torch.empty(*each, width))
        initialise(self)

    def forward(self, found: Float[Tensor, "b n m c"], points: Float[Tensor, "b n m 2"]) -> Float[Tensor, "b n m e"]:
        """One token for each."""
        said: Tensor = self.project(torch.cat([found, waves(points)], dim=-1)) + self.position
        return said
