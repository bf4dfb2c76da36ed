"""The settings of the two-tower model. Free of heavy imports, so that help is instant."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError
from vla.models.config import ModelConfig
from vla.models.contrastive.config import InfoNceConfig, LossConfig
from vla.models.contrastive.towers.config import FolderImageConfig, FolderTextConfig, ImageTowerConfig, TextTowerConfig
from vla.models.trunk.interface import Interface

if TYPE_CHECKING:
    from vla.models.contrastive.sides import Pictures, Sentences
    from vla.models.model import Model

_WHERE = "model."


@dataclass(frozen=True, kw_only=True)
class PicturesConfig(Kinded):
    """How a picture becomes a vector; see `vla.models.contrastive.sides.Pictures`."""

    what: ClassVar[str] = "kind of model.pictures"

    @classmethod
    def table(cls) -> Mapping[str, type["PicturesConfig"]]:
        """The kinds of this project."""
        return PICTURES

    def resolved(self) -> "PicturesConfig":
        """See `ModelConfig.resolved`."""
        return self

    def build(self, interface: Interface, out: int) -> "Pictures":
        """With fresh weights, from pictures of any camera to ``out`` numbers."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SentencesConfig(Kinded):
    """How a sentence becomes a vector; see `vla.models.contrastive.sides.Sentences`."""

    what: ClassVar[str] = "kind of model.sentences"

    @classmethod
    def table(cls) -> Mapping[str, type["SentencesConfig"]]:
        """The kinds of this project."""
        return SENTENCES

    @property
    def knows_language(self) -> bool:
        """Whether it has read more than the data says: words that this never said mean something to it too."""
        return False

    def resolved(self) -> "SentencesConfig":
        """See `ModelConfig.resolved`."""
        return self

    def build(self, interface: Interface, longest: int, out: int) -> "Sentences":
        """With fresh weights, from ``longest`` tokens at most to ``out`` numbers."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PictureTowerConfig(PicturesConfig):
    """The own small tower, by what stands where: see `vla.models.contrastive.places.PictureTower`."""

    kind: str = "places"
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

    def build(self, interface: Interface, out: int) -> "Pictures":
        """See `PicturesConfig.build`."""
        from vla.models.contrastive.places import PictureTower

        return PictureTower(self, len(interface.cameras), out)


@dataclass(frozen=True, kw_only=True)
class ProjectedPicturesConfig(PicturesConfig):
    """Any tower of pictures and a projection: see `vla.models.contrastive.projected.ProjectedPictures`."""

    kind: str = "tower"
    tower: ImageTowerConfig = field(default_factory=FolderImageConfig)
    """By default a pretrained one, of the folder that it names."""

    def resolved(self) -> "ProjectedPicturesConfig":
        """See `PicturesConfig.resolved`."""
        return replace(self, tower=self.tower.resolved())

    def build(self, interface: Interface, out: int) -> "Pictures":
        """See `PicturesConfig.build`."""
        from vla.models.contrastive.projected import ProjectedPictures

        return ProjectedPictures(self, len(interface.cameras), out)


@dataclass(frozen=True, kw_only=True)
class SentenceTowerConfig(SentencesConfig):
    """The own small tower, by words in their order: see `vla.models.contrastive.places.SentenceTower`."""

    kind: str = "words"
    width: int = 128
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        require_at_least_one(self, "width", "layers", "heads", where=f"{_WHERE}sentences.")
        _require_multiple(self, "sentences")

    def build(self, interface: Interface, longest: int, out: int) -> "Sentences":
        """See `SentencesConfig.build`."""
        from vla.models.contrastive.places import SentenceTower

        return SentenceTower(self, interface.words, longest, out)


@dataclass(frozen=True, kw_only=True)
class ProjectedSentencesConfig(SentencesConfig):
    """Any tower of sentences and a projection: see `vla.models.contrastive.projected.ProjectedSentences`."""

    kind: str = "tower"
    tower: TextTowerConfig = field(default_factory=FolderTextConfig)
    """By default a pretrained one, of the folder that it names; it wants that folder's tokenizer in
    ``model.tokenizer``."""

    @property
    def knows_language(self) -> bool:
        """See `SentencesConfig.knows_language`."""
        return isinstance(self.tower, FolderTextConfig)

    def resolved(self) -> "ProjectedSentencesConfig":
        """See `SentencesConfig.resolved`."""
        return replace(self, tower=self.tower.resolved())

    def build(self, interface: Interface, longest: int, out: int) -> "Sentences":
        """See `SentencesConfig.build`."""
        from vla.models.contrastive.projected import ProjectedSentences

        return ProjectedSentences(self, interface.words, longest, out)


PICTURES: dict[str, type[PicturesConfig]] = {"places": PictureTowerConfig, "tower": ProjectedPicturesConfig}
SENTENCES: dict[str, type[SentencesConfig]] = {"words": SentenceTowerConfig, "tower": ProjectedSentencesConfig}


@dataclass(frozen=True, kw_only=True)
class TwoTowerConfig(ModelConfig):
    """A tower for pictures, one for sentences, one space for both: see `vla.models.contrastive.two_tower`."""

    kind: str = "two-tower"
    embedding: int = 128
    """Numbers of the vector that stands for a picture or a sentence."""
    pictures: PicturesConfig = field(default_factory=PictureTowerConfig)
    sentences: SentencesConfig = field(default_factory=SentenceTowerConfig)
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

    def resolved(self) -> "TwoTowerConfig":
        """See `ModelConfig.resolved`."""
        tokenizer, pictures = self.tokenizer.resolved(), self.pictures.resolved()
        return replace(self, tokenizer=tokenizer, pictures=pictures, sentences=self.sentences.resolved())

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
