"""Sentences as they are read: what looks alike is one, and what a word is."""

import unicodedata
from functools import cache

from tokenizers import Regex, pre_tokenizers

_ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTERS = rf"[[\p{{L}}\p{{M}}]&&[^{_ALONE}]]+"
_WORD = "|".join(
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


@cache
def splitter() -> pre_tokenizers.PreTokenizer:
    """Takes a plain sentence apart into words; spaces and the punctuation between words are dropped."""
    return pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)


def words_of(sentence: str) -> list[str]:
    """The words of a sentence: scripts without spaces go character by character, numbers digit by digit."""
    return [word for word, _ in splitter().pre_tokenize_str(plain(sentence))]
