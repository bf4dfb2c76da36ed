"""What a person says to a running robot: from the keyboard, from a page, from a program; heard once in each step."""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from enum import Enum

from vla.deploy.control.terminal import Ask, listening


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
    NEXT = "next"
    """This episode is over; the next scene, where there are scenes."""
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


KEYS = {
    " ": Order.PAUSE,
    "g": Order.GO,
    "s": Order.STOP,
    "\x1b": Order.STOP,
    "h": Order.HOME,
    "n": Order.NEXT,
    "q": Order.QUIT,
}
HELP = "keys: space pause, g go on, s or Esc stop, h home, i new instruction, n next scene, q quit"


@contextlib.contextmanager
def keyboard(operator: Operator) -> Iterator[bool]:
    """Listen to the terminal while the block runs, if there is one; gives whether there is."""

    def on_key(key: str, ask: Ask) -> None:
        if key == "i":
            operator.give(Order.PAUSE)
            if line := ask("instruction: "):
                operator.say(line)
            operator.give(Order.GO)
        elif key in KEYS:
            operator.give(KEYS[key])

    with listening(on_key) as there:
        yield there
