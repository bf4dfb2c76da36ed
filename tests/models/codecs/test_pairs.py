"""Byte-pair encoding over integers, against the same done with lists."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import ContractError
from vla.models.codecs.pairs import PairCoding, train_merges

SYMBOLS = 4
Merges = list[tuple[int, int]]
SEQUENCES = st.lists(st.lists(st.integers(0, SYMBOLS - 1), min_size=9, max_size=9), min_size=1, max_size=6)


def merge(sequence: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """One merge, from left to right."""
    found: list[int] = []
    i = 0
    while i < len(sequence):
        if tuple(sequence[i : i + 2]) == pair:
            found.append(new)
            i += 2
        else:
            found.append(sequence[i])
            i += 1
    return found


def encode(sequence: list[int], merges: Merges, symbols: int) -> list[int]:
    """The published greedy rule: as long as there is one, the pair that was learned first."""
    while True:
        pairs = set(pairwise(sequence))
        ranks = [rank for rank, pair in enumerate(merges) if pair in pairs]
        if not ranks:
            return sequence
        sequence = merge(sequence, merges[ranks[0]], symbols + ranks[0])


def _train(sequences: list[list[int]], symbols: int, most: int) -> Merges:
    """Count all pairs anew after every merge."""
    merges: Merges = []
    while len(merges) < most:
        counts = Counter(pair for s in sequences for pair in pairwise(s))
        pair, count = min(counts.items(), key=lambda item: (-item[1], item[0]), default=((0, 0), 0))
        if count < 2:
            break
        sequences = [merge(s, pair, symbols + len(merges)) for s in sequences]
        merges.append(pair)
    return merges


@given(sequences=SEQUENCES)
def test_merges_are_those_of_counting_anew(sequences: list[list[int]]) -> None:
    assert train_merges(np.array(sequences, np.int64), SYMBOLS, most=12) == _train(sequences, SYMBOLS, 12)


@given(sequences=SEQUENCES, others=SEQUENCES)
def test_ids_are_those_of_the_greedy_rule_and_expand_to_what_was_encoded(
    sequences: list[list[int]], others: list[list[int]]
) -> None:
    coding = PairCoding(SYMBOLS, train_merges(np.array(sequences, np.int64), SYMBOLS, most=12), longest=9)
    symbols = torch.tensor(others)
    ids = coding.encode(symbols)
    for row, sequence in zip(ids.tolist(), others, strict=True):
        wanted = encode(sequence, list(coding.merges), SYMBOLS)
        assert row == wanted + [coding.pad] * (9 - len(wanted))
    again, there = coding.expand(ids, 9)
    assert torch.equal(again, symbols)
    assert there.all()


def test_runs_are_merged_in_pairs_from_the_left() -> None:
    coding = PairCoding(2, [(0, 0)], longest=9)
    ids = coding.encode(torch.tensor([[0, 0, 0, 1, 0, 0]]))
    assert ids.tolist() == [[2, 0, 1, 2, 3, 3]]


def test_too_little_is_missing_and_too_much_is_cut() -> None:
    coding = PairCoding(2, [(0, 1), (2, 2)], longest=4)
    symbols, there = coding.expand(torch.tensor([[3, 4, 1], [3, 3, 3]]), 6)
    assert symbols[0, :5].tolist() == [0, 1, 0, 1, 1]
    assert there.tolist() == [[True] * 5 + [False], [True] * 6]
    assert symbols[1].tolist() == [0, 1] * 3
    assert not coding.expand(torch.zeros(2, 0, dtype=torch.long), 6)[1].any()


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([(0, 1), (0, 4)], "merge 1 joins 0 and 4, expected ids below 3"),
        ([(0, -1)], "merge 0 joins 0 and -1"),
        ([(0, 0), (2, 2), (3, 3)], "merge 2 stands for 8 symbols, more than the 4 of a chunk"),
    ],
)
def test_damaged_merges_are_refused(merges: Merges, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        PairCoding(2, merges, longest=4)
