"""What codecs share: the sizes they refuse, what is made of unknown entries, and the default of each method."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.codecs.chunks import SHAPE, everything, smooth
from vla.core.errors import ContractError
from vla.models.codecs.codec import ActionCodec, held
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
