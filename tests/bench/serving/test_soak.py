"""What grows is seen, and so is what a loop does not count: the robot has a clock of its own."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from vla.bench.measure import Row
from vla.bench.serving.driven import Counted, Witness, drive
from vla.bench.serving.policies import HZ_VARIABLE, Swinging
from vla.bench.serving.soak import bench_soak
from vla.bench.settings import SoakConfig
from vla.core.errors import ConfigError
from vla.core.types import Observation
from vla.deploy.control.cadence import Cadence, Rhythm

HZ = 50.0
GROWTH = "the server and its policy: RSS, most less least of the second half"


def rows_of(seconds: float, clients: int, **about: str) -> dict[str, Row]:
    found = bench_soak(SoakConfig(minutes=seconds / 60, clients=clients, hz=HZ), lambda text: None, **about)
    return {row.name: row for row in found}


def test_a_short_soak_has_its_rows() -> None:
    rows = rows_of(1.0, 2)
    missed = rows["deadlines missed"]
    due = int(missed.unit.removeprefix("of "))
    assert 2 * 45 <= due < 2 * 50 * 5  # that of both, until they were told and had come to rest
    nothing = (
        "clients that ended before their time",
        "requests that failed",
        "policies that had to be begun anew",
        "deadlines that nobody counted, or that never were",
        "ticks without a command, or commands without a tick",
        "commands that made up for a missed one",
        "commands not gated",
    )
    assert {name: rows[name].value for name in nothing} == dict.fromkeys(nothing, 0.0)
    assert all(rows[name].bar == 0 for name in nothing)
    assert rows["requests answered"].value > 2 * 5
    for what in ("latency", "lateness"):
        assert 0 < rows[f"{what} p50"].value <= rows[f"{what} p99"].value <= rows[f"{what} max"].value < 1000
    for whose in ("the server and its policy", "the clients"):
        assert 50 < rows[f"{whose}: RSS"].value < 2000
        assert rows[f"{whose}: more descriptors"].value == rows[f"{whose}: more threads"].value == 0
    assert rows[GROWTH].bar == 1.0


def test_a_policy_that_leaks_is_seen() -> None:
    rows = rows_of(4.0, 1, policy="tests.bench.serving.leaking:Leaking")
    assert rows[GROWTH].value == pytest.approx(4.0, abs=1.5)
    assert rows[GROWTH].passes is False
    assert rows["the server and its policy: slope of it"].value == pytest.approx(120, rel=0.4)


SLOW_HZ = 20.0
"""So that what a busy machine adds is little of a period."""


class Stalling(Witness):
    """Takes five periods and a half for its sixth look."""

    def observe(self) -> Observation:
        seen = super().observe()
        if self.commands == 5:
            time.sleep(5.5 / SLOW_HZ)
        return seen


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counted]:
    monkeypatch.setenv(HZ_VARIABLE, str(SLOW_HZ))
    return lambda: drive(Swinging(), hz=SLOW_HZ, until=lambda: time.sleep(1), most_s=2.0, robot=Stalling(SLOW_HZ))


def test_a_deadline_that_goes_by_is_counted_as_missed(stalled: Callable[[], Counted]) -> None:
    found = stalled()
    assert found.missed >= 5
    assert (found.uncounted, found.unsent, found.hurried, found.ungated) == (0, 0, 0, 0)


def test_a_loop_that_does_not_say_what_it_missed_is_seen(
    stalled: Callable[[], Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    rhythm = Cadence.rhythm

    def silent(self: Cadence) -> Rhythm:
        return replace(rhythm(self), missed=0)

    monkeypatch.setattr(Cadence, "rhythm", silent)
    assert stalled().uncounted >= 5


def test_a_loop_that_begins_its_deadlines_anew_when_it_is_late_is_seen(
    stalled: Callable[[], Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = Cadence.wait

    def drifting(self: Cadence) -> int:
        self._began_s -= min(0.0, self.left_s)
        return wait(self)

    monkeypatch.setattr(Cadence, "wait", drifting)
    assert stalled().uncounted >= 4


def test_a_loop_that_catches_up_is_seen(stalled: Callable[[], Counted], monkeypatch: pytest.MonkeyPatch) -> None:
    def hurrying(self: Cadence) -> int:
        self._ticks += 1
        time.sleep(max(0.0, self.deadline_s - time.monotonic()))
        return 0

    monkeypatch.setattr(Cadence, "wait", hurrying)
    assert stalled().hurried >= 1


def test_settings_that_make_no_soak_are_refused() -> None:
    with pytest.raises(ConfigError, match="bench soak: clients"):
        SoakConfig(clients=0)
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="bench soak: minutes="):
            SoakConfig(minutes=wrong)
