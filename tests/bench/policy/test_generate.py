"""Ours and transformers' ``generate`` write the same tokens from the same weights, or their times are not compared."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from vla.bench.policy.generate import SameWeights, same_weights
from vla.bench.tabletop import INTERFACE, random_batch
from vla.core.errors import ConfigError
from vla.models.heads.tokens import TokensHead
from vla.models.trunk.config import TransformerConfig

TRUNK = TransformerConfig(
    width=24, layers=2, heads=6, kv_heads=2, head_dim=8, rope=1e4, gated=True, activation="silu", norm_eps=1e-6
)
INTERFACE = replace(INTERFACE, action=3, horizon=4)


def _both(**changes: Any) -> SameWeights:
    inputs, device = random_batch(2).inputs, torch.device("cpu")
    both = same_weights(replace(TRUNK, **changes), INTERFACE, inputs, length=9, device=device, seed=0)
    with torch.no_grad():  # so that each token rests upon those before it
        for parameter in (*both.trunk.parameters(), *both.theirs.parameters()):
            if parameter.ndim == 1:
                continue
            parameter.mul_(8.0)
        both.table.weight.mul_(8.0)
    return both


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 6}, {"kv_heads": None, "layers": 1}])
def test_both_write_the_same_tokens(changes: dict[str, Any]) -> None:
    both = _both(**changes)
    both.require_same_tokens()
    ours = both.ours()
    assert ours.shape == (2, 12)
    assert len(ours.unique()) > 8
    joints = torch.arange(12) % 3
    assert torch.equal(ours // 128, joints.expand(2, -1))  # the grammar: bins of the joint that is due
    assert both.at_once().shape == (2, 4, 3)


@pytest.mark.parametrize("mistake", ["weight", "prefix", "position", "count"])
def test_what_differs_is_refused(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both = _both()
    with torch.no_grad():
        if mistake == "weight":
            both.trunk.get_parameter("blocks.1.qkv.weight")[:48] *= -1
        elif mistake == "prefix":
            shown = both.prefix.clone()
            monkeypatch.setattr(
                SameWeights,
                "_read",
                lambda self, room, read=SameWeights._read: read(replace(self, prefix=-shown), room),
            )
        elif mistake == "position":
            both.tokens.position.normal_()
        else:
            write = TokensHead.write
            monkeypatch.setattr(TokensHead, "write", lambda *args: write(*args)[:, 1:])
    with pytest.raises(ConfigError, match=r"agree on .* tokens .*expected all: they do not compute the same"):
        both.require_same_tokens()
