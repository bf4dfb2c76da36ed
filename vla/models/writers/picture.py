"""What a camera will see when it is done: codes of a picture, filled in a few rounds, the surest first.

Most of a scene stays as it is, so each token is told the code that stands in its place now: copying is the first thing
it learns, and what changes is all that is left to say. Raster order would have to spell the table before the block.
"""

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from vla.models.heads.head import ACTION_BLOCK
from vla.models.heads.rounds import draw_mask, fill
from vla.models.pictures.folder import CodecSpec, begin_codec, require_fitted
from vla.models.readers.codes import RANGE
from vla.models.trunk.attention import Transformer
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.inputs import Inputs, Metrics, Written
from vla.models.trunk.points import WAVES, cell_grid, waves
from vla.models.trunk.sequence import Prefix, Segment
from vla.models.trunk.vocabulary import TokenTable
from vla.models.writers.config import PictureWriterConfig
from vla.models.writers.writer import Writer


class PictureWriter(Writer):
    """A token for each code; all of them see each other and the inputs."""

    def __init__(self, config: PictureWriterConfig, width: int, spec: CodecSpec) -> None:
        super().__init__()
        self.target, self.weight = config.target, config.weight
        self.spec, self._path, self.camera, self._rounds = spec, config.path, config.camera, config.rounds
        self.codec = spec.build().requires_grad_(False)
        self.ranges, self.room = {RANGE: self.codec.size}, self.codec.length
        self.place = nn.Linear(WAVES, width)
        self.now = nn.Linear(width, width)
        initialise(self)

    def loss(
        self, trunk: Transformer, prefix: Prefix, inputs: Inputs, written: Written, table: TokenTable
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Cross entropy of the codes that are masked."""
        ids = self._encode(written.value[:, self.camera])
        masked = draw_mask(len(ids), self.codec.length, ids.device)
        logits = self._read(trunk, prefix, inputs, ids, ~masked, table)
        loss = torch.where(masked, table.cross_entropy(logits, ids), 0.0).sum() / masked.sum()
        right = (masked & (logits.argmax(dim=-1) == ids)).sum() / masked.sum()
        return loss, dict(zip(self.measures, (loss.detach(), right), strict=True))

    def write(self, trunk: Transformer, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Written:
        """The picture of the one camera."""
        b, device = len(prefix.valid), prefix.valid.device

        def read(ids: Int64[Tensor, "b l"], filled: Bool[Tensor, "b l"]) -> Float[Tensor, "b l v"]:
            return self._read(trunk, prefix, inputs, ids, filled, table)

        pictures = self.codec.decode(fill(read, b, self.codec.length, self._rounds, device))
        return Written(value=pictures[:, None], known=torch.ones(b, 1, dtype=torch.bool, device=device))

    def begin(self) -> None:
        """See `Writer.begin`: the codec's weights are read from the folder that it was fitted into."""
        begin_codec(self.codec, self.spec, self._path)

    def meanings(self) -> dict[str, str]:
        """See `Writer.meanings`: ids and weights of another codec mean something else."""
        return {"codec": f"codec {self.spec.digest}", RANGE: f"{RANGE} of {self.spec.digest}"}

    def _read(
        self,
        trunk: Transformer,
        prefix: Prefix,
        inputs: Inputs,
        ids: Int64[Tensor, "b l"],
        shown: Bool[Tensor, "b l"],
        table: TokenTable,
    ) -> Float[Tensor, "b l v"]:
        """Logits of every code, of which those that are ``shown`` are read and the others asked for."""
        seen = inputs.camera_valid[:, self.camera, None, None]
        now = table.embed(RANGE, self._encode(inputs.images[:, -1, self.camera]))
        x = torch.where(shown[..., None], table.embed(RANGE, ids), table.special("query"))
        x = x + self.place(waves(cell_grid(*self.codec.grid, like=self.place.weight))) + seen * self.now(now)
        hidden, _ = prefix.extend(trunk, Segment.of(x, ACTION_BLOCK))
        return table.logits(RANGE, hidden).float()

    def _encode(self, pictures: UInt8[Tensor, "b y x 3"]) -> Int64[Tensor, "b l"]:
        require_fitted(self.codec, self._path, (pictures.shape[1], pictures.shape[2]))
        return self.codec.encode(pictures)
