"""Shares on every engine: all results, all reports, and what dies takes nothing else along."""

import importlib
import signal
import subprocess
import sys
import time
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from tests.running import running
from vla.core.errors import VlaError
from vla.core.machine import spawned
from vla.core.machine.processes import Engine, run_shares
from vla.core.machine.spawned import WorkerDiedError

ENGINES: tuple[Engine, ...] = ("inline", "processes")


@pytest.fixture
def adder(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Adds up its shares: from a module that workers can import."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("adder").Adder()


@pytest.mark.parametrize("engine", ENGINES)
def test_results_come_in_order_and_every_report_arrives(adder: Any, engine: Engine) -> None:
    reports: list[Any] = []
    futures = run_shares(adder, [1, 2, 13, 4, 5], workers=2, engine=engine, on_report=reports.append)
    assert sorted(share for _, share in reports) == [1, 2, 4, 5, 13]
    assert [f.result()[0] for f in futures if f.exception() is None] == [1, 2, 4, 5]
    with pytest.raises(RuntimeError, match="thirteen"):
        futures[2].result()


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_relative_paths_mean_where_the_parent_is_now(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Not where it was when it joined Ray."""
    if engine == "ray":
        request.getfixturevalue("ray_cluster")
    (tmp_path / "here").write_text("found")
    monkeypatch.chdir(tmp_path)
    (future,) = run_shares(_read, ["here"], workers=1, engine=engine)
    assert future.result() == "found"


def _read(share: str, report: Any) -> str:
    return Path(share).read_text()


def test_a_worker_keeps_things_from_share_to_share(adder: Any) -> None:
    futures = run_shares(adder, [1, 2, 3, 4], workers=1)
    assert [future.result()[1] for future in futures] == [1, 3, 6, 10]
    assert len({future.result()[2] for future in futures}) == 1


def test_a_worker_that_is_killed_costs_its_own_share(adder: Any) -> None:
    futures = run_shares(adder, [1, -9, 3, 4, 5], workers=2)
    assert [i for i, future in enumerate(futures) if future.exception()] == [1]
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        futures[1].result()
    assert sorted(f.result()[0] for f in futures if not f.exception()) == [1, 3, 4, 5]


@pytest.mark.parametrize("engine", ENGINES)
def test_after_a_stop_nothing_begins(adder: Any, engine: Engine) -> None:
    reports: list[Any] = []
    futures = run_shares(
        adder, list(range(1, 9)), workers=1, engine=engine, on_report=reports.append, stop=lambda: len(reports) >= 3
    )
    assert [future.cancelled() for future in futures] == [False] * 3 + [True] * 5


def test_an_error_in_the_listener_ends_all_workers(adder: Any) -> None:
    def refuse(report: Any) -> None:
        raise KeyError(report)

    with pytest.raises(KeyError):
        run_shares(adder, [1, 2, 3], workers=2, on_report=refuse)


def test_no_shares_no_workers(adder: Any) -> None:
    assert run_shares(adder, [], workers=2) == []


@pytest.mark.usefixtures("ray_cluster")
def test_ray_keeps_the_same_promises() -> None:
    class Work:  # local, so that Ray sends it by value
        total = 0

        def __call__(self, share: int, report: Any) -> tuple[int, int]:
            import os
            import signal

            report(share)
            if share == 13:
                raise RuntimeError("thirteen")
            if share == -9:
                os.kill(os.getpid(), signal.SIGKILL)
            self.total += 1
            return share, self.total

    reports: list[Any] = []
    shares = [1, -9, 13, *range(20, 30)]
    futures = run_shares(Work(), shares, workers=2, engine="ray", on_report=reports.append)
    assert sorted(reports) == sorted(shares)
    assert isinstance(futures[1].exception(), WorkerDiedError)
    assert isinstance(futures[2].exception(), RuntimeError)
    results = [future.result() for future in (futures[0], *futures[3:])]
    assert [share for share, _ in results] == [1, *range(20, 30)]
    assert max(total for _, total in results) > 1


_SLEEPER = """
import sys, time
sys.path.insert(0, {folder!r})
from vla.core.machine.processes import run_shares
from sleeper import sleep
if __name__ == "__main__":
    run_shares(sleep, [0, 1], workers=2, on_report=lambda pid: print(pid, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sleeper.py").write_text(
        "import os, time\ndef sleep(share, report):\n    report(os.getpid())\n    time.sleep(60)\n"
    )
    (tmp_path / "main.py").write_text(_SLEEPER.format(folder=str(tmp_path)))
    with running(
        [sys.executable, str(tmp_path / "main.py")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.send_signal(number)
        process.wait(timeout=20)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


_UNGUARDED = """
import sys
sys.path.insert(0, {folder!r})
from vla.core.machine.processes import run_shares
from adder import Adder
run_shares(Adder(), [1, 2], workers=2)
"""


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    """Its workers import it, and would begin workers of their own, for ever."""
    script = tmp_path / "main.py"
    script.write_text(_UNGUARDED.format(folder=str(Path(__file__).parent)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.splitlines()[-1].endswith('put what it calls under  if __name__ == "__main__":')
    assert done.stderr.count("Traceback") == 1  # of the script itself, none of a worker


def test_work_that_cannot_be_sent_or_found_is_named(adder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VlaError, match=r"cannot be sent its work .*; give what a module can import"):
        run_shares(lambda share, report: None, [1, 2], workers=2)
    gone = importlib.import_module("adder")
    monkeypatch.setattr(gone, "Gone", type("Gone", (gone.Adder,), {"__module__": "adder"}), raising=False)
    with pytest.raises(VlaError, match="cannot take its work: AttributeError"):
        run_shares(gone.Gone(), [1, 2], workers=2)


def test_a_worker_that_says_nothing_is_ended_and_named(adder: Any) -> None:
    notes: list[str] = []
    futures = run_shares(adder, [600.5, 2], workers=2, silence_s=2.0, note=notes.append)
    with pytest.raises(WorkerDiedError, match="a worker process gave no sign of life for 2 s and was ended"):
        futures[0].result()
    assert futures[1].result()[0] == 2
    assert len(notes) == 1


def test_reports_are_signs_of_life(adder: Any) -> None:
    for engine in ENGINES:
        (future,) = run_shares(adder, [0.25], workers=1, engine=engine, silence_s=1.0)
        assert future.result()[0] == 0.25


def test_in_this_process_silence_is_interrupted(adder: Any) -> None:
    (future,) = run_shares(adder, [600.5], workers=1, engine="inline", silence_s=0.5)
    with pytest.raises(TimeoutError, match=r"no sign of life for 0\.5 s"):
        future.result()
    time.sleep(0.6)  # nothing rings any more


def test_somebody_elses_alarm_rings_all_the_same(adder: Any) -> None:
    rung: list[int] = []
    timer = signal.getitimer(signal.ITIMER_REAL)
    earlier = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        (future,) = run_shares(adder, [0.05], workers=1, engine="inline", silence_s=5.0)
        assert future.result()[0] == 0.05
        time.sleep(0.4)
    finally:
        signal.signal(signal.SIGALRM, earlier)
        signal.setitimer(signal.ITIMER_REAL, *timer)
    assert rung == [signal.SIGALRM]


def test_the_kernels_count_of_kills_for_memory_is_part_of_the_message(
    adder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = chain([4, 4], repeat(5))  # as two workers begin, and when one is dead
    for kills, why in ((lambda: next(counts), "among those killed for memory"), (lambda: None, "most often")):
        monkeypatch.setattr(spawned, "memory_kills", kills)
        futures = run_shares(adder, [1, -9], workers=2)
        with pytest.raises(WorkerDiedError, match=rf"SIGKILL, with \d+\.\d of \d+ GB in use; .*{why}"):
            futures[1].result()


@pytest.mark.usefixtures("ray_cluster")
def test_a_ray_actor_that_says_nothing_is_ended_and_named() -> None:
    class Work:  # local, so that Ray sends it by value
        def __call__(self, share: float, report: Any) -> float:
            import time

            for _ in range(4):
                time.sleep(share)
                report(share)
            return share

    notes: list[str] = []
    futures = run_shares(Work(), [600.0, 0.8], workers=2, engine="ray", silence_s=2.5, note=notes.append)
    with pytest.raises(WorkerDiedError, match=r"a Ray actor gave no sign of life for 2\.5 s and was ended"):
        futures[0].result()
    assert futures[1].result() == 0.8
    assert len(notes) == 1
