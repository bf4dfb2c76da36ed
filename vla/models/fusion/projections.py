"""Connectors that take each patch by itself: as many tokens as patches."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.models.fusion.connector import VisionConnector


class Linear(VisionConnector):
    """One projection, as PaliGemma's."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)

    def forward(self, patches: Float[Tensor, "b f p c"], there: Bool[Tensor, "b f"]) -> Float[Tensor, "b f p e"]:
        """See `VisionConnector.forward`."""
        made: Tensor = self.project(patches)
        return made


class Mlp(VisionConnector):
    """W2 gelu(W1 z), as LLaVA-1.5's; the first LLaVA, with 158 thousand samples, had one projection."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(channels, width)
        self.out = nn.Linear(width, width)

    def forward(self, patches: Float[Tensor, "b f p c"], there: Bool[Tensor, "b f"]) -> Float[Tensor, "b f p e"]:
        """See `VisionConnector.forward`."""
        made: Tensor = self.out(F.gelu(self.up(patches)))
        return made
