"""RT-2's integers: as text, and on the ids that a corpus uses least."""

import json
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.codecs.chunks import everything, smooth
from vla.core.errors import ConfigError, ContractError
from vla.models.codecs.config import Rt2Config
from vla.models.codecs.rt2 import Rt2, least_frequent, read_step, write_step

WORDS = tuple(range(2000, 2512, 2))


def _build(**changes: Any) -> Rt2:
    config = Rt2Config(**changes)
    return cast(Rt2, config.build(config.fit(smooth(300))))


def test_ids_are_the_integers_between_the_limits_of_each_joint() -> None:
    codec = _build(quantile=0.0)
    flat = smooth(300).reshape(-1, 3)
    low, high = flat.amin(dim=0), flat.amax(dim=0)
    margin = 0.02 * (high - low)
    chunks = smooth(5, seed=1)
    ids, _ = codec.encode(chunks, everything(chunks))
    wanted = 255 * (chunks - low + margin) / (high - low + 2 * margin)
    assert (ids.view(5, 8, 3) - wanted).abs().max() <= 0.5 + 1e-3
    assert (codec.decode(ids) - chunks).abs().max() <= (high - low + 2 * margin).max() / 255 / 2 + 1e-5


def test_the_papers_example_reads_and_writes() -> None:
    text = "1 128 91 241 5 101 127 217"
    terminate, integers = read_step(text, 7)
    assert (terminate, integers) == (True, (128, 91, 241, 5, 101, 127, 217))
    assert write_step(integers, terminate=terminate) == text


@given(integers=st.lists(st.integers(0, 255), min_size=7, max_size=7), terminate=st.booleans())
def test_text_goes_both_ways(integers: list[int], terminate: bool) -> None:
    assert read_step(write_step(integers, terminate=terminate), 7) == (terminate, tuple(integers))


@pytest.mark.parametrize("text", ["", "1 2 3", "0 1 2 256", "2 1 2 3", "0 1 2 x", "0 1 2 -3", "0 1 2 3 4", "0 1 2 ²"])
def test_text_that_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match=r"expected 0 or 1 and then 3 integers from 0 to 255, got '"):
        read_step(text, 3)


@given(seed=st.integers(0, 999))
def test_words_go_both_ways(seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(WORDS).tolist()
    codec = _build(words=tuple(shuffled))
    ids = torch.randint(0, 256, (3, 24), generator=torch.Generator().manual_seed(seed))
    foreign = codec.foreign(ids)
    assert foreign[0, 0] == shuffled[ids[0, 0]]
    assert torch.equal(codec.own(foreign), ids)


@pytest.mark.parametrize("word", [0, 2001, 9999])
def test_a_word_that_is_no_action_is_refused(word: int) -> None:
    with pytest.raises(ContractError, match=f"id {word} of the text vocabulary stands for no action"):
        _build(words=WORDS).own(torch.tensor([2000, word]))


def test_without_words_there_is_text() -> None:
    with pytest.raises(ConfigError, match=r"codec\.words is empty"):
        _build().foreign(torch.zeros(1, dtype=torch.long))


def test_the_least_frequent_ids_are_counted_and_not_spoken() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 1000, 3000)
    spoken = set(random.integers(0, 3000, 300).tolist())
    chosen = least_frequent(counts, spoken=spoken)
    assert len(set(chosen)) == 256
    assert not spoken & set(chosen)
    others = [i for i in range(3000) if i not in spoken and i not in set(chosen)]
    assert max(counts[list(chosen)]) <= min(counts[others])
    assert list(chosen) == sorted(chosen)
    assert _build(words=chosen).foreign(torch.tensor([0, 255])).tolist() == [chosen[0], chosen[-1]]


def test_a_vocabulary_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="256 ids are needed, and 250 of 260 are not spoken"):
        least_frequent(np.zeros(260, np.int64), spoken=range(10))


@pytest.mark.parametrize("words", [WORDS[:9], (*WORDS[:255], WORDS[0]), (*WORDS[:255], -1)])
def test_words_that_are_no_256_ids_are_refused(words: tuple[int, ...]) -> None:
    with pytest.raises(
        ConfigError, match=rf"expected 256 different ids .* got {len(words)} of which {len(set(words))}"
    ):
        _build(words=words)


def test_json_is_exact() -> None:
    fitted = Rt2Config(words=WORDS).fit(smooth(100))
    assert Rt2Config().build(json.loads(json.dumps(fitted))).to_json() == fitted


def test_a_damaged_contract_is_refused() -> None:
    fitted = Rt2Config().fit(smooth(50))
    for damage, message in (
        ({"words": "a b"}, "'words' .* got 'a b'"),
        ({"low": [[1.0]]}, r"'low' .* shape \(any\), got shape \(1, 1\)"),
    ):
        with pytest.raises(ContractError, match=message):
            Rt2Config().build({**fitted, **damage})
