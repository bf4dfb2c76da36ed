"""Tokenizers of instructions by kind: what a recipe says under ``model.tokenizer``. Free of heavy imports."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vla.core.config import Kinded
from vla.core.errors import CheckpointError, ConfigError
from vla.core.sealed import brief

if TYPE_CHECKING:
    from vla.models.text.tokenizer import InstructionTokenizer

_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Kinded):
    """Sentences ↔ text tokens; see `vla.models.text.tokenizer.InstructionTokenizer`."""

    what: ClassVar[str] = "kind of tokenizer"
    group: ClassVar[str] = "vla.tokenizers"

    @classmethod
    def table(cls) -> Mapping[str, type["TokenizerConfig"]]:
        """The kinds of this project."""
        return TOKENIZERS

    def resolved(self) -> "TokenizerConfig":
        """The same with paths that hold in any folder."""
        return self

    def fit(self, sentences: Iterable[str]) -> "InstructionTokenizer":
        """The tokenizer for the instructions of a dataset."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WordsConfig(TokenizerConfig):
    """A token for each word of the data, and one for all others."""

    kind: str = "words"

    def fit(self, sentences: Iterable[str]) -> "InstructionTokenizer":
        """See `TokenizerConfig.fit`."""
        from vla.models.text.words import WordTokenizer

        return WordTokenizer.fit(sentences)


@dataclass(frozen=True, kw_only=True)
class BpeConfig(TokenizerConfig):
    """Byte-level byte-pair encoding, trained on the data's instructions: nothing is unknown."""

    kind: str = "bpe"
    vocabulary: int = 1024
    """Most pieces; 256 of them are bytes."""

    def __post_init__(self) -> None:
        if self.vocabulary < _BYTES:
            raise ConfigError(f"model.tokenizer.vocabulary={self.vocabulary} must be at least {_BYTES}, one a byte")

    def fit(self, sentences: Iterable[str]) -> "InstructionTokenizer":
        """See `TokenizerConfig.fit`."""
        from vla.models.text.pieces import PieceTokenizer

        return PieceTokenizer.fit(sentences, self.vocabulary)


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(TokenizerConfig):
    """A tokenizer from elsewhere, from a local path: a copy travels with the checkpoint."""

    kind: str = "pretrained"
    path: str = ""
    """A folder that ``save_pretrained`` or ``vla tower`` wrote, or a ``tokenizer.json``."""

    def resolved(self) -> "PretrainedConfig":
        """See `TokenizerConfig.resolved`."""
        return replace(self, path=self.path and str(Path(self.path).expanduser().resolve()))

    def fit(self, sentences: Iterable[str]) -> "InstructionTokenizer":
        """See `TokenizerConfig.fit`."""
        from vla.models.text.pieces import PieceTokenizer

        if not self.path:
            raise ConfigError("model.tokenizer.path is empty; give the folder of a tokenizer, or its tokenizer.json")
        return PieceTokenizer.pretrained(Path(self.path).expanduser())


TOKENIZERS: dict[str, type[TokenizerConfig]] = {
    "words": WordsConfig,
    "bpe": BpeConfig,
    "pretrained": PretrainedConfig,
}


def read_tokenizer(text: str) -> "InstructionTokenizer":
    """Read what `InstructionTokenizer.to_json` wrote; a `CheckpointError` where it is damaged."""
    from tokenizers import Tokenizer

    from vla.models.text.pieces import PieceTokenizer
    from vla.models.text.words import UNKNOWN, WordTokenizer

    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the Rust side raises a bare Exception
        raise CheckpointError(f"the instruction tokenizer is damaged: {brief(str(error))}") from None
    # By what it is, not by the kind that made it: one of version 1 has no kind.
    return (WordTokenizer if UNKNOWN in tokenizer.get_vocab() else PieceTokenizer)(tokenizer)
