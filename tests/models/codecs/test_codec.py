"""What codecs share: the sizes they refuse, what is made of unknown entries, and the default of each method."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.codecs.chunks import SHAPE, everything, smooth
from vla.core.errors import ContractError
from vla.models.codecs.codec import ActionCodec, by_place, held
from vla.models.codecs.config import CODECS


@functools.cache
def _codec(name: str) -> ActionCodec:
    config = CODECS[name](kind=name)
    return config.build(config.fit(smooth(300)))


@pytest.mark.parametrize("name", CODECS)
def test_the_default_grammar_agrees(name: str) -> None:
    codec = _codec(name)
    ids, _ = codec.encode(smooth(3, seed=2), everything(smooth(3)))
    assert torch.equal(codec.grammar(ids), ActionCodec.grammar(codec, ids))


@pytest.mark.parametrize("name", CODECS)
def test_chunks_of_another_shape_are_refused(name: str) -> None:
    codec = _codec(name)
    for shape in ((5, 3), (8, 4)):
        chunks = smooth(2, shape=shape)
        with pytest.raises(ContractError, match=rf"expected chunks \(b, 8, 3\) .*, got \(2, {shape[0]}, {shape[1]}\)"):
            codec.encode(chunks, everything(chunks))


@pytest.mark.parametrize("name", [name for name in CODECS if name != "fast"])  # which takes what there is
def test_another_number_of_tokens_is_refused(name: str) -> None:
    codec = _codec(name)
    with pytest.raises(
        ContractError, match=rf"expected {codec.length} tokens for each chunk, got .*{codec.length - 1}"
    ):
        codec.decode(torch.zeros(2, codec.length - 1, dtype=torch.long))


@given(seed=st.integers(0, 999))
def test_what_is_held_knows_nothing_of_the_rest(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    chunk, valid = smooth(4, seed), torch.rand(4, *SHAPE, generator=random) < 0.5
    found = held(torch.where(valid, chunk, torch.nan), valid)
    assert torch.equal(found[valid], chunk[valid])
    for row, step, joint in (~valid).nonzero().tolist():
        known = valid[row, :, joint].nonzero()[:, 0].tolist()
        source = max((s for s in known if s < step), default=min(known, default=-1))
        assert found[row, step, joint] == (chunk[row, source, joint] if known else 0)


@pytest.mark.parametrize("name", CODECS)
def test_a_grammar_of_places_is_told_from_one_of_tokens(name: str) -> None:
    codec = _codec(name)
    allowed = by_place(codec)
    if name == "fast":  # its budget depends on what was said
        assert allowed is None
        return
    ids, _ = codec.encode(smooth(4, seed=2), everything(smooth(4)))
    assert allowed is not None
    assert torch.equal(codec.grammar(ids), allowed.expand(4, -1, -1))


def test_a_grammar_that_depends_on_one_id_in_the_middle_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the first nor the last of those that are allowed."""
    codec = _codec("spline")
    free = codec.allowed

    def picky(before: torch.Tensor) -> torch.Tensor:
        allowed = free(before)
        if before.shape[1]:
            middle = (before[:, 0] > 64) & (before[:, 0] < 192)
            allowed[middle, allowed[0].nonzero()[0, 0]] = False
        return allowed

    monkeypatch.setattr(codec, "allowed", picky)
    assert by_place(codec) is None
