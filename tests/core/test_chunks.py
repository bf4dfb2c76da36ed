"""One command a step out of chunks, against the plainest reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.chunks import ChunkBuffer, Execution
from vla.core.errors import ConfigError, ContractError
from vla.core.types import ActionChunk


def _chunk(rows: np.ndarray) -> ActionChunk:
    return ActionChunk(actions=rows.astype(np.float32), time_ns=0)


def _reference(chunks: list[np.ndarray], starts: list[int], step: int, ensemble: float) -> np.ndarray:
    """The weighted mean over all chunks asked for so far that say something about ``step``."""
    total, weights = np.zeros(2), 0.0
    for k, (start, rows) in enumerate(zip(reversed(starts), reversed(chunks), strict=True)):
        if step - start < len(rows) and (ensemble > 0 or k == 0):
            total += ensemble**k * rows[step - start]
            weights += ensemble**k
    return total / weights


@given(
    execute=st.integers(1, 7),
    horizon=st.integers(1, 6),
    ensemble=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    steps=st.integers(1, 25),
    seed=st.integers(0, 99),
)
def test_equals_the_reference(execute: int, horizon: int, ensemble: float, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    buffer = ChunkBuffer(Execution(execute=execute, ensemble=ensemble))
    chunks: list[np.ndarray] = []
    starts: list[int] = []
    for step in range(steps):
        due = step % min(execute, horizon) == 0
        assert buffer.wants_chunk is due
        if due:
            rows = rng.standard_normal((horizon, 2)).astype(np.float32)
            buffer.add(_chunk(rows))
            chunks.append(rows)
            starts.append(step)
        command = buffer.pop()
        assert command.dtype == np.float32
        np.testing.assert_allclose(command, _reference(chunks, starts, step, ensemble), atol=1e-5)


def test_without_ensemble_commands_are_the_newest_chunk_exactly() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    buffer = ChunkBuffer(Execution(execute=2))
    buffer.add(_chunk(rows[0]))
    first = [buffer.pop(), buffer.pop()]
    buffer.add(_chunk(rows[1]))
    np.testing.assert_array_equal([*first, buffer.pop()], [rows[0, 0], rows[0, 1], rows[1, 0]])


@given(
    execute=st.integers(1, 4),
    latency=st.integers(1, 4),
    ensemble=st.sampled_from([0.0, 0.5]),
    spare=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_a_chunk_runs_from_when_it_is_there(execute: int, latency: int, ensemble: float, spare: int, seed: int) -> None:
    """Until then those before it do, and what that will be is known when the chunk is asked for."""
    rng = np.random.default_rng(seed)
    horizon = execute + latency + spare
    buffer = ChunkBuffer(Execution(execute=execute, ensemble=ensemble), latency=latency)
    chunks: list[np.ndarray] = []
    starts: list[int] = []
    expected: dict[int, np.ndarray] = {}
    for step in range(20):
        assert buffer.wants_chunk is (step % execute == 0)
        if buffer.wants_chunk:
            told = buffer.committed
            assert (told is None) is (step == 0)  # nothing runs before the first chunk
            expected |= {} if told is None else {step + i: row for i, row in enumerate(told)}
            rows = rng.standard_normal((horizon, 2)).astype(np.float32)
            buffer.add(_chunk(rows))
            chunks.append(rows)
            starts.append(step)
        there = [k for k, start in enumerate(starts) if k == 0 or step >= start + latency]
        command = buffer.pop()
        reference = _reference([chunks[k] for k in there], [starts[k] for k in there], step, ensemble)
        np.testing.assert_allclose(command, reference, atol=1e-5)
        if step in expected:
            np.testing.assert_array_equal(command, expected[step])


def test_a_chunk_that_ends_before_the_next_begins_is_refused() -> None:
    with pytest.raises(ContractError, match="3 steps ends before"):
        ChunkBuffer(Execution(execute=1), latency=3).add(_chunk(np.zeros((3, 2))))


def test_impossible_latency() -> None:
    with pytest.raises(ConfigError, match="latency=-1"):
        ChunkBuffer(Execution(execute=1), latency=-1)


@pytest.mark.parametrize(("execute", "ensemble"), [(0, 0.0), (1, -0.1), (1, 1.1), (1, float("nan"))])
def test_impossible_settings(execute: int, ensemble: float) -> None:
    with pytest.raises(ConfigError, match="execute"):
        ChunkBuffer(Execution(execute=execute, ensemble=ensemble))


@pytest.mark.parametrize(
    ("execute", "latency", "fits"), [(6, 0, True), (7, 0, False), (None, 5, True), (None, 6, False), (3, 4, False)]
)
def test_a_chunk_lasts_until_the_next_is_there(execute: int | None, latency: int, fits: bool) -> None:
    execution = Execution(execute=execute)
    if fits:
        execution.require_within(6, latency)
        return
    said = rf"execute={execute} (is|are) more than the 6 steps of a chunk.*give --execute {max(1, 6 - latency)}"
    with pytest.raises(ConfigError, match=said):
        execution.require_within(6, latency)
