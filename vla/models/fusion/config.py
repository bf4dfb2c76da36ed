"""Connectors by kind: what brings the patches of a vision tower into a language model. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError

if TYPE_CHECKING:
    from vla.models.fusion.connector import VisionConnector


@dataclass(frozen=True, kw_only=True)
class ConnectorConfig(Kinded):
    """What makes tokens of patches; see `vla.models.fusion.connector.VisionConnector`."""

    what: ClassVar[str] = "kind of connector"
    group: ClassVar[str] = "vla.connectors"

    @classmethod
    def table(cls) -> Mapping[str, type["ConnectorConfig"]]:
        """The kinds of this project."""
        return CONNECTORS

    def build(self, channels: int, width: int) -> "VisionConnector":
        """From patches of ``channels`` to tokens of ``width``."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LinearConfig(ConnectorConfig):
    """One projection (PaliGemma, arXiv 2407.07726; the first LLaVA, arXiv 2304.08485)."""

    kind: str = "linear"

    def build(self, channels: int, width: int) -> "VisionConnector":
        """See `ConnectorConfig.build`."""
        from vla.models.fusion.projections import Linear

        return Linear(channels, width)


@dataclass(frozen=True, kw_only=True)
class MlpConfig(ConnectorConfig):
    """Two layers with GELU between them (LLaVA-1.5, arXiv 2310.03744)."""

    kind: str = "mlp"

    def build(self, channels: int, width: int) -> "VisionConnector":
        """See `ConnectorConfig.build`."""
        from vla.models.fusion.projections import Mlp

        return Mlp(channels, width)


@dataclass(frozen=True, kw_only=True)
class ResamplerConfig(ConnectorConfig):
    """All pictures to a fixed number of tokens, in several layers of attention (Flamingo, arXiv 2204.14198)."""

    kind: str = "resampler"
    latents: int = 64
    """Tokens that it makes, of however many pictures."""
    layers: int = 6
    heads: int = 16
    head_dim: int | None = None
    """Of one head; by default the heads share the channels of the tower."""
    mlp_ratio: int = 4
    activation: Literal["squared_relu", "relu"] = "squared_relu"
    """The paper's is squared; IDEFICS has the plain one."""

    def __post_init__(self) -> None:
        names = ("latents", "layers", "heads", "head_dim", "mlp_ratio")
        require_at_least_one(self, *names, where="model.readers: connector.")

    def build(self, channels: int, width: int) -> "VisionConnector":
        """See `ConnectorConfig.build`."""
        from vla.models.fusion.resampler import Resampler

        if self.head_dim is None:
            require_divides("channels of the tower", channels, self.heads)
        return Resampler(self, channels, width)


@dataclass(frozen=True, kw_only=True)
class CompressorConfig(ConnectorConfig):
    """Each picture to a fixed number of tokens, in one layer that knows places (Qwen-VL, arXiv 2308.12966)."""

    kind: str = "compressor"
    side: int = 16
    """Queries stand in a square of as many rows: 16 are 256 tokens of each picture."""
    heads: int = 32

    def __post_init__(self) -> None:
        require_at_least_one(self, "side", "heads", where="model.readers: connector.")

    def build(self, channels: int, width: int) -> "VisionConnector":
        """See `ConnectorConfig.build`."""
        from vla.models.fusion.compressor import Compressor

        require_divides("width of the language model", width, self.heads)
        if width % 4:
            raise ConfigError(
                f"model.readers: connector: a compressor says places in sines and cosines of two axes, so the width of "
                f"the language model must be a multiple of 4, got {width}"
            )
        return Compressor(self, channels, width)


CONNECTORS: dict[str, type[ConnectorConfig]] = {
    "linear": LinearConfig,
    "mlp": MlpConfig,
    "resampler": ResamplerConfig,
    "compressor": CompressorConfig,
}
PAPERS: dict[str, ConnectorConfig] = {
    "flamingo": ResamplerConfig(head_dim=96),
    "llava-1.5": MlpConfig(),
    "paligemma": LinearConfig(),
    "qwen-vl": CompressorConfig(),
}
"""What the papers build: the towers' 1,536, 1,024, 1,152 and 1,664 channels to 1,536, 4,096, 2,048 and 4,096."""


def require_divides(what: str, many: int, of: int) -> None:
    """`ConfigError` where ``of`` heads cannot share ``many`` channels."""
    if many % of:
        raise ConfigError(
            f"model.readers: connector: the {what} is {many}, and must be a multiple of {of}, its heads; set heads"
        )
