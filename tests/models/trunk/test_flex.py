"""FlexAttention computes what the dense mask does, under the one rule."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.core.errors import ConfigError
from vla.models.trunk import attention
from vla.models.trunk.attention import Transformer
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.packing import pack
from vla.models.trunk.sequence import Reading, Segment

WIDTH = 32
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
MODERN: dict[str, Any] = {"rope": 100.0, "gated": True, "activation": "silu", "qk_norm": True, "kv_heads": 1}
every_kind = pytest.mark.parametrize("settings", [{}, MODERN], ids=["plain", "modern"])


def _trunks(settings: dict[str, Any]) -> list[Transformer]:
    """The same weights with each backend."""
    config = TransformerConfig(width=WIDTH, layers=2, heads=2, **settings)
    torch.manual_seed(0)
    trunks = [Transformer(replace(config, attention=backend)) for backend in ("dense", "flex")]
    trunks[1].load_state_dict(trunks[0].state_dict())
    return trunks


def _segments() -> dict[str, Segment]:
    random = torch.Generator().manual_seed(0)
    return {
        f"part {block}": Segment(
            x=torch.randn(2, length, WIDTH, generator=random),
            valid=torch.rand(2, length, generator=random) < 0.8,
            block=block,
        )
        for block, length in enumerate((150, 7))
    }


def _read(trunk: Transformer, segments: dict[str, Segment], packed: bool, room: int) -> Tensor:
    """All there is, then one more segment behind it."""
    if packed:
        segments = {"row": pack([[segment] for segment in segments.values()])}
    prefix = Reading(trunk, segments, room=room)
    hidden = prefix.hidden
    x = next(iter(segments.values())).x[:, :3]
    return torch.cat([*hidden.values(), prefix.extend(trunk, Segment.of(x, 2))[0]], dim=1)


@every_kind
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("room", [0, 5], ids=["growing", "static"])
@torch.no_grad()
def test_forward_is_that_of_the_dense_mask(settings: dict[str, Any], packed: bool, room: int) -> None:
    ours, theirs = (_read(trunk, _segments(), packed, room) for trunk in _trunks(settings))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, flex = _trunks({})
    expected = _read(dense, _segments(), False, 0)
    rule = attention.may_look
    monkeypatch.setattr(attention, "may_look", lambda s, b, ts, tb, tv, i: rule(s, b, ts, tb, torch.ones_like(tv), i))
    assert (_read(flex, _segments(), False, 0) - expected).abs().max() > 1e-3


def test_gradients_on_a_cpu_are_refused() -> None:
    with pytest.raises(ConfigError, match="attention=flex has no gradients on a CPU; set it to auto or dense"):
        _read(_trunks({})[1], _segments(), False, 0)


@pytest.mark.gpu
@every_kind
@pytest.mark.parametrize("packed", [False, True])
def test_gradients_are_those_of_the_dense_mask(settings: dict[str, Any], packed: bool) -> None:
    gradients = []
    for trunk in _trunks(settings):
        cuda = trunk.cuda()
        segments = {
            name: replace(part, x=part.x.cuda().requires_grad_(), valid=part.valid.cuda())
            for name, part in _segments().items()
        }
        _read(cuda, segments, packed, 0).square().sum().backward()
        gradients.append([*(p.grad for p in cuda.parameters()), *(part.x.grad for part in segments.values())])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
