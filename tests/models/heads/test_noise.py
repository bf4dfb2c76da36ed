"""Noise by seed: normal, the same for the same seed wherever it is drawn, and another for any other."""

import math

import pytest
import torch
from torch import Tensor

from vla.models.heads import noise
from vla.models.heads.noise import seeded_normal


def _many() -> Tensor:
    """Of neighbouring seeds, as episodes have them."""
    return seeded_normal(torch.arange(4000), 8, 5).flatten(1)  # (4000, 40)


def _oddities(x: Tensor) -> dict[str, float]:
    """How far from independent standard normal numbers, in standard errors."""
    n, correlations = x.numel(), torch.corrcoef(x.T) - torch.eye(x.shape[1])
    neighbours = (x[1:] * x[:-1]).mean()  # of seed and next seed
    inside = torch.tensor([(x.abs() < limit).float().mean() - math.erf(limit / 2**0.5) for limit in (0.5, 1.0, 2.0)])
    return {
        "mean": abs(x.mean().item()) * n**0.5,
        "variance": abs(x.var().item() - 1) * (n / 2) ** 0.5,
        "kurtosis": abs((x**4).mean().item() - 3) * (n / 96) ** 0.5,
        "places": correlations.abs().max().item() * len(x) ** 0.5 / 1.5,  # the largest of 780
        "seeds": abs(neighbours.item()) * n**0.5,
        "tails": inside.abs().max().item() * n**0.5 / 0.5,
    }


def test_it_is_normal_and_independent() -> None:
    assert max(_oddities(_many()).values()) < 4


@pytest.mark.parametrize("mutant", [lambda x: x, lambda x: x * 6364136223846793005], ids=["not mixed", "multiplied"])
def test_a_weaker_hash_is_noticed(mutant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_mix", mutant)
    assert max(_oddities(_many()).values()) > 8


def test_a_seed_decides_alone() -> None:
    seeds = torch.tensor([7, -3, 7, 2**62, 0])
    together = seeded_normal(seeds, 3, 4)
    assert together.shape == (5, 3, 4)
    assert torch.equal(together[0], together[2])
    assert len(together.flatten(1).unique(dim=0)) == 4
    alone = torch.cat([seeded_normal(seed[None], 3, 4) for seed in seeds])
    assert torch.equal(alone, together)


def test_it_is_what_it_was() -> None:
    """Checkpoints must answer tomorrow as they did when they were evaluated."""
    expected = torch.tensor([[[0.225174, -1.158689], [-1.235154, 0.12005]]])
    torch.testing.assert_close(seeded_normal(torch.tensor([1]), 2, 2), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
def test_a_gpu_draws_the_same() -> None:
    seeds = torch.arange(100)
    torch.testing.assert_close(
        seeded_normal(seeds.cuda(), 8, 5).cpu(), seeded_normal(seeds, 8, 5), atol=1e-5, rtol=1e-5
    )
