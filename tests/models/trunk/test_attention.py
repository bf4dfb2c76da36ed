"""The attention rule, measured: gradients are exactly zero where it forbids to look, and nowhere else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vla.models.trunk.attention import Cache, Transformer, attention_mask
from vla.models.trunk.config import TransformerConfig

WIDTH = 16
RULES = {
    "bidirectional": [0, 0, 0, 0, 0, 0],
    "prefix-LM": [0, 0, 0, 1, 1, 1],
    "causal": [0, 1, 2, 3, 4, 5],
    "block-causal": [0, 0, 1, 1, 2, 2],
}


def _transformer(layers: int) -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(width=WIDTH, layers=layers, heads=2))


def _tokens(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(1))


def _influence(mask: Tensor, length: int) -> Tensor:
    """(i, j): whether any output of token i changes with any input of token j, for one layer."""
    model = _transformer(layers=1)
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
def test_no_gradient_leaks(name: str, padded: bool, segments: bool) -> None:
    block = RULES[name]
    valid = [True, not padded, True, True, True, not padded]
    segment = [0, 0, 0, 1, 1, 1] if segments else [0] * 6
    mask = attention_mask(torch.tensor([block]), torch.tensor([valid]), torch.tensor([segment]))
    assert torch.equal(_influence(mask, 6), _allowed(block, valid, segment))


@given(seed=st.integers(0, 9999))
def test_mask_is_the_rule(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    block, segment = (torch.randint(0, 4, (1, 9), generator=random) for _ in range(2))
    valid = torch.rand(1, 9, generator=random) < 0.7
    mask = attention_mask(block, valid, segment)
    assert torch.equal(mask[0], _allowed(block[0].tolist(), valid[0].tolist(), segment[0].tolist()))
    assert torch.equal(attention_mask(block, valid, segment, queries=4), mask[:, -4:])


@pytest.mark.parametrize("sizes", [[1] * 8, [3, 5], [2, 1, 5], [8]])
def test_cache_equals_the_full_computation(sizes: list[int]) -> None:
    model = _transformer(layers=3)
    x = _tokens(2, 8)
    block = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).expand(2, 8)
    valid = torch.tensor([[True] * 8, [True, False, True, True, False, True, True, True]])
    full, _ = model(x, attention_mask(block, valid))
    pieces, cache, done = [], Cache(), 0
    for size in sizes:
        end = done + size
        mask = attention_mask(block[:, :end], valid[:, :end], queries=size)
        piece, cache = model(x[:, done:end], mask, cache)
        pieces.append(piece)
        done = end
    torch.testing.assert_close(torch.cat(pieces, dim=1), full, atol=1e-5, rtol=1e-5)


def test_packed_segments_equal_separate_samples() -> None:
    model = _transformer(layers=3)
    x = _tokens(1, 7)
    block = torch.tensor([[0, 0, 1, 0, 1, 2, 3]])
    segment = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    valid = torch.ones(1, 7, dtype=torch.bool)
    packed, _ = model(x, attention_mask(block, valid, segment))
    for part in (slice(0, 3), slice(3, 7)):
        alone, _ = model(x[:, part], attention_mask(block[:, part], valid[:, part]))
        torch.testing.assert_close(packed[:, part], alone, atol=1e-5, rtol=1e-5)


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
