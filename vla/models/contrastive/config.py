"""Contrastive losses by kind. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, ClassVar

from vla.core.config import Kinded
from vla.core.errors import ConfigError

if TYPE_CHECKING:
    from vla.models.contrastive.contrast import Contrast

_WHERE = "contrastive loss: "


@dataclass(frozen=True, kw_only=True)
class LossConfig(Kinded):
    """Which pictures and sentences belong together, as a loss; see `vla.models.contrastive.contrast.Contrast`."""

    what: ClassVar[str] = "kind of contrastive loss"
    group: ClassVar[str] = "vla.contrastive_losses"

    @classmethod
    def table(cls) -> Mapping[str, type["LossConfig"]]:
        """The kinds of this project."""
        return LOSSES

    def build(self) -> "Contrast":
        """The loss with what it learns itself, a scale and perhaps a bias, at its beginning."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class InfoNceConfig(LossConfig):
    """Of each picture the right sentence among all of the batch, and the other way round (CLIP, arXiv 2103.00020)."""

    kind: str = "infonce"
    temperature: float = 0.07
    """By which similarities are divided at the beginning; it is learned."""
    most: float = 100.0
    """The largest factor that may become of it."""

    def __post_init__(self) -> None:
        _require_temperature(self.temperature, self.most)

    def build(self) -> "Contrast":
        """See `LossConfig.build`."""
        from vla.models.contrastive.contrast import SoftmaxContrast

        return SoftmaxContrast(temperature=self.temperature, most=self.most)


@dataclass(frozen=True, kw_only=True)
class SmoothedConfig(LossConfig):
    """The same where pairs are noisy: part of each target goes to all of the batch alike (ALIGN, arXiv 2102.05918)."""

    kind: str = "smoothed"
    temperature: float = 1.0
    """As of ``infonce``."""
    most: float = 100.0
    """As of ``infonce``."""
    smoothing: float = 0.1
    """The part that goes to all alike."""

    def __post_init__(self) -> None:
        _require_temperature(self.temperature, self.most)
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"{_WHERE}smoothing={self.smoothing} must be at least 0 and below 1")

    def build(self) -> "Contrast":
        """See `LossConfig.build`."""
        from vla.models.contrastive.contrast import SoftmaxContrast

        return SoftmaxContrast(temperature=self.temperature, most=self.most, smoothing=self.smoothing)


@dataclass(frozen=True, kw_only=True)
class SigmoidConfig(LossConfig):
    """Of each picture and each sentence whether they belong together, one by one (SigLIP, arXiv 2303.15343)."""

    kind: str = "sigmoid"
    scale: float = 10.0
    """The factor of similarities at the beginning; it is learned."""
    bias: float = -10.0
    """What is added at the beginning, learned too: nearly all of the pairs of a batch do not belong together."""

    def __post_init__(self) -> None:
        if not (0 < self.scale < float("inf") and isfinite(self.bias)):
            raise ConfigError(f"{_WHERE}scale={self.scale} must be positive and bias={self.bias} a number")

    def build(self) -> "Contrast":
        """See `LossConfig.build`."""
        from vla.models.contrastive.contrast import SigmoidContrast

        return SigmoidContrast(scale=self.scale, bias=self.bias)


LOSSES: dict[str, type[LossConfig]] = {
    "infonce": InfoNceConfig,
    "sigmoid": SigmoidConfig,
    "smoothed": SmoothedConfig,
}


def _require_temperature(temperature: float, most: float) -> None:
    if not 0 < 1 / most <= temperature < float("inf"):
        raise ConfigError(f"{_WHERE}temperature={temperature} must be at least 1 / most, and most={most} positive")
