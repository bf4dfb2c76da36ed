"""Memory is read as the system says it, and what a process of another kind was killed for is counted."""

import subprocess
import sys
from pathlib import Path

import pytest

from vla.core.machine import memory
from vla.core.machine.memory import memory_kills, resident_bytes

_ONE_LARGE = """
from vla.core.machine.memory import give_back, resident_bytes

give_back()
before = resident_bytes()
held = b"1" * (64 * 2**20)
after = resident_bytes()
for name in ("rss", "anonymous"):
    assert abs(after[name] - before[name] - len(held)) < 0.1 * len(held), (name, before, after)
"""


def test_resident_memory_grows_with_what_is_held() -> None:
    """In a process of its own: a heap that other tests have stretched gives memory back when it likes."""
    subprocess.run([sys.executable, "-c", _ONE_LARGE], check=True, timeout=60)


def test_a_process_that_has_gone_holds_nothing() -> None:
    assert resident_bytes(2**22 + 1) == {"rss": 0, "anonymous": 0}


_MANY_SMALL = """
from vla.core.machine.memory import give_back, machine_bytes, resident_bytes

before = resident_bytes()["rss"]
small = [bytes(1000) for _ in range(200_000)]  # below the size from which the C library asks the system
held = resident_bytes()["rss"]
del small
give_back()
assert held - before > 150e6
assert resident_bytes()["rss"] - before < 0.3 * (held - before)
assert machine_bytes() > held
"""


def test_memory_of_what_is_gone_is_given_back() -> None:
    """In a process of its own, whose heap no other test has stretched."""
    subprocess.run([sys.executable, "-c", _MANY_SMALL], check=True, timeout=60)


_CYCLE = """
from vla.core.machine.memory import collect_seldom

class Loop:
    def __init__(self):
        self.own = self
    def __del__(self):
        print("found")

Loop()
if {told}:
    collect_seldom()
"""


@pytest.mark.parametrize(("told", "said"), [(False, "found\n"), (True, "")])
def test_what_the_process_leaves_is_not_looked_through(told: bool, said: str) -> None:
    command = [sys.executable, "-c", _CYCLE.format(told=told)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == said


@pytest.mark.parametrize(
    ("group", "file"),
    [("0::/one", "one/memory.events"), ("4:cpu,memory:/one", "memory/one/memory.oom_control")],
)
def test_kills_are_counted_in_both_versions_of_control_groups(
    group: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    assert memory_kills() is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"{group}\n")
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("low 0\noom 5\noom_kill 3\n")
    assert memory_kills() == 3
    (tmp_path / "proc/vmstat").write_text("nr_dirty 7\noom_kill 2\n")
    assert memory_kills() == 5
