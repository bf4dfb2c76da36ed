"""The conversation with one client: its messages in, the policy's answers out, in order."""

import asyncio
import logging
import time
from typing import Any

from websockets.exceptions import ConnectionClosed

from vla.core.contract import Contract
from vla.core.errors import ServeError
from vla.deploy.engines.batcher import Answer, Batcher, OverdueError, UnavailableError
from vla.deploy.serving.connection import GuardedConnection
from vla.deploy.limits import Limits
from vla.deploy.serving.metrics import Metrics
from vla.deploy.serving.places import Pace, Place
from vla.deploy.requests import Request, has_pictures, read_message, request_of, write_answer
from vla.deploy.wire import pack

_log = logging.getLogger(__name__)


class Session:
    """One client on one place."""

    def __init__(self, place: Place, contract: Contract, batcher: Batcher, limits: Limits, metrics: Metrics) -> None:
        self._place, self._contract, self._batcher = place, contract, batcher
        self._limits, self._metrics = limits, metrics
        self._new_episode = True  # a connection starts with a fresh slot
        self._previous_ms: float | None = None
        self._states = self._commands = 0

    async def converse(self, metadata: bytes) -> None:
        """Until the client goes, or is dropped."""
        connection, place = self._place.connection, self._place
        pace = Pace(self._limits.requests_per_s, self._limits.bytes_per_s)
        try:
            await self._send(connection, metadata)
            async for frame in connection:
                start = time.perf_counter()
                place.busy = True
                connection.message_taken()
                await self._send(connection, await self._reply(frame, start))
                seconds = time.perf_counter() - start
                self._previous_ms = seconds * 1e3
                self._metrics.request.observe(seconds)
                place.busy, place.asked_at = False, time.monotonic()
                await pace.wait(len(frame))
        except ConnectionClosed:
            _log.info("the client on slot %d went away", place.slot)
        if self._states or self._commands:
            _log.info(
                "slot %d: clipped %d states and %d commands that were outside of limits",
                place.slot,
                self._states,
                self._commands,
            )

    async def _reply(self, frame: bytes | str, start: float) -> bytes | str:
        """The answer to one message: a map, or a line of text that says what is wrong."""
        kind = "request"
        self._metrics.requests.inc()
        try:
            message = read_message(frame, self._limits)
            if has_pictures(message):  # beside the loop, which others wait for
                request = await asyncio.to_thread(request_of, message, self._contract, self._limits)
            else:
                request = request_of(message, self._contract, self._limits)
            kind = "policy"
            future = self._batcher.submit(
                self._place.slot, request.observation, reset=self._new_episode or request.reset
            )
            answer = await asyncio.wrap_future(future)
            self._new_episode = False
            return pack(self._response(request, answer, start))
        except ServeError as error:
            kind = (
                "late" if isinstance(error, OverdueError) else "down" if isinstance(error, UnavailableError) else kind
            )
            reply = " ".join(str(error).split())  # a text frame is an error, one line
        except Exception:
            _log.exception("slot %d: a request failed", self._place.slot)
            kind, reply = "server", "the server failed; its log has the details"
        self._metrics.errors.labels(kind).inc()
        return reply

    def _response(self, request: Request, answer: Answer, start: float) -> dict[str, Any]:
        response: dict[str, Any] = {"reset": True} if answer.chunk is None else write_answer(answer.chunk)
        if request.sequence is not None:
            response["sequence"] = request.sequence
        if request.state_clipped:
            response["state_clipped"] = True
        self._states += request.state_clipped
        self._commands += len(response.get("clipped", ()))
        response["policy_timing"] = {"infer_ms": answer.infer_ms, "batch_size": answer.batch_size}
        timing = {"infer_ms": (time.perf_counter() - start) * 1e3, "queue_ms": answer.queue_ms}
        if self._previous_ms is not None:
            timing["prev_total_ms"] = self._previous_ms
        response["server_timing"] = timing
        return response

    async def _send(self, connection: GuardedConnection, reply: bytes | str) -> None:
        try:
            async with asyncio.timeout(self._limits.write_s):
                await connection.send(reply)
        except TimeoutError:
            connection.drop("answers: they are not read")
