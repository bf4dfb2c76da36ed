"""The attention rule, measured: gradients are exactly zero where it forbids to look, and nowhere else."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vla.core.errors import ConfigError
from vla.models.trunk.attention import Transformer, attention_mask
from vla.models.trunk.cache import GrowingCache
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.sequence import Segment

WIDTH = 16
RULES = {
    "bidirectional": [0, 0, 0, 0, 0, 0],
    "prefix-LM": [0, 0, 0, 1, 1, 1],
    "causal": [0, 1, 2, 3, 4, 5],
    "block-causal": [0, 0, 1, 1, 2, 2],
}


PLAIN: dict[str, Any] = {}
MODERN: dict[str, Any] = {"rope": 100.0, "gated": True, "activation": "silu", "qk_norm": True, "kv_heads": 1}
every_kind = pytest.mark.parametrize("settings", [PLAIN, MODERN], ids=["plain", "modern"])


def _transformer(layers: int, **settings: Any) -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(width=WIDTH, layers=layers, heads=2, **settings))


def _tokens(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(1))


def _influence(mask: Tensor, length: int, settings: dict[str, Any]) -> Tensor:
    """(i, j): whether any output of token i changes with any input of token j, for one layer."""
    model = _transformer(layers=1, **settings)
    x = _tokens(1, length)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x, mask)[0], x)  # (1, i, e, 1, j, e)
    return jacobian[0, :, :, 0].abs().amax(dim=(1, 3)) > 0


def _allowed(block: list[int], valid: list[bool], segment: list[int]) -> Tensor:
    """The rule, spelled out."""
    n = range(len(block))
    return torch.tensor(
        [[i == j or (segment[i] == segment[j] and block[j] <= block[i] and valid[j]) for j in n] for i in n]
    )


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("segments", [False, True])
@every_kind
def test_no_gradient_leaks(name: str, padded: bool, segments: bool, settings: dict[str, Any]) -> None:
    block = RULES[name]
    valid = [True, not padded, True, True, True, not padded]
    segment = [0, 0, 0, 1, 1, 1] if segments else [0] * 6
    mask = attention_mask(torch.tensor([block]), torch.tensor([valid]), torch.tensor([segment]))
    assert torch.equal(_influence(mask, 6, settings), _allowed(block, valid, segment))


@given(seed=st.integers(0, 9999))
def test_mask_is_the_rule(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    block, segment = (torch.randint(0, 4, (1, 9), generator=random) for _ in range(2))
    valid = torch.rand(1, 9, generator=random) < 0.7
    mask = attention_mask(block, valid, segment)
    assert torch.equal(mask[0], _allowed(block[0].tolist(), valid[0].tolist(), segment[0].tolist()))
    assert torch.equal(attention_mask(block, valid, segment, start=5), mask[:, -4:])
    assert torch.equal(attention_mask(block, valid, segment, start=2, stop=5), mask[:, 2:5])
    assert torch.equal(attention_mask(block[0], valid, segment[0]), mask)


def test_equals_scaled_dot_product_attention() -> None:
    model = _transformer(layers=1)
    block = model.blocks[0]
    x = _tokens(2, 6)
    mask = attention_mask(torch.tensor([RULES["prefix-LM"]] * 2), torch.ones(2, 6, dtype=torch.bool))
    q, k, v = block.qkv(block.norm_attention(x)).unflatten(-1, (3, 2, WIDTH // 2)).permute(2, 0, 3, 1, 4)
    read = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
    y = x + block.out(read.transpose(1, 2).flatten(2))
    y = y + block.down(torch.nn.functional.gelu(block.up(block.norm_mlp(y)), approximate="tanh"))
    torch.testing.assert_close(model(x, mask)[0], model.norm(y), atol=1e-5, rtol=1e-5)


def test_a_row_without_valid_tokens_is_finite() -> None:
    mask = attention_mask(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.bool))
    out, _ = _transformer(layers=2)(_tokens(1, 4), mask)
    assert torch.isfinite(out).all()


def test_heads_may_be_of_any_size() -> None:
    """Of 5 channels, which no share of the width is; and their number goes into every matrix."""
    model = _transformer(layers=1, head_dim=5, kv_heads=1)
    block = model.blocks[0]
    assert {name: tuple(p.shape) for name, p in block.named_parameters() if p.ndim == 2} == {
        **{"qkv.weight": (20, 16), "out.weight": (16, 10), "up.weight": (32, 16), "down.weight": (16, 32)}
    }
    out, _ = model(_tokens(2, 4), torch.ones(2, 4, 4, dtype=torch.bool))
    assert out.shape == (2, 4, WIDTH)


def test_shared_keys_equal_copied_ones() -> None:
    """Four heads that share two keys equal four heads of keys, of which each is there twice."""
    settings = MODERN | {"heads": 4}
    torch.manual_seed(0)
    shared, copied = (
        Transformer(TransformerConfig(width=WIDTH, layers=1, **settings | {"kv_heads": n})) for n in (2, 4)
    )
    weights = shared.state_dict()
    q, k, v = weights["blocks.0.qkv.weight"].split([16, 8, 8])
    twice = [part.view(2, 1, 4, 16).expand(-1, 2, -1, -1).reshape(16, 16) for part in (k, v)]
    copied.load_state_dict(weights | {"blocks.0.qkv.weight": torch.cat([q, *twice])})
    mask = attention_mask(torch.tensor([RULES["causal"]] * 2), torch.ones(2, 6, dtype=torch.bool))
    ours, theirs = (model(_tokens(2, 6), mask)[0] for model in (shared, copied))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@every_kind
def test_computing_blocks_again_changes_no_gradient(settings: dict[str, Any]) -> None:
    mask = attention_mask(torch.tensor([RULES["prefix-LM"]] * 2), torch.ones(2, 6, dtype=torch.bool))
    gradients = []
    for recompute in (False, True):
        model, x = _transformer(layers=2, recompute=recompute, **settings), _tokens(2, 6).requires_grad_()
        hidden, _ = model(x, mask)
        hidden.square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_computing_blocks_again_keeps_little() -> None:
    """What the blocks compute on the way is not kept for the gradients."""
    kept = []
    for recompute in (False, True):
        model, x = _transformer(layers=4, recompute=recompute), _tokens(2, 6).requires_grad_()
        saved: list[int] = []

        def keep(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(x, torch.ones(2, 6, 6, dtype=torch.bool))
        kept.append(sum(saved))
    assert kept[1] < kept[0] / 5


def test_positions_behind_others_must_be_said() -> None:
    model = _transformer(layers=1, **MODERN)
    cache = GrowingCache().extended(Segment.of(_tokens(1, 3), 0).marks())
    model(_tokens(1, 3), torch.ones(1, 3, 3, dtype=torch.bool), cache)
    longer = cache.extended(Segment.of(_tokens(1, 1), 1).marks())
    with pytest.raises(AssertionError, match="positions are missing"):
        model(_tokens(1, 1), torch.ones(1, 1, 4, dtype=torch.bool), longer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 4, "kv_heads": 3}, "heads=4 must be a multiple of model.trunk.kv_heads=3"),
        ({"kv_heads": 0}, "kv_heads=0 must be at least 1"),
        ({"rope": -1.0}, "rope=-1.0 must be positive"),
        ({"rope": 1e4, "head_dim": 5}, "a head has 5: make head_dim even"),
        ({"rope": 1e4, "rope_sections": (4, 4)}, r"rope_sections=\[4, 4\] must be three numbers .* whose sum is 16"),
        ({"rope": 1e4, "rope_sections": (4, 4, 4)}, "whose sum is 16, half of a head's channels"),
        ({"rope_sections": (8, 4, 4)}, "rope must be set"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TransformerConfig(**settings)
