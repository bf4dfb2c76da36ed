"""One TCP connection of a client, dropped as soon as it costs more than its share: memory, time, or a place."""

import asyncio
import logging
import time
from typing import Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import CloseCode
from websockets.protocol import Event
from websockets.server import ServerProtocol

from vla.deploy.limits import Limits
from vla.deploy.serving.metrics import Metrics

_log = logging.getLogger(__name__)
_UNREAD = 4
"""Messages that may have arrived since the last one was taken: read ahead, in the making, and pings between them."""


class Guard:
    """What the connections of one server have in common."""

    def __init__(self, limits: Limits, message_bytes: int, metrics: Metrics) -> None:
        self.limits, self.message_bytes, self.metrics = limits, message_bytes, metrics
        self.open: set[GuardedConnection] = set()


class GuardedConnection(ServerConnection):
    """What websockets lacks: it answers pings without looking at who reads the pongs, and takes empty fragments."""

    def __init__(self, protocol: ServerProtocol, server: Server, *, guard: Guard, **settings: Any) -> None:
        super().__init__(protocol, server, **settings)
        self._guard = guard
        self._unread_bytes = 0
        self._frames, self._counted_at = 0.0, time.monotonic()

    def message_taken(self) -> None:
        """A whole message was read."""
        self._unread_bytes = 0

    def drop(self, reason: str) -> None:
        """End it without a goodbye: whoever does not read would not hear it."""
        self._count(reason)
        self.transport.abort()

    def dismiss(self, reason: str) -> None:
        """End it with one, and wait for nothing."""
        self._count(reason)
        self._goodbye = asyncio.create_task(self.close(CloseCode.TRY_AGAIN_LATER, reason))

    def _count(self, reason: str) -> None:
        _log.warning("dropped the client at %s: %s", self.transport.get_extra_info("peername"), reason)
        self._guard.metrics.dropped.labels(reason.partition(":")[0]).inc()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """One more, if there is room."""
        super().connection_made(transport)
        self._guard.open.add(self)
        if len(self._guard.open) > self._guard.limits.sockets:
            self.drop("sockets: too many are open")

    def connection_lost(self, exc: Exception | None) -> None:
        """One less."""
        self._guard.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, answer pings, and look at what that cost."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        limits = self._guard.limits
        self._unread_bytes += len(data)
        now = time.monotonic()
        self._frames = max(0.0, self._frames - (now - self._counted_at) * limits.frames_per_s)
        self._counted_at = now
        if self._frames > limits.frames_per_s:
            self.drop("frames: too many")
        elif self._unread_bytes > _UNREAD * self._guard.message_bytes:
            self.drop("bytes: too many for one message")
        elif self.transport.get_write_buffer_size() > limits.write_bytes:
            self.drop("answers: they are not read")

    def process_event(self, event: Event) -> None:
        """One frame, a ping or a piece of a message among them."""
        self._frames += 1
        super().process_event(event)
