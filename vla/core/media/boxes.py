"""Where something is in a picture, in words: a box on a grid of 64 by 64 cells, and how well one box meets another.

Qwen-VL (arXiv 2308.12966, section 2) writes ``<box>(x1,y1),(x2,y2)</box>`` in thousandths of a picture, PaliGemma
(arXiv 2407.07726) four of 1,024 tokens. A picture of 64 pixels tells 64 places apart, and small tokenizers take numbers
apart digit by digit and drop brackets. So each place has its English name in one word, which is one token to a
tokenizer of words, and one piece to byte pairs that were fitted to such data::

    twelve thirty to twenty fortyone        left and top, to right and bottom; both ends belong to the box
"""

import re
from dataclasses import dataclass

from vla.core.errors import ConfigError

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty")
PLACES = (*_ONES, *(tens + ones for tens in _TENS for ones in ("", *_ONES[1:10])))[:64]
"""The name of each column from the left, and of each row from the top."""
GRID = len(PLACES)


@dataclass(frozen=True)
class Box:
    """Cells of a picture, from the first to the last column and row, these included."""

    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        if not (0 <= self.left <= self.right < GRID and 0 <= self.top <= self.bottom < GRID):
            raise ConfigError(f"box: expected left <= right and top <= bottom, each from 0 to {GRID - 1}, got {self}")

    @property
    def area(self) -> int:
        """Cells."""
        return (self.right + 1 - self.left) * (self.bottom + 1 - self.top)

    @property
    def centre(self) -> tuple[float, float]:
        """(column, row), in cells from the left and the top edge of the picture."""
        return (self.left + self.right + 1) / 2, (self.top + self.bottom + 1) / 2


def box_words(box: Box) -> str:
    """As a question is answered."""
    left, top, right, bottom = (PLACES[place] for place in (box.left, box.top, box.right, box.bottom))
    return f"{left} {top} to {right} {bottom}"


def read_box(text: str) -> Box | None:
    """What `box_words` wrote; None for anything else, and for what is no box."""
    said = re.fullmatch(r"(\w+) (\w+) to (\w+) (\w+)", text)
    if said is None or not set(said.groups()) <= set(PLACES):
        return None
    left, top, right, bottom = map(PLACES.index, said.groups())
    return Box(left, top, right, bottom) if left <= right and top <= bottom else None


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0 to 1."""
    across = min(one.right, other.right) + 1 - max(one.left, other.left)
    down = min(one.bottom, other.bottom) + 1 - max(one.top, other.top)
    shared = max(0, across) * max(0, down)
    return shared / (one.area + other.area - shared)


def is_centred_within(one: Box, other: Box) -> bool:
    """Whether the middle of ``one`` lies in ``other``."""
    column, row = one.centre
    return other.left <= column <= other.right + 1 and other.top <= row <= other.bottom + 1
