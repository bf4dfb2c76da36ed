"""Readers by kind: what turns inputs into tokens. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError
from vla.models.fusion.config import ConnectorConfig, LinearConfig
from vla.models.readers.tower_config import TowerConfig
from vla.models.trunk.interface import Interface

if TYPE_CHECKING:
    from vla.models.readers.reader import Reader


@dataclass(frozen=True, kw_only=True)
class ReaderConfig(Kinded):
    """What turns a part of the inputs into tokens; see `vla.models.readers.reader.Reader`."""

    what: ClassVar[str] = "kind of reader"
    group: ClassVar[str] = "vla.readers"

    @classmethod
    def table(cls) -> Mapping[str, type["ReaderConfig"]]:
        """The kinds of this project."""
        return READERS

    @property
    def asked(self) -> tuple[str, ...]:
        """The readers whose segments it asks for."""
        return ()

    @property
    def listens(self) -> bool:
        """Whether it reads spoken instructions."""
        return False

    @property
    def lays_aside(self) -> bool:
        """Whether its tokens stand beside the sequence."""
        return False

    def resolved(self) -> "ReaderConfig":
        """The same with paths that hold in any folder."""
        return self

    def fit(self) -> dict[str, Any]:
        """What it is built from besides its settings, as JSON: it travels in the contract. By default nothing."""
        return {}

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """The reader, which gives tokens of ``width``; ``fitted`` is what `fit` gave."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TextConfig(ReaderConfig):
    """The instruction, read by a small transformer of its own."""

    kind: str = "text"
    layers: int = 1
    """Of that transformer; 0 leaves the tokens as the table has them, as a language model reads them."""
    heads: int = 4
    behind: tuple[str, ...] = ()
    """Readers whose tokens stand before it, such as pictures that the text is about; by default it comes first."""

    @property
    def asked(self) -> tuple[str, ...]:
        """See `ReaderConfig.asked`."""
        return self.behind

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """See `ReaderConfig.build`."""
        from vla.models.readers.text import TextReader

        return TextReader(self, interface, width)


@dataclass(frozen=True, kw_only=True)
class SoundConfig(ReaderConfig):
    """The instruction said aloud: convolutions over its spectrogram, and a small transformer of its own."""

    kind: str = "sound"
    channels: int = 64
    """Of the first convolution; the last has those of the model."""
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        require_at_least_one(self, "channels", "layers", "heads", where="model.readers.sound.")

    @property
    def listens(self) -> bool:
        """See `ReaderConfig.listens`."""
        return True

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """See `ReaderConfig.build`."""
        from vla.models.readers.sound import SoundReader

        return SoundReader(self, interface, width)


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(ReaderConfig):
    """Images in the light of the instruction: convolutions, then pooling to a few tokens for each camera."""

    kind: str = "images"
    channels: int = 32
    tokens: int = 8
    """Tokens of one image."""
    shared: bool = False
    """One encoder for all cameras, told which it looks through; otherwise each camera has its own."""
    coordinates: bool = False
    """The features of a cell say where it is, so that maps can seek by place."""
    looks: int = 1
    """Times that each image is looked at; each further look asks for what the words and the look before tell."""
    likeness: bool = False
    """A further look may seek what looks like, or unlike, what the look before found in any camera that shares its
    encoder."""
    heads: int = 4
    """Of the transformer layer between two looks."""
    asks: tuple[str, ...] = ("text",)
    """The readers that say what to look for: ``[text, sound]`` where instructions are spoken too."""

    def __post_init__(self) -> None:
        if not self.asks:
            raise ConfigError("model.readers.images.asks is empty: which readers say what to look for? as in [text]")
        require_at_least_one(self, "channels", "tokens", "looks", "heads", where="model.readers.images.")
        if self.likeness and self.looks < 2:
            raise ConfigError(
                "model.readers.images.likeness compares with an earlier look, and looks=1 has none: looks=2 or more"
            )

    @property
    def asked(self) -> tuple[str, ...]:
        """See `ReaderConfig.asked`."""
        return self.asks

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """See `ReaderConfig.build`."""
        from vla.models.readers.images import ImagesReader

        return ImagesReader(self, interface, width)


@dataclass(frozen=True, kw_only=True)
class StateConfig(ReaderConfig):
    """Proprioception, one token for each observation."""

    kind: str = "state"
    dropout: float = 0.3
    """Share of samples that are trained without it, so that objects are found by looking."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout <= 1:
            raise ConfigError(f"model.readers.state.dropout={self.dropout} must be between 0 and 1")

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """See `ReaderConfig.build`."""
        from vla.models.readers.state import StateReader

        return StateReader(self, interface, width)


@dataclass(frozen=True, kw_only=True)
class PatchesConfig(ReaderConfig):
    """Raw patches of the cameras' pictures, one projection for all (arXiv 2010.11929); instead of ``images``."""

    kind: str = "patches"
    size: int = 16
    """Side of a patch in pixels; it divides the sides of the pictures."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "size", where="model.readers.patches.")

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """See `ReaderConfig.build`."""
        from vla.models.readers.patches import PatchesReader

        return PatchesReader(self, interface, width)


@dataclass(frozen=True, kw_only=True)
class StateBinsConfig(ReaderConfig):
    """Proprioception as ids of the vocabulary, a token for each dimension (arXiv 2205.06175); instead of ``state``."""

    kind: str = "state-bins"
    bins: int = 256
    """Ids of each dimension."""
    reach: float = 1.5
    """Scaled values beyond this, on either side, are read as the outermost bin; 98 % of the data's are within 1."""
    dropout: float = 0.3
    """As of ``state``."""

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ConfigError(f"model.readers.state-bins.bins={self.bins} must be at least 2")
        if not self.reach > 0:
            raise ConfigError(f"model.readers.state-bins.reach={self.reach} must be positive")
        if not 0 <= self.dropout <= 1:
            raise ConfigError(f"model.readers.state-bins.dropout={self.dropout} must be between 0 and 1")

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """See `ReaderConfig.build`."""
        from vla.models.readers.state_bins import StateBinsReader

        return StateBinsReader(self, interface, width)


@dataclass(frozen=True, kw_only=True)
class HfTowerConfig(ReaderConfig):
    """A pretrained vision tower of Hugging Face: SigLIP, SigLIP 2, DINOv2 or CLIP; instead of ``images``."""

    kind: str = "hf-tower"
    folder: str = ""
    """Of the model, as ``save_pretrained`` writes it: its weights are what a run begins with. Nothing is downloaded."""
    tower: TowerConfig | None = None
    """What it is; by default what the folder says."""

    def __post_init__(self) -> None:
        if self.tower is not None:
            return
        if not self.folder:
            raise ConfigError("model.readers.hf-tower: name the folder of a vision model, as folder")
        from vla.models.readers.tower_grafting import read_tower_config

        object.__setattr__(self, "tower", read_tower_config(Path(self.folder)))

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """See `ReaderConfig.build`."""
        from vla.models.readers.hf_tower import HfTowerReader

        return HfTowerReader(self, interface, width)


@dataclass(frozen=True, kw_only=True)
class CodesConfig(ReaderConfig):
    """The cameras' pictures as ids of the vocabulary, by a codec that ``vla codes fit`` made; instead of ``images``."""

    kind: str = "codes"
    path: str = ""
    """The folder of the codec; a model that has learned carries the codec with it and needs the folder no more."""

    def resolved(self) -> "CodesConfig":
        """See `ReaderConfig.resolved`."""
        return replace(self, path=self.path and str(Path(self.path).resolve()))

    def fit(self) -> dict[str, Any]:
        """The codec's settings, the size of its pictures, and the digest of its weights."""
        from vla.models.pictures.folder import codec_settings

        return codec_settings(self.path, where="model.readers.codes")

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """See `ReaderConfig.build`."""
        from vla.models.pictures.folder import fitted_codec
        from vla.models.readers.codes import CodesReader

        return CodesReader(self, interface, width, fitted_codec(fitted))


@dataclass(frozen=True, kw_only=True)
class ConnectedConfig(ReaderConfig):
    """Pictures through a vision tower and a connector into the width of a language model; instead of ``images``."""

    kind: str = "connected"
    tower: TowerConfig | None = None
    """A vision transformer; by default what the folder says."""
    folder: str = ""
    """Of a pretrained tower, as of ``hf-tower``; without one a tower begins untrained, or as ``--init`` has it."""
    left_out: int = 0
    """Last blocks of the tower that are left out, and with them the norm behind the last: LLaVA reads its layer -2."""
    connector: ConnectorConfig = field(default_factory=LinearConfig)
    """What makes tokens of patches."""
    aside: bool = False
    """Its tokens do not stand in the sequence: those behind it look at them by cross-attention (model.cross_every)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tower", HfTowerConfig(folder=self.folder, tower=self.tower).tower)
        assert self.tower is not None
        if not 0 <= self.left_out < self.tower.layers:
            raise ConfigError(f"model.readers: left_out={self.left_out}: the tower has {self.tower.layers} layers")

    @property
    def lays_aside(self) -> bool:
        """See `ReaderConfig.lays_aside`."""
        return self.aside

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Reader":
        """See `ReaderConfig.build`."""
        from vla.models.readers.connected import ConnectedReader

        return ConnectedReader(self, interface, width)


READERS: dict[str, type[ReaderConfig]] = {
    "text": TextConfig,
    "images": ImagesConfig,
    "patches": PatchesConfig,
    "state": StateConfig,
    "state-bins": StateBinsConfig,
    "hf-tower": HfTowerConfig,
    "codes": CodesConfig,
    "sound": SoundConfig,
    "connected": ConnectedConfig,
}
