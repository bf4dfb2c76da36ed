"""A writer: the end of an episode as one flat colour, the mean of what each camera will see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from einops import repeat
from torch import Tensor, nn

from vla.models.heads.head import ACTION_BLOCK
from vla.models.trunk.inputs import Inputs, Written
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Prefix, Segment
from vla.models.trunk.vocabulary import TokenTable
from vla.models.writers.config import WriterConfig
from vla.models.writers.writer import Writer


@dataclass(frozen=True, kw_only=True)
class MeanConfig(WriterConfig):
    """Needs nothing."""

    kind: str = "example-mean"
    target: ClassVar[str] = "goal"

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> Writer:
        """One projection, read off one token."""
        return MeanWriter(self, width)


class MeanWriter(Writer):
    """A query behind the inputs."""

    def __init__(self, config: MeanConfig, width: int) -> None:
        super().__init__()
        self.target, self.weight, self.room = config.target, config.weight, 1
        self.project = nn.Linear(width, 3)

    def loss(
        self, trunk: Any, prefix: Prefix, inputs: Inputs, written: Written, table: TokenTable
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The squared distance of colours."""
        wanted = written.value[:, 0].float().mean(dim=(1, 2)) / 255  # (b, 3)
        loss = (self._colour(trunk, prefix, table) - wanted).square().mean()
        return loss, dict(zip(self.measures, (loss.detach(), 1 - loss.detach()), strict=True))

    def write(self, trunk: Any, prefix: Prefix, inputs: Inputs, table: TokenTable) -> Written:
        """A picture of one colour."""
        colour = (self._colour(trunk, prefix, table).clamp(0, 1) * 255).byte()
        size = inputs.images.shape[3:5]
        value = repeat(colour, "b c -> b 1 y x c", y=size[0], x=size[1]).contiguous()
        return Written(value=value, known=inputs.observed[:, -1:])

    def _colour(self, trunk: Any, prefix: Prefix, table: TokenTable) -> Tensor:
        query = repeat(table.special("query"), "e -> b 1 e", b=len(prefix.valid))
        hidden, _ = prefix.extend(trunk, Segment.of(query, ACTION_BLOCK))
        colour: Tensor = self.project(hidden[:, 0])
        return colour
