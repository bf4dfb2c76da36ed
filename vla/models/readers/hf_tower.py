"""Pictures through a pretrained vision tower: the vector of each patch, projected, is a token.

As PaliGemma and LLaVA read pictures: one tower and one projection for all cameras. Where a patch is, the tower says
itself; through which camera and when it was seen is added here. When a run begins, the tower's weights are those of the
folder that the recipe names; a checkpoint holds them, and what the tower is, so it needs no folder.

It is no `connected` with a linear connector. There camera and time are added before the projection, in the tower's
width, and tokens stand one after the other; here they are added behind it, and a token's place has a row and a column.
What one adds the other can only add where the projection reaches it, so neither can become the other and keep its
numbers.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import nn

from vla.models.readers.config import HfTowerConfig
from vla.models.readers.images import Views
from vla.models.readers.patches import picture_segment
from vla.models.readers.reader import Activations, Reader
from vla.models.readers.tower import Tower
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable


class HfTowerReader(Reader):
    """Every picture is stretched to the size of the tower."""

    def __init__(self, config: HfTowerConfig, interface: Interface, width: int) -> None:
        super().__init__()
        assert config.tower is not None
        self._folder = config.folder
        self.tower = Tower(config.tower)
        self.project = nn.Linear(config.tower.width, width)
        self.view = Views(len(interface.cameras), width)
        self.time = nn.Parameter(torch.empty(interface.history, width))
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """Tokens (t n p), of each observation and camera row by row."""
        b, t = inputs.images.shape[:2]
        seen = self.tower(rearrange(inputs.images, "b t n y x c -> (b t n) y x c"))
        tokens = rearrange(self.project(seen), "(b t n) p e -> b t n p e", b=b, t=t)
        side = self.tower.config.image // self.tower.config.patch
        return picture_segment(tokens, inputs, (side, side), view=self.view, time=self.time)

    def begin(self) -> None:
        """See `Reader.begin`: the tower of the folder."""
        from vla.models.readers.tower_grafting import begin_tower

        begin_tower(self.tower, self._folder, self.tower.config)
