"""Towers by kind: what makes one vector of a picture, or of a sentence. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError
from vla.models.readers.tower_config import TowerConfig

if TYPE_CHECKING:
    from vla.models.contrastive.towers.tower import ImageTower, TextTower
    from vla.models.text.config import TokenizerConfig

K = TypeVar("K", bound=Kinded)
_IMAGE, _TEXT = "image tower: ", "text tower: "


@dataclass(frozen=True, kw_only=True)
class ImageTowerConfig(Kinded):
    """A vector of a picture; see `vla.models.contrastive.towers.tower.ImageTower`."""

    what: ClassVar[str] = "kind of image tower"
    group: ClassVar[str] = "vla.image_towers"

    @classmethod
    def table(cls) -> Mapping[str, type["ImageTowerConfig"]]:
        """The kinds of this project."""
        return IMAGE_TOWERS

    def resolved(self) -> "ImageTowerConfig":
        """The same with all that a folder says of it, and paths that hold in any folder."""
        return self

    def read_as(self, image: int | None, *, cells: bool) -> "ImageTowerConfig":
        """The same weights for pictures stretched to another side, in pixels, or with a vector of each cell."""
        if image is None and not cells:
            return self
        raise ConfigError(
            f"{_IMAGE}image={image}, cells={cells}: one of kind {self.kind} reads the size that it was made for alone, "
            "as a whole; leave both out"
        )

    def build(self) -> "ImageTower":
        """The tower with fresh weights."""
        raise NotImplementedError

    def begin(self, tower: "ImageTower") -> None:
        """Fill what `build` gave with what was made elsewhere, for a run that begins; by default there is nothing."""


@dataclass(frozen=True, kw_only=True)
class VitConfig(ImageTowerConfig):
    """A vision transformer, and how its tokens become one vector."""

    kind: str = "vit"
    tower: TowerConfig
    pool: Literal["whole", "attention", "mean"] = "mean"
    """The token of the whole picture behind a norm (CLIP), a query that looks at patches (SigLIP), or their mean."""

    def __post_init__(self) -> None:
        if self.pool == "whole" and not self.tower.whole:
            raise ConfigError(f"{_IMAGE}pool=whole asks for a token of the whole picture: tower.whole=true")

    def build(self) -> "ImageTower":
        """See `ImageTowerConfig.build`."""
        from vla.models.contrastive.towers.vit import VitTower

        return VitTower(self)


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig(ImageTowerConfig):
    """Convolutions that look at each channel by itself; see `vla.models.contrastive.towers.efficientnet`."""

    kind: str = "efficientnet"
    widths: float = 1.0
    """Channels, by those of B0."""
    depths: float = 1.0
    """Blocks of a stage, by those of B0."""
    squeeze: float = 0.25
    """Channels that say how much each counts, by those that a block reads; 0 leaves them out."""
    activation: Literal["swish", "relu6"] = "swish"
    head: int = 0
    """Channels of a last convolution; 0 leaves it out, as ALIGN does."""
    image: int = 224
    """Side to which pictures are stretched, in pixels."""
    cells: bool = False
    """The vectors of all cells side by side, each 32 pixels wide, instead of their mean: what is where."""
    norm_eps: float = 1e-3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Of each colour of the pictures that it was trained on, from 0 to 1."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        require_at_least_one(self, "image", where=_IMAGE)
        if min(self.widths, self.depths) <= 0 or min(self.squeeze, self.head) < 0:
            raise ConfigError(
                f"{_IMAGE}widths={self.widths} and depths={self.depths} must be positive, squeeze={self.squeeze} and "
                f"head={self.head} at least 0"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(f"{_IMAGE}mean={self.mean}, std={self.std}: expected three numbers each, std positive")

    def read_as(self, image: int | None, *, cells: bool) -> "EfficientNetConfig":
        """See `ImageTowerConfig.read_as`: convolutions read any size."""
        return replace(self, image=self.image if image is None else image, cells=cells or self.cells)

    def build(self) -> "ImageTower":
        """See `ImageTowerConfig.build`."""
        from vla.models.contrastive.towers.efficientnet import EfficientNet

        return EfficientNet(self)


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig(Kinded):
    """A vector of a sentence; see `vla.models.contrastive.towers.tower.TextTower`."""

    what: ClassVar[str] = "kind of text tower"
    group: ClassVar[str] = "vla.text_towers"

    @classmethod
    def table(cls) -> Mapping[str, type["TextTowerConfig"]]:
        """The kinds of this project."""
        return TEXT_TOWERS

    def resolved(self) -> "TextTowerConfig":
        """As `ImageTowerConfig.resolved`."""
        return self

    def require_reads(self, tokenizer: "TokenizerConfig") -> None:
        """`ConfigError` where tokens of another tokenizer mean nothing to it; by default all may be learned."""

    def build(self) -> "TextTower":
        """The tower with fresh weights."""
        raise NotImplementedError

    def begin(self, tower: "TextTower") -> None:
        """As `ImageTowerConfig.begin`."""


@dataclass(frozen=True, kw_only=True)
class TransformerTowerConfig(TextTowerConfig):
    """A transformer encoder: CLIP's, SigLIP's and BERT's, by what sets them apart."""

    kind: str = "transformer"
    words: int
    """Ids that there are."""
    length: int
    """Most tokens of a sentence, `marks` among them."""
    width: int
    layers: int
    heads: int
    hidden: int
    """Units of the MLP."""
    activation: Literal["gelu", "gelu_tanh", "quick_gelu"] = "gelu"
    norm_eps: float = 1e-5
    norm: Literal["before", "after"] = "before"
    """Norms before attention and MLP, and one at the end, or behind each and behind the table (BERT)."""
    causal: bool = False
    """Each token sees those before it (CLIP)."""
    padding: int | None = None
    """The id of padding that is read like words, up to `length` (SigLIP); by default none is."""
    types: int = 0
    """Kinds of sentences with a vector each, of which the first is added (BERT); 0 has none."""
    pool: Literal["end", "last", "first", "mean"] = "end"
    """The last word, the last token with padding (SigLIP), the first token (BERT), or the mean of the words."""
    marks: tuple[int, ...] = ()
    """Ids set before and behind each sentence, which tokenizers leave out here: none or two."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "words", "length", "width", "layers", "heads", "hidden", where=_TEXT)
        if self.width % self.heads:
            raise ConfigError(f"{_TEXT}width={self.width} must be a multiple of heads={self.heads}")
        if len(self.marks) not in (0, 2) or not all(0 <= mark < self.words for mark in self.marks):
            raise ConfigError(f"{_TEXT}marks={self.marks}: expected none, or two ids below words={self.words}")
        if (self.pool == "last") != (self.padding is not None):
            raise ConfigError(f"{_TEXT}pool=last and an id of padding go together: the last token mostly is padding")

    def build(self) -> "TextTower":
        """See `TextTowerConfig.build`."""
        from vla.models.contrastive.towers.transformer import TransformerTower

        return TransformerTower(self)


@dataclass(frozen=True, kw_only=True)
class FolderImageConfig(ImageTowerConfig):
    """A pretrained tower of pictures that ``vla tower`` wrote: a run begins with its weights."""

    kind: str = "folder"
    folder: str = ""
    """That it wrote; a checkpoint holds the weights, and what the tower is, so it needs no folder."""
    image: int | None = None
    """Side to which pictures are stretched, in pixels; by default that of its own training. Fewer are quicker."""
    cells: bool = False
    """As of ``efficientnet``: what is where, which a mean forgets."""
    tower: ImageTowerConfig | None = None
    """What it is; by default what the folder says."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "image", where=_IMAGE)

    def resolved(self) -> "FolderImageConfig":
        """See `ImageTowerConfig.resolved`."""
        return replace(self, folder=_absolute(self.folder), tower=self.whole)

    @property
    def whole(self) -> ImageTowerConfig:
        """What the tower is."""
        return _said(self.folder, ImageTowerConfig) if self.tower is None else self.tower

    def build(self) -> "ImageTower":
        """See `ImageTowerConfig.build`."""
        return self.whole.read_as(self.image, cells=self.cells).build()

    def begin(self, tower: "ImageTower") -> None:
        """See `ImageTowerConfig.begin`."""
        _begin(tower, self.folder, self.whole)


@dataclass(frozen=True, kw_only=True)
class FolderTextConfig(TextTowerConfig):
    """A pretrained tower of sentences that ``vla tower`` wrote, for the tokenizer that lies beside it."""

    kind: str = "folder"
    folder: str = ""
    """As of pictures; the recipe's tokenizer is ``{kind: pretrained, path: FOLDER}``."""
    tower: TextTowerConfig | None = None
    """What it is; by default what the folder says."""

    def resolved(self) -> "FolderTextConfig":
        """See `TextTowerConfig.resolved`."""
        return replace(self, folder=_absolute(self.folder), tower=self.whole)

    @property
    def whole(self) -> TextTowerConfig:
        """What the tower is."""
        return _said(self.folder, TextTowerConfig) if self.tower is None else self.tower

    def require_reads(self, tokenizer: "TokenizerConfig") -> None:
        """See `TextTowerConfig.require_reads`: it knows the tokens of its own tokenizer alone."""
        from vla.models.contrastive.towers.folder import require_own_tokenizer

        if self.folder:
            require_own_tokenizer(Path(self.folder), tokenizer)

    def build(self) -> "TextTower":
        """See `TextTowerConfig.build`."""
        return self.whole.build()

    def begin(self, tower: "TextTower") -> None:
        """See `TextTowerConfig.begin`."""
        _begin(tower, self.folder, self.whole)


IMAGE_TOWERS: dict[str, type[ImageTowerConfig]] = {
    "vit": VitConfig,
    "efficientnet": EfficientNetConfig,
    "folder": FolderImageConfig,
}
TEXT_TOWERS: dict[str, type[TextTowerConfig]] = {"transformer": TransformerTowerConfig, "folder": FolderTextConfig}


def _said(folder: str, cls: type[K]) -> K:
    from vla.models.contrastive.towers.folder import read_tower_config

    if not folder:
        raise ConfigError(f"{cls.what} folder: name the folder that vla tower wrote, as folder")
    return read_tower_config(Path(folder), cls)


def _absolute(folder: str) -> str:
    return folder and str(Path(folder).resolve())


def _begin(tower: "ImageTower | TextTower", folder: str, config: Kinded) -> None:
    from vla.models.contrastive.towers.folder import begin_tower

    if folder:
        begin_tower(tower, config, Path(folder))
