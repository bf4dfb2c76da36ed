"""What is granted is said and given back."""

import gc
import os
import sys
from typing import Any

import pytest

from vla.deploy.control.realtime import real_time


def test_what_is_granted_is_said_and_given_back() -> None:
    before = os.sched_getscheduler(0), os.sched_getaffinity(0), sys.getswitchinterval()
    core = min(os.sched_getaffinity(0))
    with real_time(priority=10, core=core) as line:
        assert not gc.isenabled()
        assert os.sched_getaffinity(0) == {core}
        assert f"core {core}" in line
        fifo = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO
        assert ("SCHED_FIFO 10" in line.partition(";")[0]) is fifo  # where it is not permitted it is said so
    assert (os.sched_getscheduler(0), os.sched_getaffinity(0), sys.getswitchinterval()) == before
    assert gc.isenabled()


def test_what_is_refused_is_said_and_the_loop_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with real_time(priority=10) as line:
        assert "not permitted: SCHED_FIFO 10 (Operation not permitted)" in line


def test_nothing_is_asked_for_by_default() -> None:
    with real_time(priority=0) as line:
        assert "SCHED_FIFO" not in line
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
