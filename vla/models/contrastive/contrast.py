"""The losses with what they learn themselves: how much similarities count, and from where on two belong together.

Workers that learn together compare across all of their batches, in training mode only: evaluators run on one of them.
"""

from abc import ABC, abstractmethod
from math import log

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.models.contrastive.exchange import gather, own_ids, round_the_ring, workers
from vla.models.contrastive.losses import Scalar, sigmoid, similarities, smoothed
from vla.models.trunk.initialisation import initialise


class Contrast(nn.Module, ABC):
    """A loss of pairs of vectors of length one."""

    @abstractmethod
    def forward(
        self, images: Float[Tensor, "b e"], texts: Float[Tensor, "b e"], ids: Int64[Tensor, "b"] | None = None
    ) -> Scalar:
        """Of pairs in the same rows; rows of equal ``ids`` belong together too, as those of one sentence do.

        Of several workers, each gives its share: the mean of theirs is the loss of the whole, and so are the gradients.
        Ids mean the same to all of them, see `sentence_ids`.
        """

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
        temperature = (-self.log_scale()).exp()
        if not (self.training and workers() > 1):
            return smoothed(images, texts, temperature, self._smoothing, _same(ids))
        ids = own_ids(images) if ids is None else ids
        among = gather(images), gather(texts)
        return smoothed(images, texts, temperature, self._smoothing, ids[:, None] == gather(ids), among)

    def logits(self, images: Float[Tensor, "b e"], texts: Float[Tensor, "c e"]) -> Float[Tensor, "b c"]:
        """See `Contrast.logits`."""
        logits: Tensor = similarities(images, texts) * self.log_scale().exp()
        return logits


class SigmoidContrast(Contrast):
    """Each pair by itself, see `sigmoid`."""

    def __init__(self, *, scale: float, bias: float) -> None:
        super().__init__()
        self.log_scale, self.bias = Learned(log(scale)), Learned(bias)

    def forward(
        self, images: Float[Tensor, "b e"], texts: Float[Tensor, "b e"], ids: Int64[Tensor, "b"] | None = None
    ) -> Scalar:
        """See `Contrast.forward`."""
        scale, bias = self.log_scale().exp(), self.bias()
        if not (self.training and workers() > 1):
            return sigmoid(images, texts, scale, bias, _same(ids))
        return round_the_ring(images, texts, scale, bias, own_ids(images) if ids is None else ids)

    def logits(self, images: Float[Tensor, "b e"], texts: Float[Tensor, "c e"]) -> Float[Tensor, "b c"]:
        """See `Contrast.logits`."""
        logits: Tensor = similarities(images, texts) * self.log_scale().exp() + self.bias()
        return logits


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
