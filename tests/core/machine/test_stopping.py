"""Ctrl-C, SIGTERM and SIGHUP are one request; who handles it, who is spared, and what the exit code says."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from vla.core.machine.stopping import (
    REQUESTS,
    Interrupted,
    exit_code,
    handlers_kept,
    interrupt,
    left_to_parent,
    requests_go_to,
)


@pytest.fixture(autouse=True)
def _nothing_is_ignored() -> Iterator[None]:
    """Also where the suite runs under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", REQUESTS)
def test_every_request_is_heard_while_it_is_listened_for(number: signal.Signals) -> None:
    before, heard = signal.getsignal(number), list[int]()
    with requests_go_to(heard.append):
        os.kill(os.getpid(), number)
        with requests_go_to(interrupt), pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert heard == [number, number]
    assert exit_code(caught.value) == 128 + number
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with requests_go_to(interrupt):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_that_a_library_takes_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with handlers_kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_handlers_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def listen() -> None:
        with requests_go_to(interrupt):
            assert signal.getsignal(signal.SIGTERM) is before

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()


def _wait(pipe: Connection) -> None:
    pipe.send("here")
    pipe.recv()


def test_processes_that_are_started_meanwhile_do_not_hear_of_requests() -> None:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_wait, args=(theirs,))
    with left_to_parent():
        child.start()
    assert ours.recv() == "here"
    for number in REQUESTS:
        assert child.pid is not None
        os.kill(child.pid, number)
    ours.send("go on")
    child.join(20)
    assert child.exitcode == 0


def test_the_exit_code_is_that_of_the_signal_behind_the_words() -> None:
    assert exit_code(KeyboardInterrupt("stopped")) == 130

    def stop() -> None:
        try:
            interrupt(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped; 3 episodes are kept") from None

    with pytest.raises(KeyboardInterrupt) as caught:
        stop()
    assert exit_code(caught.value) == 143


_COMMAND = """
import os, signal, sys
sys.argv = ["vla", "info", "nowhere"]
from vla.cli import info, main
info.main = lambda argv: os.kill(os.getpid(), int(sys.stdin.read())) or signal.pause()
sys.exit(main.main())
"""


@pytest.mark.parametrize("number", REQUESTS)
def test_a_command_ends_with_the_conventional_code_and_without_a_traceback(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND], input=str(int(number)), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (128 + number, "vla info: interrupted\n")
