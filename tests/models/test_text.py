"""Any sentence encodes and comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import CheckpointError
from vla.models.text import InstructionTokenizer

SENTENCES = ["put the red block on the blue plate", "move the green block to the red plate"]


@pytest.fixture(scope="module")
def tokenizer() -> InstructionTokenizer:
    return InstructionTokenizer.train(SENTENCES, size=512)


@given(sentence=st.text(max_size=30))
def test_unicode_round_trip(tokenizer: InstructionTokenizer, sentence: str) -> None:
    ids, valid = tokenizer.encode([sentence], 300)
    assert tokenizer.decode(ids[0, valid[0]].tolist()) == sentence.lower().strip()
    assert ids.max() < len(tokenizer)


def test_words_in_use_are_one_token_each(tokenizer: InstructionTokenizer) -> None:
    _, valid = tokenizer.encode(SENTENCES, 12)
    assert valid.sum(axis=1).tolist() == [8, 8]


def test_unknown_words_encode_without_disturbing_their_neighbours(tokenizer: InstructionTokenizer) -> None:
    known, _ = tokenizer.encode(["put the block"], 12)
    mixed, valid = tokenizer.encode(["put the żółty block"], 40)
    assert mixed[0, :2].tolist() == known[0, :2].tolist()
    assert mixed[0, valid[0]][-1] == known[0, 2]


def test_padding_and_truncation(tokenizer: InstructionTokenizer) -> None:
    ids, valid = tokenizer.encode(["", "put the red block on the blue plate"], 5)
    assert ids.shape == valid.shape == (2, 5)
    assert valid.sum(axis=1).tolist() == [0, 5]
    assert (ids[~valid] == 0).all()
    longer, _ = tokenizer.encode(SENTENCES[:1], 12)
    np.testing.assert_array_equal(ids[1], longer[0, :5])


def test_json_keeps_the_mapping(tokenizer: InstructionTokenizer) -> None:
    again = InstructionTokenizer.from_json(tokenizer.to_json())
    assert again.digest() == tokenizer.digest()
    np.testing.assert_array_equal(again.encode(SENTENCES, 12)[0], tokenizer.encode(SENTENCES, 12)[0])


def test_training_ignores_the_order_of_sentences(tokenizer: InstructionTokenizer) -> None:
    assert InstructionTokenizer.train(SENTENCES[::-1] * 2, size=512).digest() == tokenizer.digest()


def test_damage_is_a_checkpoint_error() -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        InstructionTokenizer.from_json("{")
