"""A stop goes before all that waits; everything is heard once; a keyboard is counted while it is there."""

import os
import pty
import sys
import termios
import time

import pytest

from vla.deploy.control.operator import KEYS, Operator, Order, keyboard


def test_what_is_said_is_heard_once_and_in_order() -> None:
    operator = Operator()
    operator.give(Order.PAUSE)
    operator.say("wave")
    operator.give(Order.GO)
    assert list(operator.heard()) == [Order.PAUSE, "wave", Order.GO]
    assert not list(operator.heard())
    assert not operator.stopping.is_set()


def test_a_stop_goes_first_and_takes_along_the_go_before_it_alone() -> None:
    operator = Operator()
    operator.give(Order.HOME)
    operator.give(Order.GO)
    operator.say("wave")
    operator.give(Order.STOP)
    assert operator.stopping.is_set()  # before anybody has come around to hear it
    operator.give(Order.GO)
    assert list(operator.heard()) == [Order.STOP, Order.HOME, "wave", Order.GO]


def test_a_keyboard_is_counted_and_words_are_typed_in_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        operator, heard = Operator(), list[Order | str]()
        with keyboard(operator) as there:
            assert there
            assert operator.listeners == 1
            os.write(master, b"i")
            _until(lambda: heard.extend(operator.heard()) or heard == [Order.PAUSE])
            os.write(master, b"wave twice\n")
            _until(lambda: heard.extend(operator.heard()) or heard == [Order.PAUSE, "wave twice"])
            os.write(master, b"i")
            _until(lambda: heard.extend(operator.heard()) or heard[2:] == [Order.PAUSE])
            os.write(master, b"\n")  # no words are no instruction
            _until(lambda: not termios.tcgetattr(slave)[3] & termios.ICANON)
            os.write(master, b"".join(key.encode() for key in KEYS if key != "\x1b") + b"x\x1b")
            _until(operator.stopping.is_set)
            os.write(master, b"g")  # what was typed before the stop may have gone with it
            _until(lambda: heard.extend(operator.heard()) or set(heard[3:]) >= set(KEYS.values()))
        assert operator.listeners == 0
        assert "" not in heard
    os.close(master)


def _until(true: object) -> None:
    deadline = time.monotonic() + 10
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
