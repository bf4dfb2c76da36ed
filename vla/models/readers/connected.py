"""Pictures as language models are shown them: a vision tower, then a connector into the language model's width.

One tower and one connector for all cameras. Through which camera and when a picture was seen is added to its patches
before the connector, as Flamingo does it for the frames of a video. The tokens stand in the sequence (LLaVA, PaliGemma,
Qwen-VL), or aside, where gated cross-attention looks at them (Flamingo). With a connector that takes pictures together
all cameras and moments are one picture there.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from einops import rearrange, repeat
from torch import nn

from vla.models.readers.config import ConnectedConfig
from vla.models.readers.images import Views
from vla.models.readers.reader import Activations, Reader
from vla.models.readers.tower import Tower
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable


class ConnectedReader(Reader):
    """Every picture is stretched to the size of the tower."""

    def __init__(self, config: ConnectedConfig, interface: Interface, width: int) -> None:
        super().__init__()
        tower = config.tower
        assert tower is not None
        self._whole, self._folder, self.aside = tower, config.folder, config.aside
        if config.left_out:
            tower = replace(tower, layers=tower.layers - config.left_out, norm_last=False)
        self.tower = Tower(tower)
        self.connector = config.connector.build(tower.width, width)
        self.view = Views(len(interface.cameras), tower.width)
        self.time = nn.Parameter(torch.empty(interface.history, tower.width))
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """Tokens (t n k), of each observation and camera, or (k) of all together.

        Leaves of the present the ``images.features`` (b, n, p, c), before the connector, and ``images.there`` (b, n).
        """
        b, t = inputs.images.shape[:2]
        seen, fine = self.tower.see(rearrange(inputs.images, "b t n y x c -> (b t n) y x c"))
        seen, fine = (rearrange(part, "(b t n) p c -> b t n p c", b=b, t=t) for part in (seen, fine))
        activations["images.features"] = fine[:, -1]
        seen = seen + self.view.weight[:, None] + self.time[:, None, None]
        there = inputs.observed[:, :, None] & inputs.camera_valid[:, None]  # (b, t, n)
        activations["images.there"] = there[:, -1]
        there = rearrange(there, "b t n -> b (t n)")
        tokens = self.connector(rearrange(seen, "b t n p c -> b (t n) p c"), there)  # (b, g, k, e)
        known = there.any(dim=1, keepdim=True) if self.connector.together else there
        return Segment(
            x=rearrange(tokens, "b g k e -> b (g k) e"),
            valid=repeat(known, "b g -> b (g k)", k=tokens.shape[2]),
            block=0,
            aside=self.aside,
        )

    def begin(self) -> None:
        """See `Reader.begin`: the tower of the folder."""
        from vla.models.readers.tower_grafting import begin_tower

        begin_tower(self.tower, self._folder, self._whole)
