"""Pictures as ids: each is coded as a codec was fitted to, and read through the one table, in the range ``image``.

What is read so can be written so: the rows that a code is read by are those by which a head would choose it. The codec
does not learn here. Its state is in that of the model, so a checkpoint holds all of it, and the contract says of what
kind it is; only where a model begins is it read from the folder that it was fitted into.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import nn

from vla.models.pictures.folder import CodecSpec, begin_codec, require_fitted
from vla.models.readers.config import CodesConfig
from vla.models.readers.images import Views
from vla.models.readers.patches import picture_segment
from vla.models.readers.reader import Activations, Reader
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.points import WAVES, cell_grid, waves
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import TokenTable

RANGE = "image"
"""The range of the vocabulary that codes of pictures have, whoever reads or writes them."""


class CodesReader(Reader):
    """A token for each code of each picture, which says where it is and through which camera it is seen."""

    def __init__(self, config: CodesConfig, interface: Interface, width: int, spec: CodecSpec) -> None:
        super().__init__()
        self.spec, self._path = spec, config.path
        self.codec = spec.build().requires_grad_(False)
        self.ranges = {RANGE: self.codec.size}
        self.place = nn.Linear(WAVES, width)
        self.view = Views(len(interface.cameras), width)
        self.time = nn.Parameter(torch.empty(interface.history, width))
        initialise(self)

    def forward(
        self, inputs: Inputs, context: Mapping[str, Segment], table: TokenTable, activations: Activations
    ) -> Segment:
        """Tokens (t n p), of each observation and camera row by row; pictures of another size are a `ConfigError`."""
        t, n, height, width = inputs.images.shape[1:5]
        require_fitted(self.codec, self._path, (height, width))
        rows, columns = self.codec.grid
        ids = self.codec.encode(rearrange(inputs.images, "b t n y x c -> (b t n) y x c"))
        tokens = table.embed(RANGE, rearrange(ids, "(b t n) p -> b t n p", t=t, n=n))
        places = self.place(waves(cell_grid(rows, columns, like=self.view.weight)))  # (p, e)
        return picture_segment(tokens + places, inputs, (rows, columns), view=self.view, time=self.time)

    def begin(self) -> None:
        """See `Reader.begin`: the codec's weights are read from the folder that it was fitted into."""
        begin_codec(self.codec, self.spec, self._path)

    def meanings(self) -> Mapping[str, str]:
        """See `Reader.meanings`: ids and weights of another codec mean something else."""
        return {"codec": f"codec {self.spec.digest}", RANGE: f"{RANGE} of {self.spec.digest}"}
