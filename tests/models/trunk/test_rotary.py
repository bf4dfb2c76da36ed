"""Rotary positions: scores depend on distances, and text along three axes is text along one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vla.models.trunk.rotary import rotate, turns

SIZE = 16


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _scores(position: Tensor, sections: tuple[int, ...]) -> Tensor:
    by = turns(position, SIZE, 100.0, sections)
    q, k = (rotate(_random(1, 2, len(position), SIZE) + i, by) for i in range(2))
    return q @ k.transpose(-1, -2)


@pytest.mark.parametrize("sections", [(), (4, 2, 2)])
@given(shift=st.integers(-50, 1000))
def test_scores_see_distances_alone(sections: tuple[int, ...], shift: int) -> None:
    position = torch.tensor([[0, 0, 0], [3, 1, 4], [1, 5, 9], [2, 6, 5]])
    torch.testing.assert_close(_scores(position + shift, sections), _scores(position, sections), atol=2e-3, rtol=1e-3)
    assert not torch.allclose(_scores(2 * position, sections), _scores(position, sections), atol=1e-2)


@given(length=st.integers(1, 9), start=st.integers(0, 99))
def test_text_along_three_axes_is_text_along_one(length: int, start: int) -> None:
    position = (start + torch.arange(length))[:, None].expand(-1, 3)
    for ours, plain in zip(turns(position, SIZE, 1e4, (4, 2, 2)), turns(position, SIZE, 1e4), strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("axis", range(3))
def test_each_axis_turns_its_own_pairs(axis: int) -> None:
    sections = (4, 1, 3)
    position = torch.zeros(1, 3, dtype=torch.long)
    position[0, axis] = 1
    turned = turns(position, SIZE, 100.0, sections).sin[0, : SIZE // 2] != 0
    begin = sum(sections[:axis])
    assert turned.nonzero()[:, 0].tolist() == list(range(begin, begin + sections[axis]))


def test_it_is_that_of_qwen2_vl() -> None:
    from transformers import Qwen2VLTextConfig
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding, apply_rotary_pos_emb

    position = torch.tensor([[0, 0, 0], [3, 1, 4], [1, 5, 9], [2, 6, 5]])
    q, k = _random(2, 3, 4, SIZE), _random(2, 1, 4, SIZE)
    rope = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [4, 1, 3]}
    config = Qwen2VLTextConfig(hidden_size=SIZE, num_attention_heads=1, rope_parameters=rope)
    theirs = apply_rotary_pos_emb(q, k, *Qwen2VLRotaryEmbedding(config)(q, position.T[:, None]))
    by = turns(position, SIZE, 100.0, (4, 1, 3))
    for ours, expected in zip((rotate(q, by), rotate(k, by)), theirs, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
    swapped = turns(position, SIZE, 100.0, (4, 3, 1))
    assert not torch.allclose(rotate(q, swapped), theirs[0], atol=1e-2)


def test_lengths_stay_and_so_does_the_precision() -> None:
    x = _random(1, 2, 3, SIZE)
    by = turns(torch.tensor([[5, 5, 5], [300, 300, 300], [301, 301, 301]]), SIZE, 1e4)
    torch.testing.assert_close(rotate(x, by).norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16(), by).dtype == torch.bfloat16
    assert not torch.equal(by.cos[1], by.cos[2])
