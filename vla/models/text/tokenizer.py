"""Instructions to text tokens and back; a sentence that is too long is refused, never cut."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer

from vla.core.errors import ContractError
from vla.models.text.plain import words_of

_ROOM = 32
"""Tokens that an instruction may have at least: "I would like you to … for me, please, if you have time, thank you"."""

_TOLD_APART = 0.9
"""Share of the instructions of a dataset that a tokenizer tells apart at least; accents and the like may be lost."""


class InstructionTokenizer(ABC):
    """Sentences to ids padded to a fixed length; kept as JSON of the Hugging Face ``tokenizers`` format."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: dict[str, int] = tokenizer.get_vocab()

    @abstractmethod
    def ids(self, sentence: str) -> list[int]:
        """The tokens of a sentence, however many."""

    @abstractmethod
    def fillers(self, said: Iterable[str]) -> list[int]:
        """Tokens that mean nothing beside the sentences ``said``: what people say around a command becomes these."""

    def extended(self, sentences: Iterable[str]) -> "InstructionTokenizer":
        """With whatever ``sentences`` need and it lacks; nothing where it spells every word."""
        return self

    def to_json(self) -> str:
        """What `vla.models.text.config.read_tokenizer` reads."""
        return str(self._tokenizer.to_str())

    def digest(self) -> str:
        """Changes when the mapping does."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=6).hexdigest()

    def __len__(self) -> int:
        """Number of text tokens."""
        # The largest id counts: a vocabulary from elsewhere may have holes.
        return max(self._vocabulary.values(), default=-1) + 1

    def pieces(self) -> list[str]:
        """What each id stands for; "" where it stands for nothing."""
        found = [""] * len(self)
        for piece, number in self._vocabulary.items():
            found[number] = piece
        return found

    def room_for(self, sentences: Iterable[str]) -> int:
        """Tokens for the longest of ``sentences`` twice over, and for what people say around a short one."""
        return max(_ROOM, 2 * max((len(self.ids(sentence)) for sentence in sentences), default=0))

    def encode(self, sentences: Sequence[str], length: int) -> tuple[Int64[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
        """Ids padded with 0 to ``length``, and which of them are real; `ContractError` for a longer sentence."""
        ids = np.zeros((len(sentences), length), np.int64)
        valid = np.zeros((len(sentences), length), bool)
        for row, sentence in enumerate(sentences):
            found = self.ids(sentence)
            if len(found) > length:
                raise ContractError(
                    f"the instruction {brief_sentence(sentence)} has {len(found)} tokens, and the policy reads at most "
                    f"{length}; say it in fewer words, or train with model.text_tokens={len(found)} or more"
                )
            if found and not 0 <= min(found) <= max(found) < len(self):
                raise ContractError(
                    f"the tokenizer gives the instruction {brief_sentence(sentence)} the ids {found}, and its "
                    f"vocabulary has those from 0 to {len(self) - 1}: it is damaged, or its kind has a mistake"
                )
            ids[row, : len(found)] = found
            valid[row, : len(found)] = True
        return ids, valid

    def require_tells_apart(self, sentences: Iterable[str]) -> None:
        """`ContractError` where it reads nothing of a sentence, or many of other words alike: it does not fit them."""
        read: dict[tuple[int, ...], str] = {}
        said: dict[tuple[str, ...], str] = {}
        alike = ""
        for sentence in sentences:
            words, ids = tuple(words_of(sentence)), tuple(self.ids(sentence))
            if words and not ids:
                raise ContractError(
                    f"the tokenizer reads nothing of the instruction {brief_sentence(sentence)}: expected a token or "
                    f"more for its {len(words)} words, got none; take one that was made for this language"
                )
            if words not in said and ids in read:
                alike = f"{brief_sentence(read[ids])} and {brief_sentence(sentence)}"
            said.setdefault(words, sentence)
            read.setdefault(ids, sentence)
        if len(read) < _TOLD_APART * len(said):
            raise ContractError(
                f"the tokenizer tells {len(read)} of {len(said)} instructions apart, {alike} are one to it; take one "
                "that was made for this language"
            )

    def decode(self, ids: Sequence[int]) -> str:
        """The sentence that ``ids`` spell: what is read of one that was encoded."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False)).strip()


def brief_sentence(sentence: str) -> str:
    """As errors show it."""
    return repr(sentence if len(sentence) <= 100 else sentence[:97] + "...")
