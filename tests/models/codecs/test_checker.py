"""Every codec keeps its promises, and the checker finds one that does not."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.models.codecs.chunks import SHAPE, smooth
from vla.models.codecs.checker import check_codec
from vla.models.codecs.codec import ActionCodec
from vla.models.codecs.config import CODECS, BinsConfig, CodecConfig, FastConfig, SplineConfig

OTHERS: dict[str, CodecConfig] = {
    "bins, quantile": BinsConfig(spacing="quantile"),
    "bins, mu-law": BinsConfig(spacing="mu-law"),
    "fast, hardly any budget": FastConfig(tokens=5),
    "fast, hardly any merges": FastConfig(vocabulary=80),
    "spline, continuous": SplineConfig(continuous=True),
}
KINDS = {name: kind(kind=name) for name, kind in CODECS.items()} | OTHERS
LOOSE = 0.4
"""Enough for the coarsest codec; what each can do is said in its own test."""


def _codec(name: str) -> ActionCodec:
    return KINDS[name].build(_fitted(name))


@functools.cache
def _fitted(name: str) -> dict[str, Any]:
    return KINDS[name].fit(smooth(500))


@pytest.mark.parametrize("name", KINDS)
def test_every_codec(name: str) -> None:
    check_codec(_codec(name), 0.9 * smooth(9, seed=1), tolerance=LOOSE)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1), sharp=st.sampled_from([0.0, 3.0, 100.0]))
def test_whatever_the_logits_are_a_chunk_comes_out(name: str, seed: int, sharp: float) -> None:
    """`remaining` never grows, bounds what is written, and is 0 exactly when nothing but padding may follow."""
    codec = _codec(name)
    random = torch.Generator().manual_seed(seed)
    ids, bounds = torch.zeros(7, 0, dtype=torch.long), []
    for _ in range(codec.length):
        allowed = codec.allowed(ids)
        least, most = codec.remaining(ids)
        bounds.append((least, most))
        assert torch.equal(most == 0, (allowed.sum(dim=1) == 1) & (least == 0))
        logits = sharp * torch.randn(7, codec.size, generator=random) + torch.rand(7, codec.size, generator=random)
        ids = torch.cat([ids, logits.masked_fill(~allowed, -torch.inf).argmax(dim=1, keepdim=True)], dim=1)
    written = sum((most > 0).long() for _, most in bounds)
    for position, (least, most) in enumerate(bounds):
        left = (written - position).clamp(min=0)
        assert ((least <= left) & (left <= most) & (most <= codec.length - position)).all()
    chunks = codec.decode(ids)
    assert chunks.shape == (7, *SHAPE)
    assert chunks.isfinite().all()


def _last_is_empty(codec: ActionCodec) -> Any:
    """Nothing may follow the last but one, unless the sequence is one that was encoded."""
    plain = codec.allowed
    known, _ = codec.encode(CHUNKS, torch.ones_like(CHUNKS, dtype=torch.bool))

    def allowed(before: Tensor) -> Tensor:
        i = before.shape[1]
        same = (before[:, None] == known[:, :i]).all(dim=2).any(dim=1)
        return plain(before) & (same | (i < codec.length - 1))[:, None]

    return allowed


def _short_by_one(codec: ActionCodec) -> Any:
    """A budget that does not see the last token."""
    plain = codec.remaining
    return lambda before: tuple((bound - 1).clamp(min=0) for bound in plain(before))


def _guessed(codec: ActionCodec) -> Any:
    """The most is what the budget leaves, whether it can be spent or not."""
    plain = codec.remaining
    return lambda before: (plain(before)[0], plain(before)[1] * 0 + codec.length - before.shape[1])


def _only_once(codec: ActionCodec, then: Callable[[Tensor], Tensor]) -> Any:
    """Decodes well what was encoded, and otherwise whatever is sampled."""
    plain, calls = codec.decode, []

    def decode(ids: Tensor) -> Tensor:
        calls.append(ids)
        return plain(ids) if len(calls) == 1 else then(plain(ids))

    return decode


def _reads_noise(codec: ActionCodec) -> Any:
    """Takes what is not known for what is."""
    plain = codec.encode
    return lambda chunk, valid: (plain(chunk, torch.ones_like(valid))[0], plain(chunk, valid)[1])


def _with_encode(codec: ActionCodec, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Any:
    plain = codec.encode
    return lambda chunk, valid: change(*plain(chunk, valid))


CHUNKS = 0.9 * smooth(9, seed=1)
BROKEN: dict[str, tuple[str, Callable[[ActionCodec], dict[str, Any]], str]] = {
    "cut": (
        "bins",
        lambda c: {"encode": _with_encode(c, lambda ids, learn: (ids[:, 1:], learn[:, 1:]))},
        r"encode: expected \(9, 24\), got \(9, 23\)",
    ),
    "silent": (
        "bins",
        lambda c: {"encode": _with_encode(c, lambda ids, learn: (ids, torch.zeros_like(learn)))},
        "nothing to learn",
    ),
    "outside": (
        "bins",
        lambda c: {"encode": _with_encode(c, lambda ids, learn: (ids + c.size, learn))},
        "ids outside of",
    ),
    "ungrammatical": (
        "bins",
        lambda c: {"encode": _with_encode(c, lambda ids, learn: (ids.flip(1), learn))},
        "its own grammar does not allow",
    ),
    "two grammars": (
        "bins",
        lambda c: {"allowed": lambda before: torch.ones(len(before), c.size, dtype=torch.bool)},
        "disagree",
    ),
    "coarse": (
        "bins",
        lambda c: {"decode": lambda ids: torch.zeros(len(ids), *SHAPE)},
        r"is 0\.\d+ away from x, more than 0\.4",
    ),
    "curious": ("fast", lambda c: {"encode": _reads_noise(c)}, "depend on entries that are not valid"),
    "eager": (
        "spline",
        lambda c: {"encode": _with_encode(c, lambda ids, learn: (ids, torch.ones_like(learn)))},
        "something to learn from a chunk of which nothing is known",
    ),
    "another shape": (
        "bins",
        lambda c: {"decode": _only_once(c, lambda chunk: chunk[:, 1:])},
        r"decode: expected \(9, 8, 3\)",
    ),
    "not finite": ("bins", lambda c: {"decode": _only_once(c, lambda chunk: chunk / 0)}, "not finite"),
    "dead end": (
        "bins",
        lambda c: {"allowed": _last_is_empty(c), "grammar": lambda ids: ActionCodec.grammar(c, ids)},
        "nothing may follow",
    ),
    "wide": (
        "bins",
        lambda c: {"allowed": _widened(c), "grammar": lambda ids: ActionCodec.grammar(c, ids)},
        r"allowed: expected \(9, 384\), got \(9, 385\)",
    ),
    "short by one": ("bins", lambda c: {"remaining": _short_by_one(c)}, "128 ids may follow a complete chunk"),
    "guessed": ("fast", lambda c: {"remaining": _guessed(c)}, "remaining: "),
}


def _widened(codec: ActionCodec) -> Any:
    plain = codec.allowed
    return lambda before: torch.cat([plain(before), plain(before)[:, :1]], dim=1)


@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_promise_is_found(promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, parts, message = BROKEN[promise]
    codec = _codec(kind)
    for name, part in parts(codec).items():
        monkeypatch.setattr(codec, name, part)
    with pytest.raises(AssertionError, match=message):
        check_codec(codec, CHUNKS, tolerance=LOOSE)
