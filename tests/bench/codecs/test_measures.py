"""Each measure on tokens of which it is known: what says the same, what wastes, what depends, what fails."""

import pytest
import torch
from torch import Tensor

from tests.models.codecs.chunks import smooth
from vla.bench.codecs.measures import dependence, failures, measure_codec, overlap, redundancy, written
from vla.models.codecs.codec import ActionCodec
from vla.models.codecs.config import BinsConfig, CodecConfig, FastConfig, SplineConfig


def _codec(config: CodecConfig) -> ActionCodec:
    return config.build(config.fit(smooth(500)))


def _random(high: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def _all(ids: Tensor) -> Tensor:
    return torch.ones_like(ids, dtype=torch.bool)


def test_overlap_counts_what_both_say_at_a_place() -> None:
    ids, later = torch.tensor([[1, 2, 3, 9]]), torch.tensor([[1, 5, 3, 9]])
    said, said_later = torch.tensor([[True, True, True, False]]), torch.tensor([[True, True, False, False]])
    assert overlap(ids, said, later, said_later) == pytest.approx(1 / 3)
    assert overlap(ids, said, ids, said) == 1.0


def test_redundancy_is_what_entropy_lacks() -> None:
    choices = torch.full((20_000, 2), 16)
    ids = torch.cat([_random(16, (20_000, 1)), _random(4, (20_000, 1))], dim=1)
    for column, wanted in ((0, 0.0), (1, 0.5)):  # 4 of 16 ids: 2 of 4 bits
        one = ids[:, column : column + 1]
        assert redundancy(one, _all(one), choices[:, :1]) == pytest.approx(wanted, abs=0.01)
    assert redundancy(ids, _all(ids), choices) == pytest.approx(0.25, abs=0.01)
    assert redundancy(ids, _all(ids), torch.ones_like(choices)) == 0.0  # no choice, no waste


def test_entropy_of_few_samples_is_corrected() -> None:
    ids = _random(64, (200, 1))
    assert redundancy(ids, _all(ids), torch.full((200, 1), 64)) < 0.02  # 0.04 without


def test_dependence_tells_copies_from_strangers() -> None:
    first = _random(32, (3000, 1))
    strangers = _random(32, (3000, 1), seed=1)
    assert dependence(torch.cat([first, strangers], dim=1), _all(first).expand(-1, 2)) < 0.02
    assert dependence(torch.cat([first, 31 - first], dim=1), _all(first).expand(-1, 2)) > 0.98
    half = torch.where(_random(2, (3000, 1), seed=2) == 0, first, strangers)
    assert 0.2 < dependence(torch.cat([first, half], dim=1), _all(first).expand(-1, 2)) < 0.8
    assert dependence(torch.zeros(50, 3, dtype=torch.long), torch.ones(50, 3, dtype=torch.bool)) == 0.0


def test_padding_is_not_written() -> None:
    codec = _codec(FastConfig(vocabulary=200))
    ids, learn = codec.encode(smooth(9, seed=1), torch.ones(9, 8, 3, dtype=torch.bool))
    assert torch.equal(written(codec, ids), learn)


@pytest.mark.parametrize("part", ["decode", "allowed"])
def test_failures_are_counted(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = _codec(BinsConfig(bins=4))
    assert failures(codec, 300) == 0
    plain = getattr(codec, part)
    if part == "decode":

        def broken(ids: Tensor) -> Tensor:
            if ids[0, 0] == 0:
                raise ValueError("expected another length")
            return plain(ids) / (ids[0, 0] - 1)  # 0 of 0 is no number
    else:

        def broken(before: Tensor) -> Tensor:
            return plain(before) & ~(before[:, :1] < 2).any(dim=1, keepdim=True)

    monkeypatch.setattr(codec, part, broken)
    assert 100 < failures(codec, 300) < 200


def test_a_finer_codec_errs_less_and_a_shorter_one_is_shorter() -> None:
    chunks = smooth(300, seed=1)
    later = 0.99 * chunks
    configs = {"fine": BinsConfig(), "coarse": BinsConfig(bins=8), "short": SplineConfig(points=4)}
    found = {name: measure_codec(_codec(c), chunks, later, sequences=20) for name, c in configs.items()}
    assert found["fine"].error_mean < found["coarse"].error_mean / 4
    assert found["fine"].error_max < found["coarse"].error_max
    assert found["coarse"].overlap > found["fine"].overlap
    assert (found["fine"].tokens, found["short"].tokens) == (24, 12)
    assert found["short"].dependence < found["fine"].dependence  # neighbouring steps say nearly the same
    assert all(0 < measures.decode_ms < 1000 for measures in found.values())
