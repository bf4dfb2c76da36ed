"""Every codec keeps its promises, and the checker finds one that does not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.models.codecs.codec import ActionCodec, check_codec
from vla.models.codecs.config import CODECS

SHAPE = (4, 3)
TOLERANCE = {"bins": 1.05 / 127}  # half a bin of the range and its margins


def _codec(name: str) -> ActionCodec:
    config = CODECS[name](kind=name)
    return config.build(config.fit(_chunks(500, seed=0)))


def _chunks(count: int, seed: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("name", CODECS)
def test_every_codec(name: str) -> None:
    check_codec(_codec(name), 0.99 * _chunks(9, seed=1), tolerance=TOLERANCE[name])


def _last_is_empty(codec: ActionCodec) -> Any:
    """Nothing may follow the last but one."""
    plain = codec.allowed
    return lambda before: plain(before) & (before.shape[1] < codec.length - 1)


def _not_the_last(codec: ActionCodec) -> Any:
    plain = codec.encode
    return lambda chunk, valid: (
        plain(chunk, valid)[0],
        torch.arange(codec.length) < plain(chunk, valid)[1][:, :1] * 11,
    )


def _only_once(codec: ActionCodec, then: Callable[[Tensor], Tensor]) -> Any:
    """Decodes well what was encoded, and otherwise whatever is sampled."""
    plain, calls = codec.decode, []

    def decode(ids: Tensor) -> Tensor:
        calls.append(ids)
        return plain(ids) if len(calls) == 1 else then(plain(ids))

    return decode


def _with_encode(codec: ActionCodec, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Any:
    plain = codec.encode
    return lambda chunk, valid: change(*plain(chunk, valid))


BROKEN: dict[str, tuple[Callable[[ActionCodec], dict[str, Any]], str]] = {
    "cut": (
        lambda c: {"encode": _with_encode(c, lambda ids, learn: (ids[:, 1:], learn[:, 1:]))},
        r"encode: expected \(9, 12\)",
    ),
    "silent": (
        lambda c: {"encode": _with_encode(c, lambda ids, learn: (ids, torch.zeros_like(learn)))},
        "nothing to learn",
    ),
    "outside": (lambda c: {"encode": _with_encode(c, lambda ids, learn: (ids + c.size, learn))}, "ids outside of"),
    "ungrammatical": (
        lambda c: {"encode": _with_encode(c, lambda ids, learn: (ids.flip(1), learn))},
        "its own grammar does not allow",
    ),
    "two grammars": (lambda c: {"allowed": lambda before: torch.ones(9, c.size, dtype=torch.bool)}, "disagree"),
    "coarse": (lambda c: {"decode": lambda ids: torch.zeros(9, *SHAPE)}, r"is 0\.\d+ away from x, more than 0\.008"),
    "another shape": (lambda c: {"decode": _only_once(c, lambda chunk: chunk[:, 1:])}, r"decode: expected \(9, 4, 3\)"),
    "not finite": (lambda c: {"decode": _only_once(c, lambda chunk: chunk / 0)}, "not finite"),
    "dead end": (
        lambda c: {
            "allowed": _last_is_empty(c),
            "encode": _not_the_last(c),
            "grammar": lambda ids: ActionCodec.grammar(c, ids),
        },
        "nothing may follow",
    ),
    "wide": (
        lambda c: {
            "allowed": _widened(c),
            "grammar": lambda ids: ActionCodec.grammar(c, ids),
        },
        r"allowed: expected \(9, 384\), got \(9, 385\)",
    ),
}


def _widened(codec: ActionCodec) -> Any:
    plain = codec.allowed
    return lambda before: torch.cat([plain(before), plain(before)[:, :1]], dim=1)


@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_promise_is_found(promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = _codec("bins")
    parts, message = BROKEN[promise]
    for name, part in parts(codec).items():
        monkeypatch.setattr(codec, name, part)
    with pytest.raises(AssertionError, match=message):
        check_codec(codec, 0.99 * _chunks(9, seed=1), tolerance=TOLERANCE["bins"])


@pytest.mark.parametrize("name", CODECS)
def test_the_default_grammar_agrees(name: str) -> None:
    codec = _codec(name)
    ids, _ = codec.encode(_chunks(3, seed=2), torch.ones(3, *SHAPE, dtype=torch.bool))
    assert torch.equal(codec.grammar(ids), ActionCodec.grammar(codec, ids))
