"""The settings of the two-tower model. Free of heavy imports, so that help is instant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vla.core.config import require_at_least_one
from vla.core.errors import ConfigError
from vla.models.config import ModelConfig
from vla.models.contrastive.config import InfoNceConfig, LossConfig
from vla.models.trunk.interface import Interface

if TYPE_CHECKING:
    from vla.models.model import Model

_WHERE = "model."


@dataclass(frozen=True, kw_only=True)
class PictureTowerConfig:
    """From a picture to a vector: see `vla.models.contrastive.places.PictureTower`."""

    width: int = 128
    channels: int = 48
    """Of the convolutions."""
    tokens: int = 16
    """Places that are looked at."""
    layers: int = 2
    """In which what was found there sees each other."""
    heads: int = 4

    def __post_init__(self) -> None:
        require_at_least_one(self, "width", "channels", "tokens", "layers", "heads", where=f"{_WHERE}pictures.")
        _require_multiple(self, "pictures")


@dataclass(frozen=True, kw_only=True)
class SentenceTowerConfig:
    """From a sentence to a vector: see `vla.models.contrastive.places.SentenceTower`."""

    width: int = 128
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        require_at_least_one(self, "width", "layers", "heads", where=f"{_WHERE}sentences.")
        _require_multiple(self, "sentences")


@dataclass(frozen=True, kw_only=True)
class TwoTowerConfig(ModelConfig):
    """A tower for pictures, one for sentences, one space for both: see `vla.models.contrastive.two_tower`."""

    kind: str = "two-tower"
    embedding: int = 128
    """Numbers of the vector that stands for a picture or a sentence."""
    pictures: PictureTowerConfig = field(default_factory=PictureTowerConfig)
    sentences: SentenceTowerConfig = field(default_factory=SentenceTowerConfig)
    camera: int = 0
    """The slot of the camera whose pictures belong to sentences; acting sees all of them."""
    loss: LossConfig = field(default_factory=InfoNceConfig)
    """Which pictures and sentences belong together."""
    contrast: float = 0.2
    """Its weight; 0 leaves all that only it teaches out."""
    alike: bool = True
    """Whether pictures of one sentence all belong to it; without, only those of its own row do."""
    captions: bool = True
    """Whether moments that the data describes are paired with that sentence, and not with what is to be done."""
    action: float = 1.0
    """Weight of the error of actions; 0 builds nothing that acts: then the model embeds, and is no policy."""
    hidden: int = 384
    """Width of the network that acts."""
    layers: int = 3
    """Of that network."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_one(self, "embedding", "hidden", "layers", where=_WHERE)
        if min(self.contrast, self.action) < 0 or not self.contrast + self.action:
            raise ConfigError(
                f"model.contrast={self.contrast}, model.action={self.action}: expected at least 0, and one of them more"
            )

    @property
    def acts(self) -> bool:
        """See `ModelConfig.acts`."""
        return self.action > 0

    @property
    def written(self) -> frozenset[str]:
        """Nothing is written, but answers are read: those of captions."""
        return frozenset({"answer"} if self.captions and self.contrast else ())

    def build(self, interface: Interface, fitted: Mapping[str, Any]) -> "Model":
        """See `ModelConfig.build`."""
        from vla.models.contrastive.two_tower import TwoTower

        if not 0 <= self.camera < len(interface.cameras):
            raise ConfigError(
                f"model.camera={self.camera}: expected 0 to {len(interface.cameras) - 1}, the cameras are "
                f"{', '.join(interface.cameras)}"
            )
        return TwoTower(self, interface)


def _require_multiple(config: PictureTowerConfig | SentenceTowerConfig, name: str) -> None:
    if config.width % config.heads:
        raise ConfigError(f"{_WHERE}{name}.width={config.width} must be a multiple of heads={config.heads}")
