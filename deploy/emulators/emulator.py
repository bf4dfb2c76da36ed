"""The loop of an emulator: bytes, physics, faults and whoever asks, each when it is due, in real time.

It never runs slower than the clock without saying so: what it could not keep up with is in ``counts``.
"""

import logging
import select
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from vla.core.errors import ConfigError, VlaError
from vla.core.sealed import DamageError
from vla.deploy.emulators.bus import Bus
from vla.deploy.emulators.control import get, put
from vla.deploy.emulators.faults import Fault, Schedule, read_fault
from vla.deploy.emulators.line import Line
from vla.deploy.worlds.world import World

_log = logging.getLogger(__name__)
_BEHIND_S = 0.05
"""How far the simulation may be behind the clock; what is more is skipped, and counted."""
_BURST = 4
"""Steps in a row when it is behind, before the bus gets its turn."""
_QUIET_S = 0.005
"""A frame that pauses for longer is forgotten."""
_LONGEST_S = 0.1


class Emulator:
    """Runs a bus on a line in a world."""

    def __init__(self, world: World, bus: Bus, line: Line) -> None:
        self._world, self._bus, self._line = world, bus, line
        self._schedule = Schedule(bus, line)
        self._pipes: list[Connection] = []
        self._listener: Listener | None = None
        self._counts: Counter[str] = Counter()
        self._heard_s = self._due_s = time.monotonic()
        self._aims = 0

    @property
    def counts(self) -> dict[str, int]:
        """What happened so far, ``behind`` how often it could not keep up among it."""
        return dict(self._counts + self._bus.counts + self._line.counts)

    @property
    def device(self) -> str:
        """The path that a program opens."""
        return self._line.device

    def cause(self, fault: Fault) -> None:
        """Plan a fault from now on."""
        self._schedule.add(fault, time.monotonic())

    def attend(self, pipe: Connection) -> None:
        """Answer what is asked here; see `vla.deploy.emulators.control`."""
        self._pipes.append(pipe)

    def listen(self, path: Path) -> None:
        """Let others on this machine connect and ask."""
        try:
            self._listener = Listener(str(path), family="AF_UNIX")
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; choose another --control") from None

    def begin(self, seed: int) -> dict[str, Any]:
        """Lay out a scene; the servos are told to stay where they are put."""
        said = self._world.begin(seed)
        for servo in self._bus.servos.values():
            servo.reset()
        self._aims = self._told()
        self._due_s = time.monotonic()
        return said

    def run(self, go_on: Callable[[], bool]) -> None:
        """Until ``go_on`` says no, which is asked at least ten times a second, or the last pipe hangs up."""
        had_pipes = bool(self._pipes)
        self._due_s = time.monotonic()
        while go_on() and (self._pipes or not had_pipes):
            now_s = time.monotonic()
            for line in self._schedule.run(now_s):
                _log.info("%s", line)
            self._advance(now_s)
            self._line.send(time.monotonic())
            self._hear(self._wait())

    def close(self) -> None:
        """Vanish from the line."""
        self._line.unplug()
        if self._listener is not None:
            self._listener.close()
        for pipe in self._pipes:
            pipe.close()
        self._world.close()

    def _advance(self, now_s: float) -> None:
        """Let the simulation catch up with the clock."""
        plant = self._world.plant
        dt_s = plant.dt_s
        for _ in range(_BURST):
            if self._due_s > now_s:
                break
            with self._world.lock:
                for servo in self._bus.servos.values():
                    servo.step(dt_s)
                    servo.motor.step(dt_s)
                plant.step()
            self._world.moved()
            self._due_s += dt_s
        behind_s = time.monotonic() - self._due_s
        if behind_s > _BEHIND_S:
            self._counts["behind"] += 1
            self._counts["skipped ms"] += round(behind_s * 1e3)
            self._due_s += behind_s

    def _wait(self) -> list[Any]:
        """Sleep until something is due or somebody speaks: who."""
        dues = [due for due in (self._due_s, self._line.due_s, self._schedule.due_s) if due is not None]
        timeout_s = min(max(0.0, min(dues) - time.monotonic()), _LONGEST_S)
        sources: list[Any] = [*self._pipes]
        if self._line.descriptor >= 0:
            sources.append(self._line.descriptor)
        if self._listener is not None:
            sources.append(self._listener._listener._socket)  # type: ignore[attr-defined]
        return select.select(sources, [], [], timeout_s)[0]

    def _hear(self, ready: list[Any]) -> None:
        for source in ready:
            if source == self._line.descriptor:
                self._serve()
            elif isinstance(source, Connection):
                self._attend(source)
            elif self._listener is not None:
                self._pipes.append(self._listener.accept())

    def _serve(self) -> None:
        """Bytes on the line."""
        data, now_s = self._line.read(), time.monotonic()
        if not data:
            return
        if now_s - self._heard_s > _QUIET_S:
            self._bus.quiet()
        self._heard_s = now_s
        self._line.answer(now_s, len(data), self._bus.hear(data, self._line.baud))
        if self._told() != self._aims:
            self._aims = self._told()
            self._world.told()

    def _told(self) -> int:
        return sum(servo.motor.aims for servo in self._bus.servos.values())

    def _attend(self, pipe: Connection) -> None:
        try:
            put(pipe, self._answer(get(pipe)))
        except (EOFError, OSError):
            self._pipes.remove(pipe)
            pipe.close()
        except DamageError as error:
            put(pipe, {"error": str(error)})

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            match asked:
                case {"do": "begin", "seed": int(seed)} if seed >= 0:
                    return self.begin(seed)
                case {"do": "status"}:
                    return {**self._world.status(), "counts": self.counts}
                case {"do": "fault", "say": str(text)}:
                    self.cause(read_fault(text, self._bus))
                    return {}
                case {"do": "clear"}:
                    self._schedule.clear()
                    return {}
        except VlaError as error:
            return {"error": str(error)}
        return {"error": f"what is asked must be begin with a seed, status, fault or clear, got {str(asked)[:200]}"}
