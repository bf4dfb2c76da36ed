"""The line between a program and emulated servos: a pseudo-terminal on which bytes take the time that they would.

A pseudo-terminal hands bytes over at once and knows no speed. Here an answer comes as late as its last byte would on a
line of the speed that the program has set, behind what was asked and what each servo waits.
"""

import bisect
import os
import random
import select
import termios
import tty
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vla.core.errors import ConfigError
from vla.deploy.emulators.bus import Reply

_BITS = 10
"""On the wire for a byte: one start, eight, one stop."""
_SPEEDS = {getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()}
_READ = 4096


class Line:
    """One pseudo-terminal; ``link`` is a symbolic link to it, so that programs find it under a name that stays."""

    def __init__(self, link: Path | None, *, baud: int, seed: int = 0) -> None:
        self._link, self._nominal = link, baud
        self._random = random.Random(seed)
        self._master = self._slave = -1
        self._waiting: list[tuple[float, bytes]] = []
        self.drops = self.flips = 0.0
        """Share of the bytes that are lost, and that arrive with a wrong bit, both ways."""
        self.counts: Counter[str] = Counter()
        self.plug()

    @property
    def device(self) -> str:
        """The path that a program opens."""
        return str(self._link) if self._link is not None else os.ttyname(self._slave)

    @property
    def descriptor(self) -> int:
        """Readable when something was said; -1 while it is unplugged."""
        return self._master

    @property
    def due_s(self) -> float | None:
        """When the next answer is there (monotonic)."""
        return self._waiting[0][0] if self._waiting else None

    @property
    def baud(self) -> int:
        """What the program has set."""
        return _SPEEDS.get(termios.tcgetattr(self._master)[5], self._nominal)

    def plug(self) -> None:
        """Appear."""
        if self._master >= 0:
            return
        if self._link is not None and self._link.exists() and not self._link.is_symlink():
            raise ConfigError(f"{self._link} is a file already, not a link to a serial line; choose another --link")
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)  # our own end of it stays open, so that programs may come and go
        os.set_blocking(self._master, False)
        if self._link is not None:
            fresh = self._link.with_name(f"{self._link.name}.{os.getpid()}")
            try:
                with suppress(FileNotFoundError):
                    fresh.unlink()
                fresh.symlink_to(os.ttyname(self._slave))
                fresh.replace(self._link)
            except OSError as error:
                raise ConfigError(f"{self._link}: {error.strerror}; choose another --link") from None

    def unplug(self) -> None:
        """Vanish, as an adapter does that is pulled out: whoever has it open gets errors."""
        if self._master < 0:
            return
        if self._link is not None:
            with suppress(FileNotFoundError):
                self._link.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1
        self._waiting.clear()

    def read(self) -> bytes:
        """What was said, without what was lost on the way."""
        if self._master < 0 or not select.select([self._master], [], [], 0)[0]:
            return b""
        try:
            data = os.read(self._master, _READ)
        except OSError:  # closed at this moment
            return b""
        self.counts["bytes heard"] += len(data)
        return self._harmed(data)

    def answer(self, now_s: float, heard: int, replies: Sequence[Reply]) -> None:
        """Send these behind ``heard`` bytes that have just been handed over, each when it is due."""
        byte_s = _BITS / self.baud
        due_s = now_s + heard * byte_s
        for reply in replies:
            due_s += reply.wait_s + len(reply.data) * byte_s
            bisect.insort(self._waiting, (due_s, reply.data))  # a slow one does not keep later answers waiting

    def send(self, now_s: float) -> None:
        """Hand over what is due."""
        while self._waiting and self._waiting[0][0] <= now_s:
            data = self._harmed(self._waiting.pop(0)[1])
            self.counts["bytes said"] += len(data)
            with suppress(OSError):  # nobody reads, and the buffer is full
                os.write(self._master, data)

    def _harmed(self, data: bytes) -> bytes:
        if not (self.drops or self.flips):
            return data
        kept = bytes(byte for byte in data if self._random.random() >= self.drops)
        self.counts["bytes lost"] += len(data) - len(kept)
        harmed = bytes(b ^ (1 << self._random.randrange(8)) if self._random.random() < self.flips else b for b in kept)
        self.counts["bytes harmed"] += sum(a != b for a, b in zip(kept, harmed, strict=True))
        return harmed
