"""What a person says of demonstrations while they are made: begin, that was it, that was nothing, throw it away."""

import threading
from enum import Enum
from typing import Literal

from vla.deploy.control.operator import Operator, Order
from vla.deploy.control.terminal import Ask
from vla.deploy.teleop.teleoperator import Keyed


class Mark(Enum):
    """Where an episode begins and ends."""

    BEGIN = "begin"
    SUCCESS = "success"
    """It ends, and the task is done."""
    FAILURE = "failure"
    """It ends, and is kept as one that failed."""
    DISCARD = "discard"
    """It ends, and is not kept."""


class Director:
    """Hears marks and orders from any thread; a drive of `operator`'s loop ends with a mark that fits the moment."""

    def __init__(self) -> None:
        self.operator = Operator()
        self.leaving = False
        self.said: Mark | None = None
        """What ended the present drive, or the last."""
        self._phase: Literal["between", "free", "recording"] = "between"
        self._lock = threading.Lock()

    @property
    def recording(self) -> bool:
        """Whether what happens belongs to an episode."""
        return self._phase == "recording"

    def give(self, order: Order | Mark) -> None:
        """An order for the robot; or a mark, which is heard once in each drive, and where it means something."""
        with self._lock:
            if order is Order.QUIT:
                self.leaving = True
                self.operator.give(Order.QUIT)
            elif isinstance(order, Order):
                self.operator.give(order)
            elif self.said is None and self._phase == ("free" if order is Mark.BEGIN else "recording"):
                self.said = order
                self.operator.give(Order.QUIT)

    def begin(self, phase: Literal["free", "recording"], *, stopped: bool) -> None:
        """A drive begins, and goes on by itself unless the robot was told to stop."""
        with self._lock:
            waiting = [order for order in self.operator.heard() if order is not Order.QUIT]  # of the drive before
            if not (stopped or self.operator.stopping.is_set()):
                self.operator.give(Order.GO)
            for order in waiting:
                self.operator.say(order) if isinstance(order, str) else self.operator.give(order)
            if self.leaving:
                self.operator.give(Order.QUIT)
            self.said, self._phase = None, phase

    def end(self) -> None:
        """The drive is over."""
        with self._lock:
            self._phase = "between"


ORDERS = {" ": Order.PAUSE, "c": Order.GO, "\x1b": Order.STOP, "b": Order.HOME, "\x04": Order.QUIT}
MARKS = {"x": Mark.FAILURE, "\x7f": Mark.DISCARD, "\x08": Mark.DISCARD}
ENTER = ("\n", "\r")
HELP = (
    "Enter begins an episode, and ends it as a success; x ends it as a failure, Backspace throws it away\n"
    "space pause, c go on, Esc stop, b back home, n new instruction, Ctrl-D quit"
)


def meaning(key: str, *, recording: bool) -> Order | Mark | None:
    """Of a key of the session; None for all others."""
    if key in ENTER:
        return Mark.SUCCESS if recording else Mark.BEGIN
    return MARKS.get(key) or ORDERS.get(key)


def hear(key: str, ask: Ask, director: Director, teleoperator: object) -> None:
    """Do what one key means; ``ask`` is for a new instruction."""
    if meant := meaning(key, recording=director.recording):
        director.give(meant)
    elif key == "n" and not director.recording:
        if line := ask("instruction: "):
            director.operator.say(line)
    elif isinstance(teleoperator, Keyed):
        teleoperator.press(key)
