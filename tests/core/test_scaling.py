"""Statistics are exact, survive JSON bit for bit, refuse what would poison a policy, and never explode."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import DatasetError
from vla.core.scaling import Statistics, column_statistics, compute_statistics


def rows(count: int = 1000) -> np.ndarray:
    return np.random.default_rng(0).normal([1.0, -2.0, 0.0], [1.0, 0.1, 3.0], (count, 3)).astype(np.float32)


def one(column: np.ndarray) -> Statistics:
    return compute_statistics(column[:, None])


def test_numpy_agrees_on_valid_rows() -> None:
    data = rows()
    before = data.copy()
    valid = np.random.default_rng(1).random(1000) < 0.5
    statistics = compute_statistics(data, valid)
    np.testing.assert_array_equal(data, before)
    kept = data[valid].astype(np.float64)
    assert statistics.count == valid.sum()
    for name in ("mean", "std"):
        np.testing.assert_allclose(getattr(statistics, name), getattr(kept, name)(axis=0), rtol=1e-13)
    for name in ("min", "max"):
        np.testing.assert_array_equal(getattr(statistics, name), getattr(kept, name)(axis=0))
    np.testing.assert_array_equal(statistics.q01, np.quantile(kept, 0.01, axis=0))
    np.testing.assert_array_equal(statistics.q99, np.quantile(kept, 0.99, axis=0))
    assert statistics.kind == ("ok", "ok", "ok")


@given(count=st.integers(1, 400), seed=st.integers(0, 999))
def test_quantiles_are_those_of_numpy(count: int, seed: int) -> None:
    column = np.random.default_rng(seed).normal(size=count)
    statistics = one(column)
    assert (statistics.q01[0], statistics.q99[0]) == tuple(np.quantile(column, [0.01, 0.99]))


def test_constant_dimensions() -> None:
    data = rows()
    data[:, 1] = 0.1
    data[:, 2] = np.float32(1000) + np.arange(1000) % 2 * np.float32(1e-4)
    statistics = compute_statistics(data)
    assert statistics.kind == ("ok", "constant", "constant")
    assert statistics.mean[1] == np.float32(0.1)
    assert np.abs(statistics.normalise(data)[:, 1:]).max() < 1e-3
    assert compute_statistics(data[:1]).kind == ("constant",) * 3
    first, second = statistics.problems(["x", "y", "z"])
    assert first == "y never changes: it is 0.1 in all 1,000 values, and tells nothing"
    assert second.startswith("z never changes: it is 1000")


def test_a_gripper_that_hardly_ever_moves() -> None:
    gripper = np.full(10_000, 0.04, np.float32)
    gripper[:50] = 0.0
    statistics = one(gripper)
    assert statistics.kind == ("narrow",)
    scaled = statistics.normalise(gripper[:, None])
    assert sorted({round(float(v), 5) for v in scaled[:, 0]}) == [-1, 1]
    (problem,) = statistics.problems(["gripper"])
    assert problem == (
        "gripper hardly ever moves: 98 % of its values lie in [0.04, 0.04], all in [0, 0.04]. "
        "It is scaled by the latter; look for spikes"
    )


def test_rare_spikes() -> None:
    """Scaled by quantiles the spike would become 600."""
    joint = np.random.default_rng(0).uniform(-1, 1, 10_000)
    joint[7] = 600.0
    statistics = one(joint)
    assert statistics.kind == ("narrow",)
    assert np.abs(statistics.normalise(joint[:, None])).max() <= 1


def test_far_from_the_origin() -> None:
    near, noise = 1e6 + np.random.default_rng(0).uniform(0, 1000, (2, 1000)) * [[1.0], [0.05]]
    assert one(near).kind == ("ok",)
    assert one(noise).kind == ("narrow",)
    assert "record it from another origin" in one(noise).problems(["x"])[0]
    for column in (near, noise):
        assert np.abs(one(column).normalise(column[:, None])).max() < 1.1
    assert one(np.float64(1e6) + np.arange(100) * 1e-3).kind == ("constant",)


@st.composite
def columns(draw: st.DrawFn) -> np.ndarray:
    """What dimensions look like: a spread, far away or not, with spikes, plateaus, or nothing at all."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    column = rng.normal(size=draw(st.integers(1, 300))) * 10 ** draw(st.floats(-9, 4))
    if draw(st.booleans()):
        column = np.where(rng.random(len(column)) < 0.99, draw(st.floats(-1, 1)), column)
    if draw(st.booleans()):
        column[rng.integers(len(column))] *= 10 ** draw(st.floats(0, 6))
    offset = draw(st.sampled_from([0.0, 1.0, -1e3, 1e6, 1e9]))
    return (column + offset).astype(draw(st.sampled_from([np.float32, np.float64])))


@given(column=columns())
def test_scaling_never_explodes_and_can_be_undone(column: np.ndarray) -> None:
    statistics, x = one(column), column[:, None]
    assert (statistics.spread() > 0).all()
    scaled = statistics.normalise(x)
    assert scaled.dtype == x.dtype
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= (39.01 if statistics.kind == ("ok",) else 1.001)
    size = np.abs(column).max() + np.abs(scaled).max() * statistics.spread()[0]
    np.testing.assert_allclose(statistics.denormalise(scaled), x, rtol=0, atol=3 * np.finfo(x.dtype).eps * size)
    tensor = statistics.normalise(torch.from_numpy(x))
    np.testing.assert_array_equal(tensor.numpy(), scaled)
    np.testing.assert_array_equal(statistics.denormalise(tensor).numpy(), statistics.denormalise(scaled))


@given(seed=st.integers(0, 99))
def test_quantiles_become_one(seed: int) -> None:
    statistics = compute_statistics(np.random.default_rng(seed).normal(size=(500, 2)) * [3, 0.01] + [0, 5])
    np.testing.assert_allclose(statistics.normalise(np.array([statistics.q01, statistics.q99])), [[-1, -1], [1, 1]])


def test_json() -> None:
    statistics = compute_statistics(rows())
    value = json.loads(json.dumps(statistics.to_json()))
    assert Statistics.from_json(value, where="here") == statistics
    for damaged in (
        {**value, "mean": [1.0]},
        {**value, "std": None},
        {**value, "min": [0.0, float("nan"), 0.0]},
        {**value, "kind": ["ok", "ok", "wide"]},
        {k: value[k] for k in value if k != "q99"},
    ):
        with pytest.raises(DatasetError, match=r"here: the statistics .*compute them again"):
            Statistics.from_json(damaged, where="here")


def test_where_nothing_was_measured_limits_become_one() -> None:
    scale = Statistics.between([-2.0, 0.0, 5.0], [2.0, 0.1, 6.0])
    ends = np.array([[-2.0, 0.0, 5.0], [0.0, 0.05, 5.5], [2.0, 0.1, 6.0]])
    np.testing.assert_allclose(scale.normalise(ends), [[-1] * 3, [0] * 3, [1] * 3], atol=1e-12)
    uniform = compute_statistics(np.linspace(-2, 2, 100_001)[:, None])
    np.testing.assert_allclose((scale.mean[0], scale.std[0]), (uniform.mean[0], uniform.std[0]), atol=1e-4)
    assert scale.kind == ("ok",) * 3
    assert Statistics.from_json(json.loads(json.dumps(scale.to_json())), where="here") == scale


def test_no_rows() -> None:
    with pytest.raises(DatasetError, match="action: expected at least 1 valid row, got none of 10"):
        compute_statistics(rows(10), np.zeros(10, bool), what="action")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad: float) -> None:
    data = rows(10)
    data[3, 2] = bad
    with pytest.raises(DatasetError, match="dimension 2"):
        compute_statistics(data)
    valid = np.arange(10) != 3
    assert compute_statistics(data, valid).count == 9


def test_no_dimensions() -> None:
    statistics = compute_statistics(np.zeros((4, 0), np.float32))
    assert (statistics.count, statistics.kind) == (4, ())
    assert statistics.normalise(np.zeros((2, 0), np.float32)).shape == (2, 0)


def test_another_robot() -> None:
    statistics = compute_statistics(rows())
    with pytest.raises(ValueError, match="expected 3 dimensions"):
        statistics.normalise(np.zeros((5, 1), np.float32))
    with pytest.raises(ValueError, match="names: expected 3, got 1"):
        statistics.problems(["x"])


def test_one_column_at_a_time_is_in_memory() -> None:
    count = 1_000_000
    made = (np.random.default_rng(i).standard_normal(count, np.float32) for i in range(8))
    tracemalloc.start()
    column_statistics(made, count, what="x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 4 * count  # the column, and a chunk of it in float64
