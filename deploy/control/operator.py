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
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        """Set at once by `STOP`, before the loop has come around to it."""
        self.listeners = 0
        """How many keyboards and pages there are: with one, a robot that pauses waits for it."""

    def give(self, order: Order) -> None:
        """An order; a stop goes before all that waits, and what said go before it does not."""
        if order is not Order.STOP:
            with self._lock:
                self._waiting.append(order)
            return
        self.stopping.set()
        with self._lock:
            others = [waiting for waiting in self._waiting if waiting is not Order.GO]
            self._waiting.clear()
            self._waiting.extend((order, *others))

    def say(self, instruction: str) -> None:
        """A new instruction, beginning a new episode; it ends a pause, and no stop."""
        with self._lock:
            self._waiting.append(instruction)

    def heard(self) -> Iterator[Order | str]:
        """What has come since, in order."""
        with self._lock:
            found = list(self._waiting)
            self._waiting.clear()
        yield from found


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
        elif key in KEYS:
            operator.give(KEYS[key])

    with listening(on_key) as there:
        operator.listeners += there
        yield there
        operator.listeners -= there
