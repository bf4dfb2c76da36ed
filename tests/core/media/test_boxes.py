"""Boxes in words and back, and how well they meet."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import ConfigError
from vla.core.media.boxes import GRID, PLACES, Box, box_words, is_centred_within, overlap, read_box
from vla.models.text.config import BpeConfig, WordsConfig

ENDS = st.tuples(st.integers(0, GRID - 1), st.integers(0, GRID - 1)).map(sorted)
BOXES = st.builds(lambda x, y: Box(x[0], y[0], x[1], y[1]), ENDS, ENDS)


def test_places_have_names_of_one_word() -> None:
    assert (GRID, len(set(PLACES))) == (64, 64)
    assert [PLACES[i] for i in (0, 9, 12, 20, 21, 40, 63)] == [
        *("zero", "nine", "twelve", "twenty", "twentyone", "forty", "sixtythree")
    ]


def test_a_box_in_words() -> None:
    assert box_words(Box(12, 30, 20, 41)) == "twelve thirty to twenty fortyone"


@given(BOXES)
def test_what_is_written_is_read(box: Box) -> None:
    assert read_box(box_words(box)) == box


@pytest.mark.parametrize(
    "text",
    [
        *("", "the red block", "twelve thirty to twenty", "twelve thirty to twenty fortyone two"),
        *("twelve thirty at twenty fortyone", "12 30 to 20 41", "twelve thirty to twenty sixtyfour"),
        *("twenty thirty to twelve fortyone", "twelve fortyone to twenty thirty"),
    ],
)
def test_what_is_no_box(text: str) -> None:
    assert read_box(text) is None


def test_a_box_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"expected left <= right and top <= bottom, each from 0 to 63"):
        Box(5, 5, 4, 9)
    with pytest.raises(ConfigError, match="from 0 to 63"):
        Box(5, 5, 64, 9)


@pytest.mark.parametrize(
    ("one", "other", "met", "within"),
    [
        (Box(0, 0, 3, 3), Box(0, 0, 3, 3), 1.0, True),
        (Box(0, 0, 3, 3), Box(2, 2, 5, 5), 4 / 28, True),  # the middle is the other's corner
        (Box(0, 0, 3, 3), Box(3, 3, 5, 5), 1 / 24, False),
        (Box(0, 0, 3, 3), Box(4, 0, 7, 3), 0.0, False),  # side by side
        (Box(0, 0, 3, 3), Box(0, 0, 1, 3), 0.5, True),
        (Box(10, 10, 10, 10), Box(0, 0, 63, 63), 1 / 4096, True),
        (Box(0, 0, 63, 63), Box(10, 10, 10, 10), 1 / 4096, False),
    ],
)
def test_overlap_counted_by_hand(one: Box, other: Box, met: float, within: bool) -> None:
    assert overlap(one, other) == pytest.approx(met)
    assert is_centred_within(one, other) == within


def _cells(box: Box) -> np.ndarray:
    found = np.zeros((GRID, GRID), bool)
    found[box.top : box.bottom + 1, box.left : box.right + 1] = True
    return found


@given(BOXES, BOXES)
def test_overlap_is_that_of_their_cells(one: Box, other: Box) -> None:
    mine, theirs = _cells(one), _cells(other)
    assert overlap(one, other) == overlap(other, one) == (mine & theirs).sum() / (mine | theirs).sum()
    assert (overlap(one, other) == 1) == (one == other)
    assert is_centred_within(one, one)


@pytest.mark.parametrize("kind", [WordsConfig(), BpeConfig()])
def test_every_number_is_one_token_of_a_tokenizer_that_was_fitted_to_boxes(kind: WordsConfig | BpeConfig) -> None:
    boxes = [box_words(Box(i, (7 * i) % 50, 63, (7 * i) % 50 + 9 - i % 5)) for i in range(64)]
    boxes += [box_words(Box(0, (11 * i) % 64, i, 63)) for i in range(64)]
    tokenizer = kind.fit([*boxes, "where is the red block", "put the red block on the blue plate"])
    for text in boxes:
        ids = tokenizer.ids(text)
        assert len(ids) == 5, text
        assert tokenizer.decode(ids) == text
    assert len({tuple(tokenizer.ids(text)) for text in boxes}) == len(set(boxes))
