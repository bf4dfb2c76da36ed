"""What every tower is: pictures, or sentences, and one vector of each."""

from abc import ABC, abstractmethod

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn


class ImageTower(nn.Module, ABC):
    """Reads pictures of any size: they are stretched to that of the tower."""

    width: int
    """Of the vector."""

    @abstractmethod
    def forward(self, images: UInt8[Tensor, "b y x 3"]) -> Float[Tensor, "b e"]:
        """One vector of each picture."""

    def units(self) -> list[nn.Module]:
        """See `vla.models.model.Model.blocks`."""
        return []


class TextTower(nn.Module, ABC):
    """Reads tokens of sentences, which begin at the first place and end anywhere."""

    width: int
    """Of the vector."""
    known: int
    """Tokens that there are."""
    longest: int
    """Tokens of a sentence, at most."""

    @abstractmethod
    def forward(self, ids: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b e"]:
        """One vector of each sentence."""

    def units(self) -> list[nn.Module]:
        """See `vla.models.model.Model.blocks`."""
        return []
