"""The order is a permutation in every epoch, and the same however it is cut into batches and ranks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.datasets.sampling.order import Order, ResumableSampler, StratifiedOrder

SEEDS = st.integers(-(2**70), 2**70)
QUICK = settings(deadline=None, max_examples=40)


@QUICK
@given(size=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 2**40))
def test_every_epoch_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    items = Order(seed, size)(epoch, np.arange(size))
    np.testing.assert_array_equal(np.sort(items), np.arange(size))


@QUICK
@given(size=st.integers(1, 2**50), seed=SEEDS, slots=st.lists(st.integers(0, 2**55), max_size=20))
def test_each_slot_alone_is_the_same(size: int, seed: int, slots: list[int]) -> None:
    order = Order(seed, size)
    together = order.at(np.array(slots, np.int64))
    alone = [int(order(slot // size, np.array([slot % size]))[0]) for slot in slots]
    assert together.tolist() == alone
    assert all(0 <= item < size for item in alone)


def test_epochs_and_seeds_differ() -> None:
    index = np.arange(100)
    orders = [Order(seed, 100)(epoch, index).tolist() for seed in range(5) for epoch in range(5)]
    assert len({tuple(order) for order in orders}) == 25


@pytest.mark.parametrize("size", [2, 3, 5, 8, 13])
def test_first_items_are_uniform(size: int) -> None:
    """Each ordered pair of first items comes up as often as chance allows: 5 standard deviations, fixed seed."""
    draws = 20_000
    slots = np.arange(draws) * size
    pairs = Order(3, size).at(slots) * size + Order(3, size).at(slots + 1)
    counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
    assert np.diag(counts).sum() == 0
    expected = draws / (size * (size - 1))
    others = counts[~np.eye(size, dtype=bool)]
    assert np.abs(others - expected).max() < 5 * expected**0.5


def test_positions_are_checked() -> None:
    for index in (-1, 10):
        with pytest.raises(IndexError):
            Order(0, 10)(0, np.array([index]))
    with pytest.raises(ValueError, match="at least 1 item"):
        Order(0, 0)


@QUICK
@given(
    size=st.integers(1, 200),
    batch=st.integers(1, 9),
    world=st.integers(1, 5),
    start=st.integers(0, 500),
    steps=st.integers(1, 6),
)
def test_ranks_share_the_slots(size: int, batch: int, world: int, start: int, steps: int) -> None:
    order = Order(1, size)
    ranks = [ResumableSampler(order=order, batch=batch, rank=r, world=world, start=start) for r in range(world)]
    drawn = np.stack([np.stack([rank.items(step) for step in range(steps)]) for rank in ranks], axis=-1)
    expected = order.at(start + np.arange(batch * world * steps))
    np.testing.assert_array_equal(drawn.reshape(-1), expected)


@QUICK
@given(size=st.integers(1, 100), before=st.integers(1, 4), after=st.integers(1, 4), steps=st.integers(0, 10))
def test_resume_with_another_number_of_ranks(size: int, before: int, after: int, steps: int) -> None:
    order = Order(7, size)
    state = ResumableSampler(order=order, batch=3, rank=before - 1, world=before).state(steps)
    assert state == {"seed": 7, "epoch": 3 * before * steps // size, "consumed": 3 * before * steps}
    resumed = [
        ResumableSampler(order=order, batch=2, rank=r, world=after, start=state["consumed"]) for r in range(after)
    ]
    drawn = np.stack([rank.items(0) for rank in resumed], axis=-1).reshape(-1)
    np.testing.assert_array_equal(drawn, order.at(state["consumed"] + np.arange(2 * after)))


def test_iteration() -> None:
    sampler = ResumableSampler(order=Order(0, 10), batch=4)
    for step, items in enumerate(itertools.islice(sampler, 8)):
        np.testing.assert_array_equal(items, sampler.items(step))


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"rank": 1}, {"rank": -1}, {"start": -1}])
def test_sampler_arguments(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected batch >= 1"):
        ResumableSampler(**{"order": Order(0, 10), "batch": 2, **wrong})


@QUICK
@given(
    parts=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 30), min_size=4, max_size=4),
    seed=SEEDS,
    block=st.integers(0, 2**30),
)
def test_shares_are_exact_in_every_block(parts: list[int], sizes: list[int], seed: int, block: int) -> None:
    total = sum(parts)
    strata = [np.arange(size) + 100 * number for number, size in enumerate(sizes[: len(parts)])]
    order = StratifiedOrder(strata, [part / total for part in parts], seed)
    slots = block * total + np.arange(total)
    assert np.bincount(order.stratum(slots), minlength=len(parts)).tolist() == parts
    items = order.at(slots)
    np.testing.assert_array_equal(items // 100, order.stratum(slots))
    np.testing.assert_array_equal(items[::-1], order.at(slots[::-1]))


@QUICK
@given(sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=SEEDS)
def test_each_stratum_is_walked_whole(sizes: tuple[int, int], seed: int) -> None:
    strata = [np.arange(sizes[0]), 100 + np.arange(sizes[1])]
    counts = np.zeros(200, int)
    drawn = StratifiedOrder(strata, [0.25, 0.75], seed).at(np.arange(4 * 80)).reshape(80, 4)
    for block in drawn:
        np.add.at(counts, block, 1)
        for items in strata:
            assert np.ptp(counts[items]) <= 1
    assert [counts[items].sum() for items in strata] == [80, 240]


def test_half_of_every_batch() -> None:
    order = StratifiedOrder([np.arange(50), np.arange(50, 1000)], [0.5, 0.5], 0)
    assert order.size == 1000
    ranks = [ResumableSampler(order=order, batch=32, rank=r, world=2) for r in range(2)]
    for step in range(50):
        both = [rank.items(step) < 50 for rank in ranks]
        assert np.sum(both) == 32
        assert all(3 < mine.sum() < 29 for mine in both)  # no rank has one stratum to itself


def test_awkward_shares() -> None:
    third, seventh = 1 / 3, 1 / np.sqrt(50)
    order = StratifiedOrder([np.arange(5)] * 3, [third, seventh, 1 - third - seventh], 0)
    counts = np.bincount(order.stratum(np.arange(100_000)))
    np.testing.assert_allclose(counts / 100_000, order.shares, atol=1e-3)


@pytest.mark.parametrize(
    ("sizes", "shares", "message"),
    [
        ([3], [0.5, 0.5], "a share for each stratum"),
        ([], [], "a share for each stratum"),
        ([3, 0], [0.5, 0.5], "stratum 1: expected items"),
        ([3, 3], [1.0, 0.0], "stratum 1: expected items"),
        ([3, 3], [0.5, 0.4], r"expected a sum of 1, got 0\.9"),
        ([3, 3], [0.9999, 0.0001], "at least 1/1000"),
    ],
)
def test_stratified_arguments(sizes: list[int], shares: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StratifiedOrder([np.arange(size) for size in sizes], shares, 0)
