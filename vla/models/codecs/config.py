"""Action codecs by kind: what a recipe says of them. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
    spacing: Literal["uniform", "quantile", "mu-law"] = "uniform"
    """Bins of one width, bins that each hold as many labels, or Gato's, which are narrow near 0."""

    def __post_init__(self) -> None:
        _at_least("bins", self.bins, 2)
        _share("quantile", self.quantile)

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """Limits for each step and joint."""
        from vla.models.codecs.bins import Bins

        return Bins.fit(chunks, bins=self.bins, quantile=self.quantile, spacing=self.spacing).to_json()

    def build(self, fitted: Mapping[str, Any]) -> "ActionCodec":
        """See `CodecConfig.build`."""
        from vla.models.codecs.bins import Bins

        return Bins.from_json(fitted)


@dataclass(frozen=True, kw_only=True)
class FastConfig(CodecConfig):
    """Cosine coefficients as integers, byte-pair encoded (FAST)."""

    kind: str = "fast"
    scale: float = 10.0
    """A coefficient is rounded to multiples of one over this."""
    vocabulary: int = 1024
    """Ids: a symbol for each integer, padding, and as many merges as there is room for."""
    quantile: float = 0.001
    """Coefficients beyond this quantile of their own, on either side, may saturate."""
    tokens: int | None = None
    """The budget of a chunk; one that takes more loses its highest frequencies. By default the longest of the data."""

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConfigError(f"codec.scale={self.scale} must be positive")
        if not 2 <= self.vocabulary <= 8192:
            raise ConfigError(
                f"codec.vocabulary={self.vocabulary} must be from 2 to 8192: a table of its pairs is kept"
            )
        _share("quantile", self.quantile)
        if self.tokens is not None:
            _at_least("tokens", self.tokens, 1)

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """The integers that there are, and their merges."""
        from vla.models.codecs.fast import Fast

        settings: dict[str, Any] = {"vocabulary": self.vocabulary, "tokens": self.tokens}
        return Fast.fit(chunks, scale=self.scale, quantile=self.quantile, **settings).to_json()

    def build(self, fitted: Mapping[str, Any]) -> "ActionCodec":
        """See `CodecConfig.build`."""
        from vla.models.codecs.fast import Fast

        return Fast.from_json(fitted)


@dataclass(frozen=True, kw_only=True)
class SplineConfig(CodecConfig):
    """Control points of a B-spline for each joint, as bins (BEAST)."""

    kind: str = "spline"
    points: int = 5
    """Control points of each joint."""
    degree: int = 3
    """Of the polynomials: 0 holds, 1 is straight, 3 is smooth."""
    ridge: float = 1e-4
    """What large control points cost."""
    continuous: bool = False
    """Begin exactly at the first action, so that chunks join; by default all actions count alike."""
    bins: int = 256
    quantile: float = 0.001
    """Control points beyond this quantile, on either side, go to the outermost bin."""

    def __post_init__(self) -> None:
        _at_least("degree", self.degree, 0)
        _at_least("points", self.points, max(2, self.degree + 1))
        _at_least("bins", self.bins, 2)
        _share("quantile", self.quantile)
        if self.ridge < 0:
            raise ConfigError(f"codec.ridge={self.ridge} must not be negative")

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """Limits of the control points."""
        from vla.models.codecs.spline import Spline

        shape: dict[str, Any] = {"points": self.points, "degree": self.degree, "continuous": self.continuous}
        return Spline.fit(chunks, **shape, ridge=self.ridge, bins=self.bins, quantile=self.quantile).to_json()

    def build(self, fitted: Mapping[str, Any]) -> "ActionCodec":
        """See `CodecConfig.build`."""
        from vla.models.codecs.spline import Spline

        return Spline.from_json(fitted)


@dataclass(frozen=True, kw_only=True)
class RvqConfig(CodecConfig):
    """Sums of centroids of the data: residual vector quantisation by k-means."""

    kind: str = "rvq"
    groups: int = 2
    """Parts of a chunk, one behind the other in time, that are quantised on their own."""
    levels: int = 4
    """Centroids that are summed for each part: each corrects those before it."""
    codes: int = 256
    """Centroids to choose from at each level; fewer where there are fewer chunks."""
    seed: int = 0
    """Of the chunks that the centroids begin at."""

    def __post_init__(self) -> None:
        for name in ("groups", "levels", "codes"):
            _at_least(name, getattr(self, name), 1)

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """The centroids."""
        from vla.models.codecs.rvq import ResidualVectors

        sizes: dict[str, Any] = {"groups": self.groups, "levels": self.levels, "codes": self.codes}
        return ResidualVectors.fit(chunks, **sizes, seed=self.seed).to_json()

    def build(self, fitted: Mapping[str, Any]) -> "ActionCodec":
        """See `CodecConfig.build`."""
        from vla.models.codecs.rvq import ResidualVectors

        return ResidualVectors.from_json(fitted)


@dataclass(frozen=True, kw_only=True)
class OpenVlaConfig(CodecConfig):
    """OpenVLA's bins, with their places in a text vocabulary."""

    kind: str = "openvla"
    grippers: tuple[int, ...] = (-1,)
    """Joints that OpenVLA does not scale by quantiles: 0 is closed, 1 is open. -1 is the last."""
    vocabulary: int = 32000
    """Ids of the text tokenizer, without what its table is padded with."""

    def __post_init__(self) -> None:
        _at_least("vocabulary", self.vocabulary, 256)

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """Quantiles of each joint."""
        from vla.models.codecs.openvla import OpenVla

        return OpenVla.fit(chunks, grippers=self.grippers, vocabulary=self.vocabulary).to_json()

    def build(self, fitted: Mapping[str, Any]) -> "ActionCodec":
        """See `CodecConfig.build`."""
        from vla.models.codecs.openvla import OpenVla

        return OpenVla.from_json(fitted)


@dataclass(frozen=True, kw_only=True)
class Rt2Config(CodecConfig):
    """RT-2's integers, as text or on words of a vocabulary."""

    kind: str = "rt2"
    words: tuple[int, ...] = ()
    """The 256 ids of a vocabulary that stand for 0 to 255; by default none, and integers are written as text."""
    quantile: float = 0.001
    """Labels beyond this quantile, on either side, go to the outermost integer."""

    def __post_init__(self) -> None:
        _share("quantile", self.quantile)

    def fit(self, chunks: "torch.Tensor") -> dict[str, Any]:
        """Limits of each joint."""
        from vla.models.codecs.rt2 import Rt2

        return Rt2.fit(chunks, quantile=self.quantile, words=self.words).to_json()

    def build(self, fitted: Mapping[str, Any]) -> "ActionCodec":
        """See `CodecConfig.build`."""
        from vla.models.codecs.rt2 import Rt2

        return Rt2.from_json(fitted)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"codec.{name}={value} must be at least {least}")


def _share(name: str, value: float) -> None:
    if not 0 <= value < 0.5:
        raise ConfigError(f"codec.{name}={value} must be at least 0 and below 0.5")


CODECS: dict[str, type[CodecConfig]] = {
    "bins": BinsConfig,
    "fast": FastConfig,
    "spline": SplineConfig,
    "rvq": RvqConfig,
    "openvla": OpenVlaConfig,
    "rt2": Rt2Config,
}
