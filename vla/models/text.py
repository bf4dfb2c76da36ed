"""Instructions to text tokens: one for each word of the dataset, and one for every word that it never said.

A sentence is made plain (`plain`), taken apart into words without its punctuation, and each word is looked up. One that
is not known and is a single slip of the hand away from exactly one that is, is read as that; any other is `UNKNOWN`:
what was never said in training means nothing to a policy, and it is trained to look past it. Scripts without spaces go
character by character, numbers digit by digit. A sentence that is too long is refused, never cut.
"""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int64
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from vla.core.errors import CheckpointError, ContractError

UNKNOWN = "<unknown>"

_ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTERS = rf"[[\p{{L}}\p{{M}}]&&[^{_ALONE}]]+"
_PIECES = "|".join(
    (
        rf"[{_ALONE}]",
        rf"{_LETTERS}(?:'{_LETTERS})*",
        r"\p{N}",
        r"(?<=\p{N})[.,:](?=\p{N})",  # 1.5 is not 15
        r"(?<![\p{L}\p{N}])-(?=\p{N})",  # nor is -5 the same as 5
        r"[^\s\p{P}]",
    )
)
"""What a word is; the punctuation between words is none."""
_TYPED = str.maketrans({**dict.fromkeys("‘’‛ʼ`´", "'"), **dict.fromkeys("‐‑‒–—―−", "-")})
"""Signs that have several characters, as a keyboard has them."""
_ROOM = 32
"""Tokens that an instruction may have at least: "I would like you to … for me, please, if you have time, thank you"."""
_CORRECTED = 4
"""Letters of the longer of two words from which on one may be a slip for the other: *rod* is not *red*."""


def plain(sentence: str) -> str:
    """The sentence as it is read: without case, invisible characters, and other spaces than single ones.

    Characters that look alike are one (NFKC): full-width letters, ligatures, accents in one piece or in two.
    """
    visible = "".join(_SPACES.get(unicodedata.category(c), c) for c in sentence if not "\ufe00" <= c <= "\ufe0f")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", visible.translate(_TYPED)).casefold())
    again = unicodedata.normalize("NFKC", folded.casefold())  # Unicode's toNFKC_Casefold
    return " ".join(again.translate(_TYPED).split())


_SPACES = {**dict.fromkeys(("Zs", "Zl", "Zp", "Cc", "Cs"), " "), "Cf": ""}
"""How characters of these categories are read: spaces, control characters, halves of pairs; format characters."""


class InstructionTokenizer:
    """Sentences to ids padded to a fixed length."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._alike: dict[tuple[str, int], list[str]] = defaultdict(list)
        for word in self._vocabulary:
            self._alike[word[:1], len(word)].append(word)

    @staticmethod
    def train(sentences: Iterable[str]) -> "InstructionTokenizer":
        """One token for each word of ``sentences``, and `UNKNOWN`."""
        tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True)
        found = {word for sentence in set(sentences) for word in _pieces(tokenizer, sentence)}
        words = {word: number for number, word in enumerate(sorted(found), start=1)}
        tokenizer.model = models.WordLevel({UNKNOWN: 0, **words}, unk_token=UNKNOWN)
        return InstructionTokenizer(tokenizer)

    def extended(self, sentences: Iterable[str]) -> "InstructionTokenizer":
        """With a token for each word of ``sentences`` that has none, behind the others; one of version 1 as it is."""
        if self.unknown is None:
            return self
        found = {word for sentence in set(sentences) for word in _pieces(self._tokenizer, sentence)}
        new = sorted(found - self._vocabulary.keys())
        words = self._vocabulary | {word: number for number, word in enumerate(new, start=len(self))}
        tokenizer = Tokenizer.from_str(self.to_json())
        tokenizer.model = models.WordLevel(words, unk_token=UNKNOWN)
        return InstructionTokenizer(tokenizer)

    @staticmethod
    def from_json(text: str) -> "InstructionTokenizer":
        """Read what `to_json` wrote, or any tokenizer of that format: those of version 1 spell words that are new."""
        try:
            return InstructionTokenizer(Tokenizer.from_str(text))
        except Exception as error:  # the Rust side raises a bare Exception
            raise CheckpointError(f"the instruction tokenizer is damaged: {error}") from None

    def to_json(self) -> str:
        """The Hugging Face ``tokenizers`` format."""
        return str(self._tokenizer.to_str())

    def digest(self) -> str:
        """Changes when the mapping does."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=6).hexdigest()

    def __len__(self) -> int:
        """Number of text tokens."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def unknown(self) -> int | None:
        """The id of every word that is not known; None where such words are spelled."""
        return self._vocabulary.get(UNKNOWN)

    def pieces(self) -> list[str]:
        """What each id stands for."""
        return sorted(self._vocabulary, key=self._vocabulary.__getitem__)

    def words(self) -> list[str]:
        """The words that it knows; of one of version 1, its longest pieces that begin no other."""
        if self.unknown is not None:
            return sorted(self._vocabulary.keys() - {UNKNOWN})
        pieces = {piece[1:] for piece in self._vocabulary if piece.startswith("Ġ") and len(piece) > 1}
        return sorted(p for p in pieces if not any(other != p and other.startswith(p) for other in pieces))

    def ids(self, sentence: str) -> list[int]:
        """The tokens of a sentence, however many."""
        if self.unknown is None:
            return list(self._tokenizer.encode(plain(sentence)).ids)
        return [self._vocabulary[self._known(piece)] for piece in _pieces(self._tokenizer, sentence)]

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
                    f"the instruction {_brief(sentence)} has {len(found)} tokens, and the policy reads at most "
                    f"{length}; say it in fewer words, or train with model.text_tokens={len(found)} or more"
                )
            ids[row, : len(found)] = found
            valid[row, : len(found)] = True
        return ids, valid

    def decode(self, ids: Sequence[int]) -> str:
        """The sentence that ``ids`` spell: what is read of one that was encoded."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False)).strip()

    def _known(self, word: str) -> str:
        """The word, the only known one that it may be a slip for, or `UNKNOWN`."""
        if word in self._vocabulary:
            return word
        lengths = (len(word) - 1, len(word), len(word) + 1)
        near = [known for length in lengths for known in self._alike.get((word[0], length), ())]
        meant = [known for known in near if max(len(word), len(known)) >= _CORRECTED and _is_slip(word, known)]
        return meant[0] if len(meant) == 1 and word.isalpha() else UNKNOWN


def _pieces(tokenizer: Tokenizer, sentence: str) -> list[str]:
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(plain(sentence))]


def _is_slip(word: str, known: str) -> bool:
    """Whether one letter was missed, added or mistaken, or two neighbours have changed places."""
    same = next((i for i, (a, b) in enumerate(zip(word, known, strict=False)) if a != b), min(len(word), len(known)))
    a, b = word[same:], known[same:]
    swapped = len(a) > 1 and a[0] + a[1] == b[1:2] + b[0:1] and a[2:] == b[2:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or swapped


def _brief(sentence: str) -> str:
    return repr(sentence if len(sentence) <= 100 else sentence[:97] + "...")
