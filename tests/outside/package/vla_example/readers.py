"""A reader: the mean colour of each camera as a token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from vla.models.readers.config import ReaderConfig
from vla.models.readers.reader import Reader
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment


@dataclass(frozen=True, kw_only=True)
class ColourConfig(ReaderConfig):
    """Needs nothing."""

    kind: str = "example-colour"

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> Reader:
        """One projection for all cameras."""
        return Colour(width)


class Colour(Reader):
    """A token for each camera."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(3, width)

    def forward(self, inputs: Any, context: Mapping[str, Segment], table: Any, activations: Any) -> Segment:
        """Of the present picture."""
        mean = inputs.images[:, -1].float().mean(dim=(2, 3)) / 127.5 - 1  # (b, n, 3)
        return Segment(x=self.project(mean), valid=inputs.camera_valid, block=0)
