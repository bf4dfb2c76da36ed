"""Sequences: parts put one behind the other, read at once or one after the other, and left as they were."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.models.trunk.attention import Transformer
from vla.models.trunk.cache import GrowingCache
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.sequence import CachedPrefix, Reading, Segment, joined

WIDTH = 16


MODERN: dict[str, Any] = {
    **{"rope": 100.0, "rope_sections": (2, 1, 1), "gated": True, "activation": "silu", "qk_norm": True, "kv_heads": 1}
}
every_kind = pytest.mark.parametrize("kind", [{}, MODERN], ids=["plain", "modern"])


def _trunk(**changes: Any) -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(width=WIDTH, layers=2, heads=2, **changes)).requires_grad_(False)


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


def _copy(prefix: CachedPrefix) -> list[torch.Tensor]:
    cache = cast(GrowingCache, prefix.cache)
    kept = (t for pair in cache._layers.values() for t in pair)
    return [t.clone() for t in (prefix.valid, cache.marks.block, cache.marks.segment, *kept)]


@every_kind
@pytest.mark.parametrize("static", [False, True], ids=["growing", "static"])
@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 4), min_size=2, max_size=4), cut=st.integers(1, 3), seed=st.integers(0, 99))
def test_extending_equals_reading_at_once(
    kind: dict[str, Any], static: bool, lengths: list[int], cut: int, seed: int
) -> None:
    trunk, segments = _trunk(**kind), _segments(lengths, seed)
    names = list(segments)
    reading = Reading(trunk, segments)
    whole, all_of_it = reading.hidden, reading.cached
    with torch.no_grad():
        room = sum(lengths) if static else 0
        begun = Reading(trunk, {name: segments[name] for name in names[:cut]}, room=room)
        pieces, prefix = begun.hidden, begun.cached
        for name in names[cut:]:
            pieces[name], prefix = prefix.extend(trunk, segments[name])
    assert list(pieces) == names
    for name in names:
        torch.testing.assert_close(pieces[name], whole[name], atol=1e-5, rtol=1e-5)
    assert torch.equal(prefix.valid, all_of_it.valid)
    assert prefix.next == all_of_it.next == sum(lengths)
    if not static:
        for ours, theirs in zip(_copy(prefix), _copy(all_of_it), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@every_kind
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 4), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_reading_with_what_comes_behind_equals_reading_first(
    kind: dict[str, Any], lengths: list[int], seed: int
) -> None:
    """States and gradients alike, for the first extension, for another one of the same prefix, and for the prefix."""
    trunk, segments = _trunk(**kind).requires_grad_(), _segments(lengths, seed)
    (*names, last) = segments
    others = {"other": replace(segments[last], x=segments[last].x + 1)}
    found = []
    for together in (True, False):
        reading = Reading(trunk, {name: segments[name] for name in names})
        before = None if together else reading.hidden
        first, _ = reading.extend(trunk, segments[last])
        second, longer = reading.extend(trunk, others["other"])
        third, _ = longer.extend(trunk, segments[last])
        before = before or reading.hidden
        states = [*before.values(), first, second, third]
        weighed = sum((i + 1) * state.sin().sum() for i, state in enumerate(states))
        found.append([*states, *torch.autograd.grad(weighed, list(trunk.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@every_kind
@settings(max_examples=15)
@given(cut=st.integers(1, 2), seed=st.integers(0, 99))
def test_no_prefix_sees_what_comes_behind_it(kind: dict[str, Any], cut: int, seed: int) -> None:
    """To the last bit: segments of later blocks change nothing before them, and no gradient of theirs flows back."""
    trunk, segments = _trunk(**kind), _segments([3, 2, 4], seed)
    names = list(segments)
    later = segments[names[cut]]
    other = replace(later, x=(later.x + 1).requires_grad_(), valid=~later.valid)
    before, after = Reading(trunk, segments).hidden, Reading(trunk, segments | {names[cut]: other}).hidden
    assert all(torch.equal(before[name], after[name]) for name in names[:cut])
    assert not torch.equal(before[names[cut]], after[names[cut]])
    seen = sum(after[name].sum() for name in names[:cut])
    assert isinstance(seen, torch.Tensor)
    (leak,) = torch.autograd.grad(seen, other.x)
    assert not leak.any()


def _grid() -> Segment:
    """A picture of 2 by 3 patches, one moment after the beginning of its segment."""
    place = torch.cartesian_prod(torch.tensor([1]), torch.arange(2), torch.arange(3))
    return replace(Segment.of(torch.randn(1, 6, WIDTH, generator=torch.Generator().manual_seed(0)), 0), position=place)


def test_segments_stand_one_behind_the_other() -> None:
    """Text of 4, a picture of 2 rows and 3 columns, text of 2: places as in Qwen2-VL."""
    text, more = (Segment.of(torch.zeros(1, n, WIDTH), 0) for n in (4, 2))
    row = joined([text, _grid(), more])
    assert row.position is not None
    assert row.position.tolist() == [
        *([i, i, i] for i in range(4)),
        *([5, 4 + y, 4 + x] for y in range(2) for x in range(3)),
        *([i, i, i] for i in (7, 8)),
    ]
    assert row.next(0) == 9
    prefix = Reading(_trunk(**MODERN), {"text": text, "picture": _grid()}).cached
    assert prefix.next == 7
    assert prefix.extend(_trunk(**MODERN), more)[1].next == 9


def test_what_spans_places_leaves_what_is_behind_it_where_it_is() -> None:
    """However many tokens it has, none among them, and also where it is the last."""
    part = Segment.of(torch.randn(1, 2, WIDTH), block=0)
    for length in (0, 3, 9):
        spans = replace(Segment.of(torch.randn(1, length, WIDTH), block=0), span=9)
        whole = joined([part, spans, part])
        assert whole.position is not None
        assert whole.position[:, 0].tolist() == [0, 1, *range(2, 2 + length), 11, 12]
        assert (whole.next(5), joined([part, spans]).next(5)) == (18, 16)
        again = joined([joined([part, spans]), part])
        assert again.position is not None
        assert torch.equal(again.position, whole.position)


def test_places_reach_the_trunk() -> None:
    """A patch elsewhere in the picture is read otherwise, whether at once or behind a prefix."""
    trunk, text, picture = _trunk(**MODERN), Segment.of(torch.ones(1, 4, WIDTH), 0), _grid()
    assert picture.position is not None
    turned = replace(picture, position=picture.position[:, [0, 2, 1]])
    at_once, moved = (Reading(trunk, {"text": text, "picture": p}).hidden["picture"] for p in (picture, turned))
    assert not torch.allclose(at_once, moved, atol=1e-4)
    prefix = Reading(trunk, {"text": text})
    behind, _ = prefix.extend(trunk, replace(picture, block=1))
    alone = Reading(trunk, {"text": text, "picture": replace(picture, block=1)}).hidden
    torch.testing.assert_close(behind, alone["picture"], atol=1e-5, rtol=1e-5)


def test_no_gradient_flows_through_a_detached_prefix() -> None:
    trunk, segments = _trunk(), _segments([3, 2], seed=0)
    x = segments["part 0"].x.requires_grad_()
    prefix = Reading(trunk, {"part 0": segments["part 0"]}).cached
    open_, shut = (p.extend(trunk, segments["part 1"])[0] for p in (prefix, prefix.detached()))
    assert torch.equal(open_, shut)
    assert not shut.requires_grad
    assert torch.autograd.grad(open_.sum(), x)[0].any()


def test_a_prefix_stays_as_it_was() -> None:
    trunk, segments = _trunk(), _segments([3, 2, 4], seed=0)
    prefix = Reading(trunk, {"part 0": segments["part 0"]}).cached
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
    together = Reading(trunk, {"all": causal}).hidden
    apart = Reading(trunk, singles).hidden
    torch.testing.assert_close(together["all"], torch.cat(list(apart.values()), dim=1))


@pytest.mark.parametrize(("block", "seen"), [(0, True), (1, False)])
def test_later_blocks_are_not_seen(block: int, seen: bool) -> None:
    trunk, segments = _trunk(), _segments([3, 2], seed=2)
    second = Segment.of(segments["part 1"].x, block)
    assert second.valid.all()
    first = Segment.of(segments["part 0"].x, 0)
    before = Reading(trunk, {"a": first, "b": second}).hidden
    after = Reading(trunk, {"a": first, "b": Segment.of(second.x + 1, block)}).hidden
    assert torch.equal(before["a"], after["a"]) is not seen
