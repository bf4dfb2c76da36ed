"""What is said the same way is read the same way, what was never said is unknown, and nothing is cut off."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import CheckpointError, ContractError
from vla.models.text.config import read_tokenizer
from vla.models.text.pieces import PieceTokenizer
from vla.models.text.plain import plain
from vla.models.text.words import UNKNOWN, WordTokenizer

SENTENCES = ["put the red block on the blue plate", "move the green block to the red plate"]
VERSION1 = Path(__file__).parents[2] / "version1" / "checkpoint.zip"


@pytest.fixture(scope="module")
def tokenizer() -> WordTokenizer:
    return WordTokenizer.fit(SENTENCES)


def _read(tokenizer: WordTokenizer, sentence: str) -> str:
    return tokenizer.decode(tokenizer.ids(sentence))


@given(sentence=st.text(max_size=30))
def test_any_sentence_encodes_and_what_is_plain_stays(tokenizer: WordTokenizer, sentence: str) -> None:
    ids, valid = tokenizer.encode([sentence], 60)
    assert ids.max() < len(tokenizer)
    assert plain(plain(sentence)) == plain(sentence)
    again = tokenizer.encode([plain(sentence)], 60)
    np.testing.assert_array_equal(ids, again[0])
    np.testing.assert_array_equal(valid, again[1])


@pytest.mark.parametrize(
    "said",
    [
        "Put the RED block on the BLUE plate.",
        "put  the red\tblock\non the blue   plate ",
        "put the red\u00a0block on\u2003the blue plate",
        "pu\u200bt the red bl\u00adock on the \ufeffblue plate\u200d",
        "ｐｕｔ　ｔｈｅ ｒｅｄ ｂｌｏｃｋ ｏｎ ｔｈｅ ｂｌｕｅ ｐｌａｔｅ！",
        "“put the red block”, on the blue plate…",
        "put the red block - on the blue plate?!",
        "put\x00the\x07red block on the blue plate",
        "put the red block on the 𝐛𝐥𝐮𝐞 plate",
    ],
)
def test_what_is_said_the_same_way_is_read_the_same_way(tokenizer: WordTokenizer, said: str) -> None:
    assert tokenizer.ids(said) == tokenizer.ids(SENTENCES[0])


def test_one_accent_is_one_letter_however_it_is_written() -> None:
    tokenizer = WordTokenizer.fit(["take the café cup"])
    assert _read(tokenizer, "take the cafe\u0301 cup") == _read(tokenizer, "TAKE the CAFÉ cup") == "take the café cup"


def test_numbers_and_signs_keep_their_meaning() -> None:
    said = ["go to 1.5", "go to 15", "go to -5", "go to 5", "go 1-5", "open 50 %", "open 50 °"]
    tokenizer = WordTokenizer.fit(said)
    assert _read(tokenizer, "go to -1.5") == "go to - 1 . 5"
    assert len({tuple(tokenizer.ids(text)) for text in said[:4]}) == 4


def test_scripts_without_spaces_go_character_by_character() -> None:
    tokenizer = WordTokenizer.fit(["把红色方块放在蓝色盘子上"])
    assert _read(tokenizer, "把蓝色方块放在红色盘子上。") == " ".join("把蓝色方块放在红色盘子上")


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("putt teh blokc", f"put {UNKNOWN} block"),  # teh is too short to be sure
        ("the bleu plaet", "the blue plate"),
        ("the gren plates", "the green plate"),
        ("the rod and the bed", f"the {UNKNOWN} {UNKNOWN} the {UNKNOWN}"),  # other things than red ones
        ("the clock", f"the {UNKNOWN}"),
        ("robot, could you put the red block away?", f"{UNKNOWN} {UNKNOWN} {UNKNOWN} put the red block {UNKNOWN}"),
    ],
)
def test_a_slip_is_read_as_what_it_can_only_mean(tokenizer: WordTokenizer, said: str, read: str) -> None:
    assert _read(tokenizer, said) == read


def test_a_slip_for_two_words_is_none() -> None:
    assert _read(WordTokenizer.fit(["the plate", "the plane"]), "the plape") == f"the {UNKNOWN}"


def test_numbers_are_not_corrected() -> None:
    assert _read(WordTokenizer.fit(["row 1234"]), "row 5") == f"row {UNKNOWN}"


def test_what_is_too_long_is_refused_by_name(tokenizer: WordTokenizer) -> None:
    ids, valid = tokenizer.encode(["", SENTENCES[0]], 8)
    assert valid.sum(axis=1).tolist() == [0, 8]
    assert (ids[~valid] == 0).all()
    with pytest.raises(ContractError, match=r"'please put the red .*' has 9 tokens, .* at most 8; .*text_tokens=9"):
        tokenizer.encode(["", f"please {SENTENCES[0]}"], 8)
    with pytest.raises(ContractError) as refused:
        tokenizer.encode([" ".join(SENTENCES * 100)], 8)
    assert len(str(refused.value)) < 300


def test_room_is_for_the_longest_twice_and_for_what_people_add(tokenizer: WordTokenizer) -> None:
    assert tokenizer.room_for(SENTENCES) == 32
    assert tokenizer.room_for([*SENTENCES, "put " * 40]) == 80


def test_json_keeps_the_mapping(tokenizer: WordTokenizer) -> None:
    again = read_tokenizer(tokenizer.to_json())
    assert again.digest() == tokenizer.digest()
    np.testing.assert_array_equal(again.encode(SENTENCES, 12)[0], tokenizer.encode(SENTENCES, 12)[0])


def test_training_ignores_the_order_of_sentences(tokenizer: WordTokenizer) -> None:
    assert WordTokenizer.fit(SENTENCES[::-1] * 2).digest() == tokenizer.digest()
    assert tokenizer.pieces() == [UNKNOWN, *sorted(set(" ".join(SENTENCES).split()))]


def test_one_of_version_1_spells_what_is_new_and_keeps_its_commas() -> None:
    with zipfile.ZipFile(VERSION1) as archive:
        old = read_tokenizer(archive.read("tokenizer.json").decode())
    assert isinstance(old, PieceTokenizer)
    assert _read(old, "Put the  żółty block, on the PLATE") == "put the żółty block, on the plate"
    assert "Ġblock" in old.pieces()


def test_damage_is_a_checkpoint_error(tokenizer: WordTokenizer) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        read_tokenizer("{")
    value = json.loads(tokenizer.to_json())
    value["model"]["vocab"] = {"": 0}
    read_tokenizer(json.dumps(value))
