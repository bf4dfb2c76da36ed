"""Pieces: nothing is unknown, what is said the same way is read the same way, and tokenizers from elsewhere fit."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from vla.core.errors import ConfigError, ContractError
from vla.models.text.config import BpeConfig, PretrainedConfig, read_tokenizer
from vla.models.text.pieces import PieceTokenizer
from vla.models.text.plain import plain
from vla.models.text.tokenizer import InstructionTokenizer

SENTENCES = ["put the red block on the blue plate", "move the green block to the red plate"]


@pytest.fixture(scope="module")
def tokenizer() -> PieceTokenizer:
    return PieceTokenizer.fit(SENTENCES, 300)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PieceTokenizer) -> Path:
    """As others write theirs: with case, a beginning, padding and a longest text."""
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, pad_token="<pad>", bos_token="<s>")
    theirs("put", padding="max_length", truncation=True, max_length=4)
    theirs.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


@given(sentence=st.text(max_size=30))
def test_whatever_is_said_is_spelled(tokenizer: PieceTokenizer, sentence: str) -> None:
    ids = tokenizer.ids(sentence)
    assert tokenizer.decode(ids) == plain(sentence)
    assert ids == tokenizer.ids(plain(sentence))
    assert max(ids, default=0) < len(tokenizer)


def test_what_was_said_often_is_few_pieces(tokenizer: PieceTokenizer) -> None:
    assert len(tokenizer.ids(SENTENCES[0])) == 8
    assert len(tokenizer.ids("Put  the RED\tblock")) == 4
    assert len(tokenizer.ids("zigzag")) > 3
    assert len(tokenizer) <= 300


def test_training_ignores_the_order_of_sentences(tokenizer: PieceTokenizer) -> None:
    assert PieceTokenizer.fit(SENTENCES[::-1] * 2, 300).digest() == tokenizer.digest()


def test_json_keeps_the_mapping(tokenizer: PieceTokenizer) -> None:
    again = read_tokenizer(tokenizer.to_json())
    assert isinstance(again, PieceTokenizer)
    assert again.digest() == tokenizer.digest()
    assert again.ids("the żółty one") == tokenizer.ids("the żółty one")


def test_fillers_are_what_no_sentence_needs(tokenizer: PieceTokenizer) -> None:
    fillers = tokenizer.fillers(SENTENCES)
    used = {number for sentence in SENTENCES for number in tokenizer.ids(sentence)}
    assert used | set(fillers) == set(range(len(tokenizer)))
    assert not used & set(fillers)


def test_one_from_elsewhere_keeps_case_and_never_cuts(folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    ours = PretrainedConfig(path=str(folder)).fit(SENTENCES)
    theirs = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    long = " ".join(SENTENCES)
    assert ours.ids(long) == theirs(long, add_special_tokens=False).input_ids
    assert ours.ids("Put \u00a0 the\tred") == theirs("Put the red", add_special_tokens=False).input_ids
    assert ours.ids("Put") != ours.ids("put")
    specials = {theirs.convert_tokens_to_ids(token) for token in ("<pad>", "<s>")}
    assert not specials & set(ours.fillers(SENTENCES))
    assert max(specials) < len(ours)
    assert read_tokenizer(ours.to_json()).ids(long) == ours.ids(long)


def test_a_vocabulary_with_holes_has_a_row_for_each_id(folder: Path) -> None:
    value = json.loads((folder / "tokenizer.json").read_text())
    value["added_tokens"][-1]["id"] = 1000
    (folder / "tokenizer.json").write_text(json.dumps(value))
    ours = PretrainedConfig(path=str(folder)).fit(SENTENCES)
    assert len(ours) == len(ours.pieces()) == 1 + max(ours._vocabulary.values())


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"path=.*nowhere does not exist; give a local folder"):
        PretrainedConfig(path=str(tmp_path / "nowhere")).fit(SENTENCES)
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json; give a local folder"):
        PretrainedConfig(path=str(tmp_path)).fit(SENTENCES)
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(ConfigError, match=r"tokenizer\.json is no tokenizer of the Hugging Face format"):
        PretrainedConfig(path=str(tmp_path)).fit(SENTENCES)
    with pytest.raises(ConfigError, match=r"model\.tokenizer\.path is empty; give the folder"):
        PretrainedConfig().fit(SENTENCES)
    with pytest.raises(ConfigError, match="vocabulary=100 must be at least 256"):
        BpeConfig(vocabulary=100)


def _foreign(tmp_path: Path, model: Any) -> InstructionTokenizer:
    """A tokenizer that was made for something else."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return PretrainedConfig(path=str(tmp_path)).fit(SENTENCES)


def test_one_that_does_not_fit_the_instructions_is_refused(tmp_path: Path, tokenizer: PieceTokenizer) -> None:
    """It cannot read them, reads nothing of them, or reads them all alike."""
    unread = _foreign(tmp_path, models.WordLevel({"the": 0}, unk_token="<unknown>"))
    with pytest.raises(ContractError, match=r"cannot read the instruction 'put the red .*Missing \[UNK\]"):
        unread.require_tells_apart(SENTENCES)
    nothing = _foreign(tmp_path, models.BPE({"Z": 0}, []))
    with pytest.raises(ContractError, match=r"nothing of the instruction 'put the red .*for its 8 words, got none"):
        nothing.require_tells_apart(SENTENCES)
    alike = _foreign(tmp_path, models.WordLevel({"?": 0}, unk_token="?"))
    with pytest.raises(ContractError, match=r"tells 1 of 2 instructions apart, 'put the .*' and 'put a .*' are one"):
        alike.require_tells_apart([SENTENCES[0], SENTENCES[0].upper(), SENTENCES[0].replace("the red", "a red")])
    tokenizer.require_tells_apart([*SENTENCES, "", SENTENCES[0].upper()])
    many = [f"put block {number} down" for number in range(100)]
    accents = _foreign(tmp_path, models.BPE({c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz0123456789")}, []))
    accents.require_tells_apart([*many, "go to the cafe", "go to the caf\u00e9\u0301", "go to the cafe\u00e9"])


def test_ids_that_the_vocabulary_does_not_have_are_refused(tokenizer: PieceTokenizer) -> None:
    class Mistaken(PieceTokenizer):
        def ids(self, sentence: str) -> list[int]:
            return [3, 300]

    mistaken = Mistaken(tokenizer._tokenizer)
    with pytest.raises(ContractError, match=rf"'go' the ids \[3, 300\], .* those from 0 to {len(tokenizer) - 1}"):
        mistaken.encode(["go"], 5)
