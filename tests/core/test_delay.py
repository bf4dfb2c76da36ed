"""How late answers are: what runs meanwhile, what is told of it, and which times can be read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.chunks import Execution
from vla.core.delay import Delay, LateChunks, Lateness, measured_ms, whole_steps
from vla.core.errors import ConfigError
from vla.core.types import ActionChunk

_PERIOD_S = 0.1


def _chunk(number: int, steps: int) -> ActionChunk:
    """Whose rows say which chunk and which of its steps they are."""
    rows = [[number, step] for step in range(steps)]
    return ActionChunk(actions=np.array(rows, np.float32), time_ns=0)


def _drive(chunks: LateChunks, horizon: int, steps: int) -> tuple[np.ndarray, list[tuple[int, np.ndarray | None]]]:
    """What runs, and for each time that it asked, when that was and what it was told."""
    ran, asked = [], list[tuple[int, np.ndarray | None]]()
    for step in range(steps):
        if chunks.wants_chunk:
            asked.append((step, chunks.committed))
            chunks.take(_chunk(len(asked) - 1, horizon))
        ran.append(chunks.command())
    return np.array(ran), asked


@given(execute=st.integers(1, 6), latency=st.integers(0, 8), spare=st.integers(0, 4), told=st.integers(0, 8))
def test_the_chunk_before_runs_until_the_next_is_there(execute: int, latency: int, spare: int, told: int) -> None:
    """No step is held, none is run twice, and what was told is what ran."""
    horizon, told = max(execute, latency) + latency + spare, min(told, latency)
    late = LateChunks(Execution(execute=execute), Lateness(steps=latency), told=told, seed=0, period_s=_PERIOD_S)
    ran, asked = _drive(late, horizon, 40)
    starts = [when for when, _ in asked]
    for step, (chunk, row) in enumerate(ran.astype(int)):
        newest = max(k for k, start in enumerate(starts) if start + (latency if k else 0) <= step)
        assert (chunk, starts[chunk] + row) == (newest, step)
    for number, (when, heard) in enumerate(asked):
        steps = told if number else 0  # nothing runs before the first
        if steps and when + steps <= len(ran):
            np.testing.assert_array_equal(heard, ran[when : when + steps])
        elif not steps:
            assert heard is None


def test_an_answer_with_a_long_tail_is_waited_for_and_what_is_over_of_it_is_dropped() -> None:
    """Nine steps late, of six: the last command holds, and of the chunk only what had not been consumed runs."""
    late = LateChunks(Execution(execute=2), Lateness(ms=(900.0,)), told=0, seed=0, period_s=_PERIOD_S)
    ran, asked = _drive(late, 6, 16)
    assert [when for when, _ in asked] == [0, 2, 11]
    np.testing.assert_array_equal(ran[:6], _chunk(0, 6).actions)
    np.testing.assert_array_equal(ran[6:11], ran[[5] * 5])  # held
    np.testing.assert_array_equal(ran[11:13], _chunk(1, 6).actions[4:])  # four of its steps were consumed


def test_each_answer_draws_its_time_by_the_seed() -> None:
    def ran(seed: int) -> np.ndarray:
        how = Lateness(ms=(40.0, 90.0, 260.0))
        return _drive(LateChunks(Execution(execute=1), how, told=0, seed=seed, period_s=_PERIOD_S), 8, 60)[0]

    np.testing.assert_array_equal(ran(1), ran(1))
    assert not np.array_equal(ran(1), ran(2))
    firsts = {int(rows[0][1]) for rows in np.split(ran(1), np.flatnonzero(np.diff(ran(1)[:, 0])) + 1)[1:]}
    assert firsts == {1, 3}  # one step for what takes less, three for 260 ms


def test_a_loop_counts_on_the_longest_of_the_last_delays() -> None:
    delay = Delay(_PERIOD_S)
    assert delay.steps == 1
    for seconds, steps in ((0.31, 4), (0.1, 4), *[(0.1, 4)] * 8, (0.1, 1)):
        delay.measured(seconds)
        assert delay.steps == steps
    assert [whole_steps(seconds, 0.1) for seconds in (0.0, 0.05, 0.1, 0.1000004, 0.11)] == [0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    "value",
    [
        [40, 210.5],
        {"delays_ms": [40, 210.5]},
        {"granted": "none", "episodes": [{"drive": {"delays_ms": [40]}}, {"drive": {"delays_ms": [210.5]}}]},
    ],
)
def test_a_list_of_times_and_a_report_are_read(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(json.dumps(value))
    assert measured_ms(path) == (40.0, 210.5)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "Expecting value"),
        ("{}", "no time at all; measure some"),
        ('{"rows": [{"name": "p50", "value": 3.2, "unit": "ms"}]}', "no time at all; measure some"),
        ("[true]", r"True as number 0; write \[12.5"),
        ('{"delays_ms": [1, "fast"]}', "'fast' as number 1"),
        ("[[1]]", r"\[1\] as number 0"),
    ],
)
def test_what_holds_no_times_is_refused(text: str, got: str, tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"latencies .*times.json: expected JSON: a list of times in ms.* got {got}"):
        measured_ms(path)
    with pytest.raises(ConfigError, match=r"none.json: expected JSON.* got .*No such file"):
        measured_ms(tmp_path / "none.json")


def test_a_chunk_that_is_over_before_it_is_there_is_refused() -> None:
    late = LateChunks(Execution(), Lateness(steps=3), told=0, seed=0, period_s=_PERIOD_S)
    with pytest.raises(ConfigError, match=r"latency_steps=3: .* chunks of 3 steps, .* give at most 2"):
        late.take(_chunk(0, 3))
