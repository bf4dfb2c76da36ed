"""Other words for the same goal: whole, chosen by the seed, and of the kind that was asked for."""

import pytest

from vla.core.errors import ConfigError
from vla.evaluation.scenes.phrasing import FRAMES, PHRASINGS, rephrase

SAID, OTHERS = "put the red block on the blue plate", ("move it there", "place {it}")


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_holds_the_instruction(kind: str) -> None:
    said = {rephrase(SAID, OTHERS, kind, seed) for seed in range(40)}
    assert all(SAID in text and text != SAID for text in said)
    assert len(said) == len(FRAMES[kind])
    assert rephrase("put {x}", (), kind, 0) in {frame.replace("{}", "put {x}") for frame in FRAMES[kind]}


def test_the_seed_alone_decides() -> None:
    for kind in (*PHRASINGS, "paraphrase"):
        assert [rephrase(SAID, OTHERS, kind, s) for s in range(9)] == [
            rephrase(SAID, OTHERS, kind, s) for s in range(9)
        ]


def test_a_slip_is_in_one_longer_word() -> None:
    for seed in range(50):
        words = rephrase(SAID, OTHERS, "misspelt", seed).split()
        changed = [old for old, new in zip(SAID.split(), words, strict=True) if old != new]
        assert len(changed) <= 1
        assert all(len(word) >= 4 for word in changed)
    assert rephrase("go", (), "misspelt", 0) != ""


def test_a_paraphrase_is_any_of_them_and_needs_no_other_wording() -> None:
    assert len({rephrase(SAID, OTHERS, "paraphrase", seed) for seed in range(300)}) > 15
    assert not {rephrase(SAID, (), "paraphrase", seed) for seed in range(100)} & set(OTHERS)
    with pytest.raises(ConfigError, match="no other wording"):
        rephrase(SAID, (), "reworded", 0)
