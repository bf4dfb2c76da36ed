"""The two sides of a two-tower model: what makes a vector of a picture, and what makes one of a sentence."""

from abc import ABC, abstractmethod

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from vla.models.text.config import TokenizerConfig


class Pictures(nn.Module, ABC):
    """One for all cameras."""

    @abstractmethod
    def forward(self, pictures: UInt8[Tensor, "b y x 3"], camera: Int64[Tensor, " b"]) -> Float[Tensor, "b o"]:
        """Of each picture, seen through its ``camera``."""

    def begin(self) -> None:
        """Take what was made elsewhere, for a run that begins."""

    def units(self) -> list[nn.Module]:
        """See `vla.models.model.Model.blocks`."""
        return []


class Sentences(nn.Module, ABC):
    """Tokens begin at the first place and end anywhere."""

    @abstractmethod
    def forward(self, text: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b o"]:
        """Of each sentence; of a blank one the same always."""

    def begin(self, tokenizer: TokenizerConfig) -> None:
        """Take what was made elsewhere, for a run that begins; it has to fit what makes its tokens."""

    def units(self) -> list[nn.Module]:
        """See `vla.models.model.Model.blocks`."""
        return []
