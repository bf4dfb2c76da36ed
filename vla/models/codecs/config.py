"""Action codecs by kind: what a recipe says of them. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vla.core.config import Kinded
from vla.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from vla.models.codecs.codec import ActionCodec


@dataclass(frozen=True, kw_only=True)
class CodecConfig(Kinded):
    """Scaled chunks ↔ tokens; see `vla.models.codecs.codec.ActionCodec`."""

    what: ClassVar[str] = "kind of codec"
    group: ClassVar[str] = "vla.codecs"

    @classmethod
    def table(cls) -> Mapping[str, type["CodecConfig"]]:
        """The kinds of this project."""
        return CODECS

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """What the codec takes from scaled chunks (w, h, d), as JSON."""
        raise NotImplementedError

    def build(self, fitted: Mapping[str, Any]) -> "ActionCodec":
        """The codec; ``fitted`` is what `fit` gave."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class BinsConfig(CodecConfig):
    """A range of bins for each joint of each step."""

    kind: str = "bins"
    bins: int = 128
    quantile: float = 0.001
    """Labels beyond this quantile, on either side, go to the outermost bin."""

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ConfigError(f"codec.bins={self.bins} must be at least 2")
        if not 0 <= self.quantile < 0.5:
            raise ConfigError(f"codec.quantile={self.quantile} must be at least 0 and below 0.5")

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """Limits for each step and joint."""
        from vla.models.codecs.bins import Bins

        return Bins.fit(chunks, bins=self.bins, quantile=self.quantile).to_json()

    def build(self, fitted: Mapping[str, Any]) -> "ActionCodec":
        """See `CodecConfig.build`."""
        from vla.models.codecs.bins import Bins

        return Bins.from_json(fitted)


CODECS: dict[str, type[CodecConfig]] = {"bins": BinsConfig}
