"""Packed sequences equal separate ones, and nothing leaks from one to another."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from vla.models.trunk.attention import Transformer
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.packing import pack
from vla.models.trunk.sequence import Reading, Segment

WIDTH = 16
MODERN: dict[str, Any] = {
    **{"rope": 100.0, "rope_sections": (2, 1, 1), "gated": True, "activation": "silu", "qk_norm": True, "kv_heads": 1}
}
every_kind = pytest.mark.parametrize("settings", [{}, MODERN], ids=["plain", "modern"])


def _trunk(layers: int, **settings: Any) -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(width=WIDTH, layers=layers, heads=2, **settings)
    return Transformer(config).requires_grad_(False)


def _sequences() -> list[list[Segment]]:
    """Text and a picture behind it; tokens one after the other; padding among some."""
    random = torch.Generator().manual_seed(0)

    def segment(length: int, block: Any) -> Segment:
        valid = torch.rand(2, length, generator=random) < 0.8
        return Segment(x=torch.randn(2, length, WIDTH, generator=random), valid=valid, block=block)

    place = torch.cartesian_prod(torch.tensor([0]), torch.arange(2), torch.arange(3))
    picture = replace(segment(6, 0), position=place)
    return [[segment(3, 0), picture, segment(2, 1)], [segment(4, torch.arange(4))], [segment(2, 0), segment(3, 1)]]


@every_kind
def test_packed_equals_separate(settings: dict[str, Any]) -> None:
    trunk, sequences = _trunk(3, **settings), _sequences()
    row = pack(sequences)
    packed = Reading(trunk, {"row": row}).hidden
    start = 0
    for parts in sequences:
        alone = Reading(trunk, {str(i): part for i, part in enumerate(parts)}).hidden
        for hidden in alone.values():
            ours = packed["row"][:, start : start + hidden.shape[1]]
            torch.testing.assert_close(ours, hidden, atol=1e-5, rtol=1e-5)
            start += hidden.shape[1]
    assert start == row.x.shape[1]


def test_positions_begin_anew() -> None:
    row = pack(_sequences())
    assert isinstance(row.position, torch.Tensor)
    assert row.position[:, 2].tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 0, 1, 2, 3, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("forgotten", ["segment", "position"])
def test_what_is_forgotten_is_noticed(forgotten: str) -> None:
    """Without numbers of segments, or without places, the sequences are read otherwise."""
    trunk, sequences = _trunk(1, **MODERN), _sequences()
    row = pack(sequences)
    wrong: dict[str, Any] = {"segment": 0} if forgotten == "segment" else {"position": None}
    good, bad = (Reading(trunk, {"row": r}).hidden["row"] for r in (row, replace(row, **wrong)))
    assert not torch.allclose(good, bad, atol=1e-3)


@every_kind
def test_no_gradient_leaks_from_one_sequence_to_another(settings: dict[str, Any]) -> None:
    trunk, row = _trunk(2, **settings), pack(_sequences())
    first = replace(row, x=row.x[:1], valid=row.valid[:1])

    def run(x: torch.Tensor) -> torch.Tensor:
        return Reading(trunk, {"row": replace(first, x=x)}).hidden["row"]

    jacobian = torch.autograd.functional.jacobian(run, first.x)[0, :, :, 0].abs().amax(dim=(1, 3))  # (i, j)
    assert isinstance(row.segment, torch.Tensor)
    apart = row.segment[:, None] != row.segment
    assert not jacobian[apart].any()
    assert (jacobian[~apart] > 0).float().mean() > 0.5
