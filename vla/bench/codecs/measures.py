"""What can be said of an action codec without training on it: how long, how exact, how fast, and what its tokens tell.

How exact a codec is does not tell how well a policy learns from it; overlap, redundancy and dependence tell more
(ActionCodec, arXiv 2602.15397).
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla.models.codecs.codec import ActionCodec

_PART = 256
"""Chunks at once."""
_CALLS = 51
"""Of which the median is the latency."""


@dataclass(frozen=True, kw_only=True)
class CodecMeasures:
    """Of one codec on one dataset."""

    ids: int
    """Of the vocabulary."""
    budget: int
    """Tokens of a chunk at most."""
    tokens: float
    """Of a chunk, in the mean; padding is none."""
    error_mean: float
    """Of a number of a chunk that was encoded and decoded, in scaled units."""
    error_max: float
    decode_ms: float
    """Of one chunk, the median of many calls."""
    overlap: float
    """Share of tokens that are the same in the chunk that begins one step later."""
    redundancy: float
    """1 less entropy over what the ids that are allowed could tell, the mean over positions; 0 wastes nothing."""
    dependence: float
    """Normalised mutual information of neighbouring tokens, the mean over positions; 0 is independent."""
    failures: int
    """Random sequences under the grammar that are no finite chunk."""


def measure_codec(
    codec: ActionCodec,
    chunks: Float[Tensor, "w h d"],
    following: Float[Tensor, "w h d"],
    *,
    sequences: int,
    seed: int = 0,
) -> CodecMeasures:
    """Measure on scaled ``chunks``, and on those that begin one step after each of them."""
    (ids, error), (later, _) = (_coded(codec, part) for part in (chunks, following))
    said, said_later = (written(codec, part) for part in (ids, later))
    return CodecMeasures(
        ids=codec.size,
        budget=codec.length,
        tokens=said.sum(dim=1).double().mean().item(),
        error_mean=error.mean().item(),
        error_max=error.max().item(),
        decode_ms=_decode_ms(codec, ids[:1]),
        overlap=overlap(ids, said, later, said_later),
        redundancy=redundancy(ids, said, _choices(codec, ids)),
        dependence=dependence(ids, said, seed=seed),
        failures=failures(codec, sequences, seed=seed),
    )


def written(codec: ActionCodec, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l"]:
    """Which tokens belong to a chunk; the others pad it."""
    return torch.stack([codec.remaining(ids[:, :i])[1] > 0 for i in range(ids.shape[1])], dim=1)


def overlap(
    ids: Int64[Tensor, "b l"], said: Bool[Tensor, "b l"], later: Int64[Tensor, "b l"], said_later: Bool[Tensor, "b l"]
) -> float:
    """Share of the positions of the longer of two sequences at which both say the same."""
    same = (ids == later) & said & said_later
    return (same.sum() / (said | said_later).sum()).item()


def redundancy(ids: Int64[Tensor, "b l"], said: Bool[Tensor, "b l"], choices: Int64[Tensor, "b l"]) -> float:
    """One less the entropy of the tokens at a position over the bits that a choice among the allowed ids is.

    Entropies of samples are too small; Miller's and Madow's correction is added. Positions at which nothing is ever to
    choose say nothing, and each other one counts by how often something is said there.
    """
    shares, weights = [], []
    for tokens, there, allowed in zip(ids.T, said.T, choices.T, strict=True):
        bits = float(allowed[there].double().log2().mean()) if there.any() else 0.0
        if bits > 0:
            seen = tokens[there].numpy()
            correction = (len(np.unique(seen)) - 1) / (2 * len(seen) * np.log(2))
            shares.append(min(1.0, max(0.0, 1 - (_entropy(seen) + correction) / bits)))
            weights.append(len(seen))
    return float(np.average(shares, weights=weights)) if shares else 0.0


def dependence(ids: Int64[Tensor, "b l"], said: Bool[Tensor, "b l"], *, seed: int = 0) -> float:
    """Mutual information of tokens and those behind them, over the smaller of both entropies.

    What as many samples show of tokens that were shuffled, which know nothing of each other, is subtracted. Positions
    that always say the same have no information to share, and do not count.
    """
    rng = np.random.default_rng(seed)
    shares, weights = [], []
    for i in range(ids.shape[1] - 1):
        both = said[:, i] & said[:, i + 1]
        first, second = ids[both, i].numpy(), ids[both, i + 1].numpy()
        least = min(_entropy(first), _entropy(second))
        if least > 0:
            chance = _information(first, rng.permutation(second))
            possible = max(least - chance, 1e-9)
            shares.append(min(1.0, max(0.0, (_information(first, second) - chance) / possible)))
            weights.append(len(first))
    return float(np.average(shares, weights=weights)) if shares else 0.0


def failures(codec: ActionCodec, sequences: int, *, seed: int = 0) -> int:
    """How many of so many sequences, drawn at random under the grammar, are no finite chunk."""
    random = torch.Generator().manual_seed(seed)
    failed = 0
    for start in range(0, sequences, _PART):
        ids = torch.zeros(min(_PART, sequences - start), 0, dtype=torch.long)
        for _ in range(codec.length):
            logits = torch.rand(len(ids), codec.size, generator=random).masked_fill(~codec.allowed(ids), -1.0)
            best, chosen = logits.max(dim=1, keepdim=True)
            ids = torch.cat([ids, chosen], dim=1)[best[:, 0] >= 0]  # where nothing is allowed, it has failed
        done = sum(_is_chunk(codec, row) for row in ids.split(1))
        failed += min(_PART, sequences - start) - done
    return failed


def _is_chunk(codec: ActionCodec, ids: Int64[Tensor, "1 l"]) -> bool:
    try:
        return bool(codec.decode(ids).isfinite().all())
    except (RuntimeError, ValueError, IndexError):
        return False


def _coded(codec: ActionCodec, chunks: Float[Tensor, "w h d"]) -> tuple[Int64[Tensor, "w l"], Float[Tensor, "w h d"]]:
    """The tokens of chunks, and how far what they spell is from them."""
    ids = torch.cat([codec.encode(part, torch.ones_like(part, dtype=torch.bool))[0] for part in chunks.split(_PART)])
    again = torch.cat([codec.decode(part) for part in ids.split(_PART)])
    return ids, (again - chunks).abs().double()


def _choices(codec: ActionCodec, ids: Int64[Tensor, "w l"]) -> Int64[Tensor, "w l"]:
    """How many ids the grammar allows at each position."""
    return torch.cat([codec.grammar(part).sum(dim=2) for part in ids.split(_PART)])


def _decode_ms(codec: ActionCodec, ids: Int64[Tensor, "1 l"]) -> float:
    spent = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        codec.decode(ids)
        spent.append(time.perf_counter() - start)
    return 1e3 * float(np.median(spent))


def _entropy(values: Int64[np.ndarray, " n"]) -> float:
    """Bits."""
    counts = np.unique(values, return_counts=True)[1]
    shares = counts / max(1, counts.sum())
    return float(-(shares * np.log2(shares)).sum())


def _information(first: Int64[np.ndarray, " n"], second: Int64[np.ndarray, " n"]) -> float:
    """Bits that each tells of the other."""
    pairs = first * (int(second.max(initial=0)) + 1) + second
    return _entropy(first) + _entropy(second) - _entropy(pairs)
