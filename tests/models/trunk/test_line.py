"""A line of tokens is one extension of a prefix after the other, in fewer operations; a mistake in them is noticed."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vla.models.trunk import line
from vla.models.trunk.attention import Transformer
from vla.models.trunk.block import Norm
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.kernels import layer as kernels
from vla.models.trunk.line import CompiledLine, Line, StaticLine
from vla.models.trunk.sequence import Prefix, Reading, Segment

WIDTH, BATCH, LENGTH = 16, 3, 5
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "llama": {"rope": 100.0, "gated": True, "activation": "silu", "kv_heads": 1, "norm_eps": 0.1},
    "gemma": {"rope": 100.0, "gated": True, "norm_offset": True, "head_dim": 12},
    "qwen3": {"rope": 100.0, "gated": True, "activation": "silu", "qk_norm": True, "kv_heads": 2, "head_dim": 6},
    "sections": {"rope": 100.0, "rope_sections": (1, 1, 2)},
}
WAYS = {"compiled": CompiledLine, "operations": StaticLine}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _trunk(kind: str) -> Transformer:
    return _transformer(KINDS[kind])


def _transformer(settings: dict[str, Any]) -> Transformer:
    """Whose norms are no ones: what they multiply by must matter."""
    torch.manual_seed(0)
    trunk = Transformer(TransformerConfig(**{"width": WIDTH, "layers": 2, "heads": 2} | settings))
    for parameter in trunk.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return trunk


def _prefix(trunk: Transformer, room: int, batch: int = BATCH) -> Prefix:
    """Of two blocks, with padding."""
    valid = torch.tensor([[True, False, True], [True, True, True], [False, True, True]])
    first = Segment(x=_random(batch, 3, WIDTH), valid=valid[torch.arange(batch) % 3], block=0)
    second = Segment.of(_random(batch, 2, WIDTH, seed=1), 1)
    return Reading(trunk, {"first": first, "second": second}, room=room)


def _choose(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "operations":
        monkeypatch.setattr(line, "_MOST_ROWS", 0)


def _ahead(trunk: Transformer, batch: int = BATCH) -> Line:
    x = _random(batch, WIDTH).to(trunk.norm.weight.dtype)
    segment = Segment.of(x[:, None], 0)
    return Reading(trunk, {"all": segment}, room=LENGTH).ahead(trunk, x, LENGTH, 7)


def _line(trunk: Transformer, prefix: Prefix, tokens: Tensor) -> Tensor:
    ahead = prefix.ahead(trunk, tokens[:, 0], tokens.shape[1], 7)
    return torch.stack([ahead.read(x) for x in tokens.unbind(1)], dim=1)


def _extended(trunk: Transformer, prefix: Prefix, tokens: Tensor) -> Tensor:
    found = []
    for i, x in enumerate(tokens.split(1, dim=1)):
        hidden, prefix = prefix.extend(trunk, Segment.of(x, 7 + i))
        found.append(hidden)
    return torch.cat(found, dim=1)


@every_kind
@pytest.mark.parametrize(("way", "room"), [("compiled", 0), ("compiled", LENGTH), ("operations", LENGTH)])
def test_a_line_is_one_extension_after_the_other(
    kind: str, way: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _choose(way, monkeypatch)
    trunk = _trunk(kind)
    assert isinstance(_ahead(trunk), WAYS[way])
    prefix, other = _prefix(trunk, room), _prefix(trunk, 0)
    for length in (LENGTH, 2, LENGTH):  # where an earlier line has left its keys and values
        tokens = _random(BATCH, length, WIDTH, seed=length)
        ours, expected = _line(trunk, prefix, tokens), _extended(trunk, other, tokens)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("rope", [{}, {"rope": 100.0}, {"rope": 100.0, "rope_sections": (1, 1, 2)}])
def test_every_combination_compiled(rope: dict[str, Any], batch: int) -> None:
    names = ("qk_norm", "gated", "kv_heads", "norm_offset", "activation")
    both = (False, True)
    for values in product(both, both, (None, 1, 2), both, ("gelu_tanh", "silu")):
        settings = dict(zip(names, values, strict=True)) | {"heads": 4, "head_dim": 8, "mlp_ratio": 1.2}
        trunk = _transformer(rope | settings)  # 19 hidden units, which four do not divide
        tokens = _random(batch, 3, WIDTH, seed=2)
        ours = _line(trunk, _prefix(trunk, 3, batch), tokens)
        expected = _extended(trunk, _prefix(trunk, 0, batch), tokens)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5, msg=lambda text, v=values: f"{v}: {text}")
    assert len(kernels.layer.signatures) == 1, "arrays of another kind or order are compiled anew, which takes seconds"


def test_what_is_compiled_and_what_is_not() -> None:
    trunk = _trunk("llama")
    assert isinstance(_ahead(trunk, 8), CompiledLine)
    assert isinstance(_ahead(trunk, 9), StaticLine)
    with torch.autocast("cpu", torch.bfloat16):
        prefix = _prefix(trunk, LENGTH)
        assert isinstance(prefix.ahead(trunk, _random(BATCH, WIDTH), LENGTH, 7), StaticLine)
    assert isinstance(prefix.ahead(trunk, _random(BATCH, WIDTH), LENGTH, 7), StaticLine)  # its memory is bfloat16
    with _Seen():
        assert isinstance(_ahead(trunk), StaticLine)
    assert isinstance(_ahead(trunk.double()), StaticLine)


def _mistake(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attend, scale, turn = F.scaled_dot_product_attention, line._scale, line._Turns.of

    def unmasked(q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
        return attend(q, k, v, **settings | {"attn_mask": None})

    def one_late(self: Any, token: int) -> Any:
        return turn(self, max(0, token - 1))

    def other_way(self: Any, token: int) -> Any:
        found = turn(self, token)
        return found._replace(sin=-found.sin)

    def without(norm: Norm) -> Any:
        plain = Norm(len(norm.weight), TransformerConfig())
        plain.weight.copy_(norm.weight)  # neither its eps nor its offset
        return scale(plain)

    if name == "mask":
        monkeypatch.setattr(F, "scaled_dot_product_attention", unmasked)
    elif name == "norm":
        monkeypatch.setattr(line, "_scale", without)
    elif name == "activation":
        monkeypatch.setattr(line, "_gelu", F.relu)
    else:
        monkeypatch.setattr(line._Turns, "of", one_late if name == "turned late" else other_way)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("plain", name) for name in ("mask", "activation")),
        *(("llama", name) for name in ("norm", "turned late", "turned back")),
        *(("gemma", name) for name in ("norm", "activation")),
    ],
)
def test_a_mistake_is_noticed(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, tokens = _trunk(kind), _random(BATCH, LENGTH, WIDTH, seed=2)
    expected = _extended(trunk, _prefix(trunk, 0), tokens)
    _choose("operations", monkeypatch)
    _mistake(name, monkeypatch)
    assert (_line(trunk, _prefix(trunk, LENGTH), tokens) - expected).abs().max() > 1e-3


def _compiled_mistake(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the functions as they are written: what is compiled cannot be changed."""
    for part in ("layer", "norm", "_scale", "_multiply", "_turn", "_attend", "_open"):
        monkeypatch.setattr(kernels, part, getattr(kernels, part).py_func)
    attend, scale, turn, open_ = kernels._attend, kernels._scale, kernels._turn, kernels._open
    wrong: dict[str, tuple[str, Any]] = {
        "none": ("_scale", scale),
        "mask": ("_attend", lambda q, k, v, bias, stop, into: attend(q, k, v, 0 * bias.clip(0), stop, into)),
        "itself": ("_attend", lambda q, k, v, bias, stop, into: attend(q, k, v, bias, stop - 1, into)),
        "turned back": ("_turn", lambda x, by: turn(x, by * np.array([[1], [-1]], np.float32))),
        "activation": ("_open", lambda x, silu: open_(x, not silu)),
        "eps": ("_scale", lambda x, weight, eps, into: scale(x, weight, 0.0, into)),
    }
    monkeypatch.setattr(kernels, *wrong[name])


@pytest.mark.parametrize("name", ["none", "mask", "itself", "turned back", "activation", "eps"])
def test_a_mistake_in_what_is_compiled_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, tokens = _trunk("llama"), _random(BATCH, LENGTH, WIDTH, seed=2)
    expected = _extended(trunk, _prefix(trunk, 0), tokens)
    _compiled_mistake(name, monkeypatch)
    off = float((_line(trunk, _prefix(trunk, LENGTH), tokens) - expected).abs().max())
    assert off < 1e-5 if name == "none" else off > 1e-3


def test_in_less_precision_what_is_added_to_keeps_its_own() -> None:
    trunk, tokens = _trunk("llama"), _random(BATCH, LENGTH, WIDTH, seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        ours = _line(trunk, _prefix(trunk, LENGTH), tokens)
        theirs = _extended(trunk, _prefix(trunk, LENGTH), tokens)
    assert ours.dtype == theirs.dtype == torch.float32
    exact = _extended(trunk, _prefix(trunk, 0), tokens)
    assert (ours - exact).abs().mean() < 1.3 * (theirs - exact).abs().mean()


class _Seen(TorchDispatchMode):
    """The operations that run, with the shapes of what they take."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append((str(func), tuple(tuple(a.shape) for a in args if isinstance(a, Tensor))))
        return func(*args, **kwargs or {})


@every_kind
def test_every_token_runs_the_same_operations_on_the_same_shapes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read back from the device, and no shape grows with the sequence."""
    _choose("operations", monkeypatch)
    trunk = _trunk(kind)
    prefix, x = _prefix(trunk, LENGTH), _random(BATCH, WIDTH)
    ahead = prefix.ahead(trunk, x, LENGTH, 7)
    assert isinstance(ahead, StaticLine)
    runs = []
    for _ in range(LENGTH):
        with _Seen() as seen:
            ahead.read(x)
        runs.append(seen.calls)
    names = {name for name, _ in runs[0]}
    waits = ("_local_scalar_dense", "nonzero", "lift_fresh")  # for the device, or for what the host copies there
    assert not {name for name in names if any(word in name for word in waits)}
    assert all(run == runs[0] for run in runs)
    assert 2 * 18 < len(runs[0]) <= 2 * 45 + 6


def test_more_than_there_is_room_for_is_refused() -> None:
    trunk = _trunk("plain")
    with pytest.raises(RuntimeError, match="room for 9 tokens, 5 are taken and 5 more do not fit"):
        _prefix(trunk, LENGTH - 1).ahead(trunk, _random(BATCH, WIDTH), LENGTH, 7)
