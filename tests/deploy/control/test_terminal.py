"""Keys come one by one, as they are typed, and the terminal is left as it was."""

import os
import pty
import sys
import termios
import time

import pytest

from vla.deploy.control.operator import Operator, Order, keyboard
from vla.deploy.control.terminal import listening, split_keys


def test_an_arrow_is_one_key() -> None:
    assert split_keys("a\x1b[Ab\x1b[5~\x1b") == ["a", "\x1b[A", "b", "\x1b[5~", "\x1b"]
    assert split_keys("a\n\r") == ["a", "\n", "\r"]


def test_what_is_typed_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        before, keys, asked = termios.tcgetattr(slave), list[str](), list[str]()

        def on_key(key: str, ask: object) -> None:
            keys.append(key)
            if key == "n":
                asked.append(ask("name: "))  # type: ignore[operator]

        with listening(on_key) as there:
            assert there
            os.write(master, b"ab\x1b[An")
            _until(lambda: len(keys) == 4)
            os.write(master, b"a line\nc")  # in one go
            _until(lambda: asked == ["a line"])
            _until(lambda: keys == ["a", "b", "\x1b[A", "n", "c"])
        assert termios.tcgetattr(slave) == before
        operator = Operator()
        with keyboard(operator):
            os.write(master, b"gs")
            _until(operator.stopping.is_set)
        assert list(operator.heard()) == [Order.STOP]
    os.close(master)


def test_without_a_terminal_nobody_listens() -> None:
    with listening(lambda key, ask: None) as there:
        assert not there


def _until(true: object) -> None:
    deadline = time.monotonic() + 10
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
