"""What a person says to a running robot: from the keyboard, from a page, from a program; heard once in each step."""

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections import deque
from collections.abc import Iterator
from enum import Enum


class Order(Enum):
    """What a robot can be told beside what to do."""

    GO = "go"
    """Go on; this alone takes back a stop."""
    PAUSE = "pause"
    """Come to rest until told to go on."""
    STOP = "stop"
    """The same, and nothing but `GO` ends it: whoever says it means it."""
    HOME = "home"
    """Go back to where the robot stood at the beginning, slowly, and pause there."""
    QUIT = "quit"
    """Come to rest, then end the session."""


class Operator:
    """Orders and instructions that wait for the loop, from any thread."""

    def __init__(self) -> None:
        self._waiting: deque[Order | str] = deque()
        self.stopping = threading.Event()
        """Set at once by `STOP`, before the loop has come around to it."""

    def give(self, order: Order) -> None:
        """An order; a stop goes before all that waits."""
        if order is Order.STOP:
            self._waiting.clear()
            self.stopping.set()
        self._waiting.append(order)

    def say(self, instruction: str) -> None:
        """A new instruction, beginning a new episode."""
        self._waiting.append(instruction)

    def heard(self) -> Iterator[Order | str]:
        """What has come since, in order."""
        with contextlib.suppress(IndexError):
            while True:
                yield self._waiting.popleft()


KEYS = {" ": Order.PAUSE, "g": Order.GO, "s": Order.STOP, "\x1b": Order.STOP, "h": Order.HOME, "q": Order.QUIT}
HELP = "keys: space pause, g go on, s or Esc stop, h home, i new instruction, q quit"


@contextlib.contextmanager
def keyboard(operator: Operator) -> Iterator[bool]:
    """Listen to the terminal while the block runs, if there is one; gives whether there is."""
    if not sys.stdin.isatty():
        yield False
        return
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    end, ender = os.pipe()
    listener = threading.Thread(target=_listen, args=(operator, source, end, before), name="vla-keys", daemon=True)
    tty.setcbreak(source)
    try:
        listener.start()
        yield True
    finally:
        os.write(ender, b".")
        listener.join(1.0)
        termios.tcsetattr(source, termios.TCSADRAIN, before)
        os.close(ender)
        os.close(end)


def _listen(operator: Operator, source: int, end: int, cooked: list[object]) -> None:
    while True:
        ready, _, _ = select.select([source, end], [], [])
        if end in ready:
            return
        key = os.read(source, 1).decode(errors="ignore")
        if key == "i":
            operator.give(Order.PAUSE)
            termios.tcsetattr(source, termios.TCSADRAIN, cooked)  # type: ignore[arg-type]  # what tcgetattr gave
            sys.stderr.write("instruction: ")
            sys.stderr.flush()
            line = sys.stdin.readline().strip()
            tty.setcbreak(source)
            if line:
                operator.say(line)
            operator.give(Order.GO)
        elif key in KEYS:
            operator.give(KEYS[key])
