"""FAST against its published algorithm, and a grammar under which nothing fails to decode."""

import functools
import json
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct, idct
from torch import Tensor

from tests.models.codecs.chunks import everything, smooth
from tests.models.codecs.test_pairs import encode as encode_greedily
from vla.core.errors import ConfigError, ContractError
from vla.models.codecs.config import FastConfig
from vla.models.codecs.fast import Fast
from vla.models.codecs.pairs import PairCoding

COEFFICIENTS = 24


@functools.cache
def _fit(**changes: Any) -> Fast:
    config = FastConfig(**{"vocabulary": 200, **changes})
    return cast(Fast, config.build(config.fit(smooth(500))))


def _published(chunk: np.ndarray, codec: Fast) -> tuple[list[int], list[int]]:
    """Integers and ids of one chunk (h, d), as the paper makes them: its algorithm 1, step by step."""
    coefficients = dct(chunk.astype(np.float64), axis=0, norm="ortho")
    integers = np.around(codec.scale * coefficients).astype(int)
    flat = np.clip(integers, codec.low, codec.high).reshape(-1)  # a row is a frequency
    ids = encode_greedily([int(i) - codec.low for i in flat], list(codec.coding.merges), codec.coding.symbols)
    return flat.tolist(), ids


def _undone(ids: list[int], codec: Fast) -> np.ndarray:
    """The chunk of ids, by undoing merge after merge."""
    symbols = list(ids)
    for rank in reversed(range(len(codec.coding.merges))):
        new = codec.coding.symbols + rank
        symbols = [part for s in symbols for part in (codec.coding.merges[rank] if s == new else (s,))]
    integers = np.array(symbols).reshape(8, 3) + codec.low
    return np.asarray(idct(integers / codec.scale, axis=0, norm="ortho"))


@settings(max_examples=15)
@given(seed=st.integers(0, 9999), size=st.sampled_from([0.3, 1.0, 3.0]))
def test_it_is_the_published_algorithm(seed: int, size: float) -> None:
    codec = _fit(tokens=COEFFICIENTS)
    chunks = size * smooth(4, seed) + 0.05 * torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(seed))
    ids, learn = codec.encode(chunks, everything(chunks))
    for row, chunk in enumerate(chunks):
        integers, wanted = _published(chunk.numpy(), codec)
        assert codec.integers(chunks)[row].tolist() == integers
        assert ids[row, : len(wanted)].tolist() == wanted
        assert learn[row].tolist() == [True] * len(wanted) + [False] * (COEFFICIENTS - len(wanted))
        np.testing.assert_allclose(codec.decode(ids)[row], _undone(wanted, codec), atol=1e-6)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda chunk: dct(chunk, axis=0, norm="ortho", type=3),
        lambda chunk: dct(chunk, axis=0),
        lambda chunk: dct(chunk, axis=1, norm="ortho"),
        lambda chunk: np.floor(10 * dct(chunk, axis=0, norm="ortho")) / 10,
    ],
)
def test_another_transform_would_be_noticed(mutant: Any) -> None:
    chunks = smooth(1).double()
    wrong = np.around(10 * mutant(chunks[0].numpy())).reshape(-1)
    assert _fit().integers(chunks.float())[0].tolist() != wrong.tolist()


def _drawn(codec: Fast, count: int, logits: Tensor) -> Tensor:
    """Sequences under the grammar, the likeliest of random ``logits`` (k, v), other ones at every position."""
    ids = torch.zeros(count, 0, dtype=torch.long)
    for i in range(codec.length):
        mine = logits[(torch.arange(count) * 7919 + i * 104729) % len(logits)]
        ids = torch.cat([ids, mine.masked_fill(~codec.allowed(ids), -torch.inf).argmax(dim=1, keepdim=True)], dim=1)
    return ids


@pytest.mark.parametrize("tokens", [5, None])
def test_of_100_000_random_sequences_none_fails(tokens: int | None) -> None:
    """Each spells exactly h d coefficients within the budget, and padding comes after them only."""
    codec = _fit(tokens=tokens)
    logits = torch.randn(20011, codec.size, generator=torch.Generator().manual_seed(0))
    for part in range(10):
        ids = _drawn(codec, 5_000, logits.roll(part * 997, dims=0))
        coefficients = codec.coding.lengths[ids]
        assert (coefficients.sum(dim=1) == COEFFICIENTS).all()
        assert (coefficients.cumprod(dim=1) == 0).eq(coefficients == 0).all()
        assert codec.decode(ids).isfinite().all()


@settings(max_examples=20)
@given(seed=st.integers(0, 999), length=st.integers(0, 30))
def test_without_the_grammar_what_is_missing_is_zero_and_more_is_cut(seed: int, length: int) -> None:
    codec = _fit()
    ids = torch.randint(0, codec.size, (5, length), generator=torch.Generator().manual_seed(seed))
    integers = codec.integers(codec.decode(ids))
    for row, sequence in zip(integers.tolist(), ids.tolist(), strict=True):
        said = [
            s + codec.low
            for i in sequence
            for s in codec.coding.expand(torch.tensor([[i]]), 24)[0][0].tolist()[: int(codec.coding.lengths[i])]
        ]
        assert row == (said + [0] * COEFFICIENTS)[:COEFFICIENTS]


def test_integers_that_were_never_seen_are_spelled_and_others_saturate() -> None:
    few = smooth(20)
    config = FastConfig(tokens=COEFFICIENTS)
    codec = cast(Fast, config.build(config.fit(few)))
    seen = set(codec.integers(few).flatten().tolist())
    unseen = [i for i in range(codec.low, codec.high + 1) if i not in seen]
    assert unseen
    wild = torch.linspace(-90, 90, 24).view(1, 8, 3)
    for integers in (torch.tensor(unseen * 24)[:24], codec.integers(wild)[0]):
        spelled = codec.coding.encode(integers[None] - codec.low)
        assert torch.equal(codec.integers(codec.decode(spelled))[0], integers)
    assert codec.integers(wild).min() == codec.low
    assert codec.integers(wild).max() == codec.high


def test_a_chunk_beyond_the_budget_loses_its_highest_frequencies() -> None:
    codec, exact = _fit(tokens=7), _fit(tokens=COEFFICIENTS)
    rough = torch.randn(20, 8, 3, generator=torch.Generator().manual_seed(0))
    ids, _ = codec.encode(rough, everything(rough))
    assert codec.grammar(ids).gather(2, ids[..., None]).all()
    kept, wanted = codec.integers(codec.decode(ids)), exact.integers(rough)
    for mine, full in zip(kept.tolist(), wanted.tolist(), strict=True):
        count = max(i + 1 for i, value in enumerate(mine) if value) if any(mine) else 0
        whole = -(-count // 3) * 3
        assert mine == full[:whole] + [0] * (24 - whole)


def test_the_budget_follows_the_data() -> None:
    codec = _fit()
    ids, _ = codec.encode(smooth(500), everything(smooth(500)))
    assert codec.length == (ids != codec.coding.pad).sum(dim=1).max() < COEFFICIENTS
    assert codec.remaining(ids[:1, :0])[0] <= 5 < int(codec.remaining(ids[:1, :0])[1]) == codec.length


def test_json_is_exact() -> None:
    fitted = FastConfig(vocabulary=200).fit(smooth(100))
    codec = FastConfig().build(json.loads(json.dumps(fitted)))
    assert codec.to_json() == fitted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": 20}, r"codec\.vocabulary=20 is too few: the integers -\d+ to \d+ and padding are \d+ ids"),
        ({"tokens": 25}, "a budget of 25 tokens, more than the 24 coefficients"),
        ({"tokens": 1, "vocabulary": 60}, r"a budget of 1 tokens cannot spell .* one that stands still takes \d+"),
    ],
)
def test_what_cannot_spell_a_chunk_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ContractError), match=message):
        _fit(**changes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"low": 3}, r"'low' .* from -8192 to 0, got 3"),
        ({"high": 1.5}, r"'high' .* got 1\.5"),
        ({"scale": 0}, r"'scale' .* got 0"),
        ({"merges": [[1, 2, 3]]}, "'merges' .* expected pairs of ids"),
        ({"merges": [[0, 10**9]]}, "merge 0 joins 0 and 1000000000"),
        ({"low": -8000, "high": 8000}, "1[67][0-9]+ ids, 8 steps of 3 dimensions"),
        (
            {"horizon": 4096, "dims": 4096, "tokens": 99999},
            "4096 steps of 4096 dimensions in 99999 tokens; expected at",
        ),
        ({"horizon": 0}, "'horizon' .* from 1 to .* got 0"),
    ],
)
def test_a_damaged_contract_is_refused(damage: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        FastConfig().build({**_fit().to_json(), **damage})


def test_the_grammar_is_what_makes_sequences_whole() -> None:
    """The property above can fail: without counting, random ids hardly ever spell h d coefficients."""
    codec = _fit()
    assert isinstance(codec.coding, PairCoding)
    ids = torch.randint(0, codec.coding.pad, (1000, codec.length), generator=torch.Generator().manual_seed(0))
    assert (codec.coding.lengths[ids].sum(dim=1) == COEFFICIENTS).float().mean() < 0.2
