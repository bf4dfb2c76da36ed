"""The places of a server: each client has one, which is a slot of the policy, and keeps it while it asks."""

import asyncio
import time
from dataclasses import dataclass

from vla.deploy.serving.connection import GuardedConnection


@dataclass(kw_only=True)
class Place:
    """A slot that a client has."""

    slot: int
    connection: GuardedConnection
    asked_at: float
    """When it last asked, on the monotonic clock."""
    busy: bool = False
    """Whether it waits for an answer."""


class Places:
    """At most ``count`` at a time; one whose client has asked nothing for ``idle_s`` goes to a newcomer if need be."""

    def __init__(self, count: int, idle_s: float) -> None:
        self._free = list(range(count))
        self._taken: dict[int, Place] = {}
        self._idle_s = idle_s

    @property
    def taken(self) -> int:
        """How many clients there are."""
        return len(self._taken)

    @property
    def any_left(self) -> bool:
        """Whether a newcomer would get one."""
        return bool(self._free) or self._idlest() is not None

    def take(self, connection: GuardedConnection) -> Place | None:
        """A place, or none."""
        if not self._free:
            idlest = self._idlest()
            if idlest is None:
                return None
            self.give_back(idlest)
            idlest.connection.dismiss("idle: a newcomer needed the place")
        place = Place(slot=self._free.pop(0), connection=connection, asked_at=time.monotonic())
        self._taken[place.slot] = place
        return place

    def give_back(self, place: Place) -> None:
        """Its client is gone; nothing happens if another has it already."""
        if self._taken.get(place.slot) is place:
            del self._taken[place.slot]
            self._free.append(place.slot)

    def _idlest(self) -> Place | None:
        idle = [place for place in self._taken.values() if not place.busy]
        first = min(idle, key=lambda place: place.asked_at, default=None)
        return first if first is not None and time.monotonic() - first.asked_at > self._idle_s else None


class Pace:
    """How fast one client may send: whoever is faster is not read meanwhile."""

    def __init__(self, requests_per_s: float, bytes_per_s: float) -> None:
        self._per_request_s, self._per_byte_s = 1 / requests_per_s, 1 / bytes_per_s
        self._due = time.monotonic()

    async def wait(self, size: int) -> None:
        """Until a message of ``size`` bytes may be taken; a second's worth of them may come at once."""
        now = time.monotonic()
        self._due = max(self._due, now - 1.0) + max(self._per_request_s, size * self._per_byte_s)
        if self._due > now:
            await asyncio.sleep(self._due - now)
