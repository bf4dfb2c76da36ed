"""Writers by kind: what a model writes beside actions. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError
from vla.models.trunk.interface import Interface

if TYPE_CHECKING:
    from vla.models.writers.writer import Writer


@dataclass(frozen=True, kw_only=True)
class WriterConfig(Kinded):
    """What writes something else than actions; see `vla.models.writers.writer.Writer`."""

    what: ClassVar[str] = "kind of writer"
    group: ClassVar[str] = "vla.writers"
    target: ClassVar[str] = ""
    """What it learns from, by its name in `vla.models.trunk.inputs.Targets`."""

    weight: float = 1.0
    """Of its loss."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(f"model.writers: weight={self.weight} must be positive; leave the writer out instead")

    @classmethod
    def table(cls) -> Mapping[str, type["WriterConfig"]]:
        """The kinds of this project."""
        return WRITERS

    def resolved(self) -> "WriterConfig":
        """The same with paths that hold in any folder."""
        return self

    def fit(self) -> dict[str, Any]:
        """What it is built from besides its settings, as JSON: it travels in the contract. By default nothing."""
        return {}

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Writer":
        """The writer behind a trunk of ``width``; ``fitted`` is what `fit` gave."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TextWriterConfig(WriterConfig):
    """The answer to a question, word after word."""

    kind: str = "text"
    target: ClassVar[str] = "answer"

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Writer":
        """See `WriterConfig.build`."""
        from vla.models.writers.text import TextWriter

        if not interface.answer:
            raise ConfigError(
                "model.writers: kind text learns to answer questions, and the data asks none; collect some with "
                "vla collect --questions 4"
            )
        return TextWriter(self, interface, width)


@dataclass(frozen=True, kw_only=True)
class PictureWriterConfig(WriterConfig):
    """What a camera will see when it is done, as codes of an image codec, in a few rounds of filling the surest."""

    kind: str = "picture"
    target: ClassVar[str] = "goal"
    path: str = ""
    """The folder of the codec that ``vla codes fit`` made; a model that has learned carries it with it."""
    camera: int = 0
    """The slot of the camera."""
    rounds: int = 4
    """Passes in which the codes of a picture are filled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_one(self, "rounds", where="model.writers.picture.")

    def resolved(self) -> "PictureWriterConfig":
        """See `WriterConfig.resolved`."""
        return replace(self, path=self.path and str(Path(self.path).resolve()))

    def fit(self) -> dict[str, Any]:
        """The codec's settings, the size of its pictures, and the digest of its weights."""
        from vla.models.pictures.folder import codec_settings

        return codec_settings(self.path, where="model.writers.picture")

    def build(self, interface: Interface, width: int, fitted: Mapping[str, Any]) -> "Writer":
        """See `WriterConfig.build`."""
        from vla.models.pictures.folder import fitted_codec
        from vla.models.writers.picture import PictureWriter

        if not 0 <= self.camera < len(interface.cameras):
            raise ConfigError(
                f"model.writers.picture.camera={self.camera}: expected 0 to {len(interface.cameras) - 1}, the cameras "
                f"are {', '.join(interface.cameras)}"
            )
        return PictureWriter(self, width, fitted_codec(fitted))


WRITERS: dict[str, type[WriterConfig]] = {"text": TextWriterConfig, "picture": PictureWriterConfig}
