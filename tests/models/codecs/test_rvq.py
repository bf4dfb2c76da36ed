"""Residual vectors: each level corrects those before it, and the same data and seed give the same centroids."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.models.codecs.chunks import everything, smooth
from vla.core.errors import ConfigError, ContractError
from vla.models.codecs.codec import ActionCodec
from vla.models.codecs.config import RvqConfig


def _error(codec: ActionCodec, chunks: Tensor) -> float:
    ids, _ = codec.encode(chunks, everything(chunks))
    return (codec.decode(ids) - chunks).square().mean().item()


def _build(chunks: Tensor, **changes: Any) -> ActionCodec:
    config = RvqConfig(**changes)
    return config.build(config.fit(chunks))


def test_each_level_corrects_those_before_it() -> None:
    fit, held_out = smooth(1500), smooth(200, seed=1)
    spread = (held_out - fit.mean(dim=0)).square().mean().item()
    errors = [_error(_build(fit, levels=levels, codes=32), held_out) for levels in (1, 2, 4)]
    assert errors[0] < 0.3 * spread
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.7 * errors[1]


def test_groups_divide_what_centroids_must_cover() -> None:
    fit, held_out = smooth(1500), smooth(200, seed=1)
    whole, halves = (_build(fit, levels=1, codes=32, groups=groups) for groups in (1, 2))
    assert (whole.length, halves.length) == (1, 2)
    assert _error(halves, held_out) < _error(whole, held_out)


@settings(max_examples=10)
@given(groups=st.integers(1, 5), levels=st.integers(1, 3), h=st.integers(5, 9))
def test_tokens_spell_the_sum_of_their_centroids(groups: int, levels: int, h: int) -> None:
    chunks = smooth(60, shape=(h, 2))
    config = RvqConfig(groups=groups, levels=levels, codes=8)
    fitted = config.fit(chunks)
    codec = config.build(fitted)
    ids = torch.stack([torch.randint(8 * i, 8 * i + 8, (3,)) for i in range(codec.length)], dim=1)
    steps = -(-h // groups)
    decoded = codec.decode(ids)
    for row in range(3):
        for group in range(groups):
            wanted = torch.zeros(steps * 2)
            for level in range(levels):
                wanted += torch.tensor(fitted["centroids"][group][level][int(ids[row, group * levels + level]) % 8])
            there = decoded[row, group * steps : (group + 1) * steps]
            torch.testing.assert_close(there, wanted.view(steps, 2)[: len(there)])


def test_k_means_finds_what_there_is() -> None:
    """Clusters far apart are found whatever it begins with: without moving idle centroids some would be missed."""
    centres = 10 * torch.eye(24).view(24, 8, 3)
    chunks = centres.repeat(20, 1, 1) + 0.01 * smooth(480)
    for seed in range(3):
        assert _error(_build(chunks, groups=1, levels=1, codes=24, seed=seed), chunks) < 1e-3


def test_the_seed_decides() -> None:
    fits = [RvqConfig(codes=16, seed=seed).fit(smooth(300)) for seed in (0, 0, 1)]
    assert fits[0] == fits[1] != fits[2]


def test_fewer_chunks_than_codes_are_all_centroids() -> None:
    codec = _build(smooth(7), groups=1, levels=1)
    assert codec.size == 7
    assert _error(codec, smooth(7)) < 1e-6


def test_json_is_exact() -> None:
    fitted = RvqConfig(codes=16).fit(smooth(100))
    assert RvqConfig().build(json.loads(json.dumps(fitted))).to_json() == fitted


def test_more_groups_than_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"codec\.groups=9 is more than the 8 steps"):
        RvqConfig(groups=9).fit(smooth(50))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"dims": 4}, r"'centroids' .* shape \(2, any, any, 16\), got shape \(2, 4, 16, 12\)"),
        ({"centroids": []}, "'centroids' .* got shape"),
        ({"centroids": [[[["x"]]]]}, "'centroids' .* got "),
        ({"centroids": [[[[float("nan")]]]]}, "'centroids' .* got some that are not"),
    ],
)
def test_a_damaged_contract_is_refused(damage: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        RvqConfig().build({**RvqConfig(codes=16).fit(smooth(50)), **damage})
