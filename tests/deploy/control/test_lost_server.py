"""A server that is lost while an arm moves: the arm is at rest in time, and goes on when there is a server again."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.control.arms import Arm
from vla.deploy.control.drive import Drive, Pace
from vla.deploy.control.loop import ControlLoop
from vla.deploy.control.operator import Operator, Order
from vla.deploy.remote import RemotePolicy
from vla.deploy.robots.motion import Motion

STALE_S = 0.4
MOTION = Motion(speed=2.0, acceleration=20.0, stale_s=STALE_S, hold_s=60.0, servo_hz=100.0)
MARGIN_S = 0.3
"""Coming to rest from full speed (0.1 s), a period, and what a busy machine adds."""


Served = tuple[str, subprocess.Popen[bytes]]


@contextmanager
def served(folder: Path, port: int = 0, program: str = "vla.cli.main") -> Iterator[Served]:
    """The address of ``vla serve`` and the leader of its process group."""
    ready = folder / f"ready-{time.monotonic_ns()}.json"
    arguments = ("tests.deploy.control.arms:Sweeping", "--port", str(port), "--json", str(ready))
    command = [sys.executable, "-m", program, "serve", *arguments]
    with (folder / "served.txt").open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + 100
        while not ready.exists():
            assert process.poll() is None, (folder / "served.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield json.loads(ready.read_text())["address"], process
    finally:
        to_all(process, signal.SIGKILL)
        process.wait()


def port_of(server: Served) -> int:
    return int(server[0].rpartition(":")[2])


def to_all(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class Cable:
    """Between a client and a server: can be cut, and can fall silent with both ends still open."""

    def __init__(self, port: int) -> None:
        self._there = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._silent = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here = self._listener.accept()[0]
                try:
                    there = socket.create_connection(("127.0.0.1", self._there))
                except OSError:
                    here.close()
                    continue
                self._ends += [here, there]
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        mute = False  # what fell silent stays so
        with suppress(OSError):
            while data := source.recv(1 << 16):
                mute |= self._silent
                if not mute:
                    sink.sendall(data)

    def cut(self) -> None:
        for end in self._ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, and no goodbye
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def silence(self) -> None:
        self._silent = True

    def speak(self) -> None:
        self._silent = False

    def close(self) -> None:
        self._listener.close()
        self.cut()


class Drives:
    """An arm that is driven from a thread, through ``address``."""

    def __init__(self, address: str, *, ahead: bool) -> None:
        self.arm, self.operator = Arm(MOTION), Operator()
        self._loop = ControlLoop(
            RemotePolicy(address, timeout_s=1.0), self.arm, pace=Pace(ahead=ahead), operator=self.operator
        )
        self.drive: Drive | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.drive = self._loop.run(10_000)

    def moves_after(self, since_s: float) -> bool:
        """Whether it is sent, and goes, somewhere else from then on."""
        sent = np.array([c for c, at in list(zip(self.arm.commands, self.arm.sent_s, strict=False)) if at > since_s])
        return len(sent) > 1 and bool((sent != sent[0]).any())

    def comes_to_move(self, since_s: float) -> None:
        deadline = time.monotonic() + 60
        while not self.moves_after(since_s):
            assert time.monotonic() < deadline
            assert self._thread.is_alive()
            time.sleep(0.02)

    def comes_to_rest(self) -> None:
        """In time from now on, and is held there, and not forgotten."""
        rest_s = time.monotonic() + STALE_S + MARGIN_S
        time.sleep(STALE_S + MARGIN_S + 0.5)
        assert not self.moves_after(rest_s)
        assert self.arm.sent_s[-1] > rest_s

    def ended_well(self) -> None:
        assert self.drive is not None
        assert self.drive.ended == "quit"
        fastest = np.abs(np.diff(np.array(self.arm.commands), axis=0)).max() * MOTION.servo_hz
        assert fastest <= MOTION.speed + 1e-3

    def close(self) -> None:
        self.operator.give(Order.QUIT)
        self._thread.join(60)
        self._loop.close()


@contextmanager
def driven(server: Served, *, ahead: bool) -> Iterator[tuple[Cable, Drives]]:
    """Through a cable, and moving."""
    with closing(Cable(port_of(server))) as cable, closing(Drives(cable.address, ahead=ahead)) as drives:
        drives.comes_to_move(0.0)
        yield cable, drives


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that outlives what is done to it."""
    with served(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.mark.parametrize(
    ("fault", "ahead"),
    [("stopped", True), ("cut", True), ("half open", True), ("half open", False)],
    ids=lambda value: value if isinstance(value, str) else "ahead" if value else "waiting",
)
def test_the_arm_is_at_rest_in_time_and_goes_on_when_it_can(lasting: Served, fault: str, ahead: bool) -> None:
    _, process = lasting
    with driven(lasting, ahead=ahead) as (cable, drives):
        if fault != "half open":
            to_all(process, signal.SIGSTOP)
        if fault == "cut":
            cable.cut()
        if fault == "half open":
            cable.silence()
        drives.comes_to_rest()
        cable.speak()
        to_all(process, signal.SIGCONT)
        drives.comes_to_move(time.monotonic())
    drives.ended_well()


def test_it_goes_on_with_another_server_in_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    with served(tmp_path) as server, driven(server, ahead=True) as (_, drives):
        to_all(server[1], signal.SIGKILL)
        drives.comes_to_rest()
        server[1].wait()
        with served(tmp_path, port=port_of(server)):
            drives.comes_to_move(time.monotonic())
    drives.ended_well()


def test_a_wall_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle((0.0, 1e5, -1e5, 1e9))
    now, now_ns = time.time, time.time_ns
    with served(tmp_path, program="tests.deploy.control.jumping_clock") as server:
        with driven(server, ahead=True) as (_, drives):
            monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
            monkeypatch.setattr(time, "time_ns", lambda: now_ns() + round(next(jumps) * 1e9))
            before = len(drives.arm.commands)
            time.sleep(2.0)
            places = np.array(drives.arm.commands[before:])[:, 0]
            monkeypatch.undo()
        drives.ended_well()
    assert len(places) > 100  # of 200
    assert drives.drive is not None
    assert drives.drive.failures == drives.drive.wasted == 0
    assert "stale" not in drives.drive.gated
    assert 0.2 < places[-1] - places[0] < 0.5  # of 0.4
