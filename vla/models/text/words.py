"""One token for each word of the dataset, and one for every word that it never said.

A word that is not known and is a single slip of the hand away from exactly one that is, is read as that; any other is
`UNKNOWN`: what was never said in training means nothing to a policy, and it is trained to look past it.
"""

from collections import defaultdict
from collections.abc import Iterable

from tokenizers import Tokenizer, models

from vla.models.text.plain import splitter, words_of
from vla.models.text.tokenizer import InstructionTokenizer

UNKNOWN = "<unknown>"
_CORRECTED = 4
"""Letters of the longer of two words from which on one may be a slip for the other: *rod* is not *red*."""


class WordTokenizer(InstructionTokenizer):
    """Looks words up."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._alike: dict[tuple[str, int], list[str]] = defaultdict(list)
        for word in self._vocabulary:
            self._alike[word[:1], len(word)].append(word)

    @staticmethod
    def fit(sentences: Iterable[str]) -> "WordTokenizer":
        """One token for each word of ``sentences``, and `UNKNOWN`."""
        found = {word for sentence in set(sentences) for word in words_of(sentence)}
        return _of({UNKNOWN: 0, **{word: number for number, word in enumerate(sorted(found), start=1)}})

    def extended(self, sentences: Iterable[str]) -> InstructionTokenizer:
        """With a token for each word of ``sentences`` that has none, behind the others."""
        found = {word for sentence in set(sentences) for word in words_of(sentence)}
        new = sorted(found - self._vocabulary.keys())
        return _of(self._vocabulary | {word: number for number, word in enumerate(new, start=len(self))})

    def ids(self, sentence: str) -> list[int]:
        """See `InstructionTokenizer.ids`."""
        return [self._vocabulary[self._known(word)] for word in words_of(sentence)]

    def fillers(self, said: Iterable[str]) -> list[int]:
        """`UNKNOWN`."""
        return [self._vocabulary[UNKNOWN]]

    def _known(self, word: str) -> str:
        """The word, the only known one that it may be a slip for, or `UNKNOWN`."""
        if word in self._vocabulary:
            return word
        lengths = (len(word) - 1, len(word), len(word) + 1)
        near = [known for length in lengths for known in self._alike.get((word[0], length), ())]
        meant = [known for known in near if max(len(word), len(known)) >= _CORRECTED and _is_slip(word, known)]
        return meant[0] if len(meant) == 1 and word.isalpha() else UNKNOWN


def _of(words: dict[str, int]) -> WordTokenizer:
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter()
    return WordTokenizer(tokenizer)


def _is_slip(word: str, known: str) -> bool:
    """Whether one letter was missed, added or mistaken, or two neighbours have changed places."""
    same = next((i for i, (a, b) in enumerate(zip(word, known, strict=False)) if a != b), min(len(word), len(known)))
    a, b = word[same:], known[same:]
    swapped = len(a) > 1 and a[0] + a[1] == b[1:2] + b[0:1] and a[2:] == b[2:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or swapped
