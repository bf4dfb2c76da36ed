"""The losses with what they learn themselves: how much similarities count, and from where on two belong together."""

from abc import ABC, abstractmethod
from math import log

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.models.contrastive.losses import Scalar, sigmoid, similarities, smoothed
from vla.models.trunk.initialisation import initialise


class Contrast(nn.Module, ABC):
    """A loss of pairs of vectors of length one."""

    @abstractmethod
    def forward(
        self, images: Float[Tensor, "b e"], texts: Float[Tensor, "b e"], ids: Int64[Tensor, "b"] | None = None
    ) -> Scalar:
        """Of pairs in the same rows; rows of equal ``ids`` belong together too, as those of one sentence do."""

    @abstractmethod
    def logits(self, images: Float[Tensor, "b e"], texts: Float[Tensor, "c e"]) -> Float[Tensor, "b c"]:
        """How much each belongs to each, as the loss has it: what softmax or sigmoid is taken of."""


class SoftmaxContrast(Contrast):
    """One among all, see `infonce` and `smoothed`: ALIGN's temperature is one by CLIP's factor."""

    def __init__(self, *, temperature: float, most: float, smoothing: float = 0.0) -> None:
        super().__init__()
        self.log_scale = Learned(-log(temperature))
        self._most, self._smoothing = log(most), smoothing

    def forward(
        self, images: Float[Tensor, "b e"], texts: Float[Tensor, "b e"], ids: Int64[Tensor, "b"] | None = None
    ) -> Scalar:
        """See `Contrast.forward`."""
        # The number itself is bounded, as CLIP's is: where only its use were, no gradient would lead back from there.
        with torch.no_grad():
            self.log_scale.value.clamp_(max=self._most)
        return smoothed(images, texts, (-self.log_scale()).exp(), self._smoothing, _same(ids))

    def logits(self, images: Float[Tensor, "b e"], texts: Float[Tensor, "c e"]) -> Float[Tensor, "b c"]:
        """See `Contrast.logits`."""
        return similarities(images, texts) * self.log_scale().exp()


class SigmoidContrast(Contrast):
    """Each pair by itself, see `sigmoid`."""

    def __init__(self, *, scale: float, bias: float) -> None:
        super().__init__()
        self.log_scale, self.bias = Learned(log(scale)), Learned(bias)

    def forward(
        self, images: Float[Tensor, "b e"], texts: Float[Tensor, "b e"], ids: Int64[Tensor, "b"] | None = None
    ) -> Scalar:
        """See `Contrast.forward`."""
        return sigmoid(images, texts, self.log_scale().exp(), self.bias(), _same(ids))

    def logits(self, images: Float[Tensor, "b e"], texts: Float[Tensor, "c e"]) -> Float[Tensor, "b c"]:
        """See `Contrast.logits`."""
        return similarities(images, texts) * self.log_scale().exp() + self.bias()


class Learned(nn.Module):
    """One number that is learned."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.empty(()))
        initialise(self, neutral=value)

    def forward(self) -> Scalar:
        """The number."""
        value: Tensor = self.value
        return value


def _same(ids: Int64[Tensor, "b"] | None) -> Bool[Tensor, "b b"] | None:
    return None if ids is None else ids[:, None] == ids[None]
