"""The static cache: written in place, never reallocated, and right whatever was written behind before."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vla.models.trunk.attention import Transformer
from vla.models.trunk.cache import StaticCache
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.sequence import CachedPrefix, Reading, Segment

WIDTH = 16
MODERN: dict[str, Any] = {"rope": 100.0, "gated": True, "activation": "silu", "qk_norm": True, "kv_heads": 1}
every_kind = pytest.mark.parametrize("settings", [{}, MODERN], ids=["plain", "modern"])


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def _trunk(**settings: Any) -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(width=WIDTH, layers=2, heads=2, **settings))


def _segment(length: int, block: int, seed: int) -> Segment:
    return Segment.of(torch.randn(3, length, WIDTH, generator=torch.Generator().manual_seed(seed)), block)


def _begun(trunk: Transformer, room: int) -> CachedPrefix:
    return Reading(trunk, {"begin": _segment(4, 0, seed=0)}, room=room).cached


@every_kind
@pytest.mark.parametrize("lengths", [(2, 2), (5, 1), (1, 5)])
def test_what_is_written_a_second_time_hides_the_first(settings: dict[str, Any], lengths: tuple[int, int]) -> None:
    """Longer, shorter or as long: of what the first extension wrote behind the prefix nothing is seen."""
    trunk = _trunk(**settings)
    static, growing = _begun(trunk, room=9), _begun(trunk, room=0)
    for prefix in (static, growing):
        _, behind = prefix.extend(trunk, _segment(lengths[0], 1, seed=1))
        behind.extend(trunk, _segment(1, 2, seed=2))
    for seed in (3, 4):
        (ours, first), (theirs, other) = (p.extend(trunk, _segment(lengths[1], 1, seed)) for p in (static, growing))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        second = _segment(2, 2, seed=5)
        ours, theirs = first.extend(trunk, second)[0], other.extend(trunk, second)[0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_what_was_overwritten_is_not_read() -> None:
    trunk = _trunk()
    prefix = _begun(trunk, room=9)
    _, first = prefix.extend(trunk, _segment(2, 1, seed=1))
    _, deep = first.extend(trunk, _segment(1, 2, seed=2))
    _, second = prefix.extend(trunk, _segment(2, 1, seed=3))
    for lost in (first, deep):
        with pytest.raises(RuntimeError, match=r"tokens of this prefix were overwritten.*go on from the newest"):
            lost.extend(trunk, _segment(1, 2, seed=4))
    second.extend(trunk, _segment(1, 2, seed=4))


def test_more_than_there_is_room_for_is_refused() -> None:
    trunk = _trunk()
    _, prefix = _begun(trunk, room=3).extend(trunk, _segment(2, 1, seed=1))
    with pytest.raises(RuntimeError, match="room for 7 tokens, 6 are taken and 2 more do not fit"):
        prefix.extend(trunk, _segment(2, 2, seed=2))


def test_gradients_and_a_static_cache_exclude_each_other() -> None:
    with torch.enable_grad(), pytest.raises(AssertionError, match="a static cache has no gradients"):
        _begun(_trunk(), room=3)


class _Seen(TorchDispatchMode):
    """The operations that run, with the shapes of what they take."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = tuple(tuple(a.shape) for a in args if isinstance(a, Tensor))
        self.calls.append((str(func), shapes))
        return func(*args, **kwargs or {})


@every_kind
def test_every_token_runs_the_same_operations_on_the_same_shapes(settings: dict[str, Any]) -> None:
    """No keys or values are joined, nothing is read back from the device, and no shape grows with the sequence."""
    trunk = _trunk(**settings)
    prefix, runs = _begun(trunk, room=4), []
    views = ("slice", "alias", "zero_")  # of what is behind the newest token, which for the last one is nothing
    for i in range(4):
        with _Seen() as seen:
            _, prefix = prefix.extend(trunk, _segment(1, 1 + i, seed=i))
        runs.append([call for call in seen.calls if not any(word in call[0] for word in views)])
    names = {name for name, _ in runs[0]}
    assert len(runs[0]) > 20
    waits = ("_local_scalar_dense", "nonzero", "lift_fresh")  # for the device, or for what the host copies there
    assert not {name for name in names if any(word in name for word in waits)}
    joined = [shapes for name, shapes in runs[0] if "aten.cat" in name]
    assert not [shape for shapes in joined for shape in shapes if 8 in shape]  # halves of channels, in rotations, are
    assert runs[0] == runs[1] == runs[2] == runs[3]


@every_kind
def test_memory_is_allocated_once(settings: dict[str, Any]) -> None:
    trunk = _trunk(**settings)
    prefix = _begun(trunk, room=4)
    assert isinstance(prefix.cache, StaticCache)
    places = [t.data_ptr() for pair in prefix.cache._room.layers.values() for t in pair]
    for i in range(4):
        _, prefix = prefix.extend(trunk, _segment(1, 1 + i, seed=i))
    assert isinstance(prefix.cache, StaticCache)
    assert [t.data_ptr() for pair in prefix.cache._room.layers.values() for t in pair] == places
    assert len(places) == 4


def test_memory_goes_with_the_last_prefix() -> None:
    """No cycle keeps it until the garbage is collected."""
    gc.disable()
    try:
        trunk = _trunk()
        prefix = _begun(trunk, room=4)
        _, longer = prefix.extend(trunk, _segment(1, 1, seed=1))
        assert isinstance(prefix.cache, StaticCache)
        kept = weakref.ref(prefix.cache._room.layers[0][0])
        del prefix, longer
        assert kept() is None
    finally:
        gc.enable()
