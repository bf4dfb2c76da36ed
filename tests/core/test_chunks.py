"""One command a step out of chunks, against the plainest reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.chunks import ChunkBuffer, Execution
from vla.core.errors import ConfigError
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


@pytest.mark.parametrize(("execute", "ensemble"), [(0, 0.0), (1, -0.1), (1, 1.1), (1, float("nan"))])
def test_impossible_settings(execute: int, ensemble: float) -> None:
    with pytest.raises(ConfigError, match="execute"):
        ChunkBuffer(Execution(execute=execute, ensemble=ensemble))
