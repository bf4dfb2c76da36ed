"""Sequences: parts put one behind the other, read at once or one after the other, and left as they were."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.models.trunk.attention import Transformer
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.sequence import Prefix, Segment, read

WIDTH = 16


def _trunk() -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(width=WIDTH, layers=2, heads=2)).requires_grad_(False)


def _segments(lengths: list[int], seed: int) -> dict[str, Segment]:
    """Segments of rising blocks, some of their tokens padding."""
    random = torch.Generator().manual_seed(seed)
    return {
        f"part {i}": Segment(
            x=torch.randn(3, length, WIDTH, generator=random),
            valid=torch.rand(3, length, generator=random) < 0.8,
            block=i,
        )
        for i, length in enumerate(lengths)
    }


def _copy(prefix: Prefix) -> list[torch.Tensor]:
    return [t.clone() for t in (prefix.valid, prefix.block, *(t for pair in prefix.cache for t in pair))]


@given(lengths=st.lists(st.integers(1, 4), min_size=2, max_size=4), cut=st.integers(1, 3), seed=st.integers(0, 99))
def test_extending_equals_reading_at_once(lengths: list[int], cut: int, seed: int) -> None:
    trunk, segments = _trunk(), _segments(lengths, seed)
    names = list(segments)
    whole, all_of_it = read(trunk, segments)
    pieces, prefix = read(trunk, {name: segments[name] for name in names[:cut]})
    for name in names[cut:]:
        pieces[name], prefix = prefix.extend(trunk, segments[name])
    assert list(pieces) == names
    for name in names:
        torch.testing.assert_close(pieces[name], whole[name], atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(_copy(prefix), _copy(all_of_it), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_prefix_stays_as_it_was() -> None:
    trunk, segments = _trunk(), _segments([3, 2, 4], seed=0)
    _, prefix = read(trunk, {"part 0": segments["part 0"]})
    before = _copy(prefix)
    first, _ = prefix.extend(trunk, segments["part 1"])
    other, _ = prefix.extend(trunk, segments["part 2"])
    again, _ = prefix.extend(trunk, segments["part 1"])
    assert torch.equal(first, again)
    assert other.shape == (3, 4, WIDTH)
    assert all(torch.equal(a, b) for a, b in zip(before, _copy(prefix), strict=True))


def test_a_segment_may_have_a_block_for_each_token() -> None:
    """Three tokens, each in a block of its own, equal three segments."""
    trunk, (segment, *_) = _trunk(), _segments([3], seed=1).values()
    causal = Segment(x=segment.x, valid=segment.valid, block=torch.arange(3))
    singles = {str(i): Segment(x=segment.x[:, i : i + 1], valid=segment.valid[:, i : i + 1], block=i) for i in range(3)}
    together, _ = read(trunk, {"all": causal})
    apart, _ = read(trunk, singles)
    torch.testing.assert_close(together["all"], torch.cat(list(apart.values()), dim=1))


@pytest.mark.parametrize(("block", "seen"), [(0, True), (1, False)])
def test_later_blocks_are_not_seen(block: int, seen: bool) -> None:
    trunk, segments = _trunk(), _segments([3, 2], seed=2)
    second = Segment.of(segments["part 1"].x, block)
    assert second.valid.all()
    first = Segment.of(segments["part 0"].x, 0)
    before, _ = read(trunk, {"a": first, "b": second})
    after, _ = read(trunk, {"a": first, "b": Segment.of(second.x + 1, block)})
    assert torch.equal(before["a"], after["a"]) is not seen
