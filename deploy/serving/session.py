"""The conversation with one client: its messages in, the policy's answers out, in order."""

import asyncio
import logging
import time
from functools import partial
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed

from vla.core.errors import ServeError
from vla.deploy.engines.engine import OverdueError, UnavailableError
from vla.deploy.engines.work import Answer
from vla.deploy.limits import Limits
from vla.deploy.requests import Request, has_pictures, read_message, request_of, write_answer
from vla.deploy.serving.connection import GuardedConnection
from vla.deploy.serving.places import Pace, Place
from vla.deploy.serving.served import Served
from vla.deploy.wire import pack

_log = logging.getLogger(__name__)


class Session:
    """One client on one place of a policy."""

    def __init__(self, place: Place, served: Served, limits: Limits) -> None:
        self._place, self._served, self._limits = place, served, limits
        self._new_episode = True  # a connection starts with a fresh slot
        self._instruction: str | None = None
        self._speech: np.ndarray | None = None
        self._ahead: asyncio.Task[bytes | str] | None = None  # what is read while an answer is awaited
        self._previous_ms: float | None = None
        self._states = self._commands = 0

    async def converse(self, metadata: bytes) -> None:
        """Until the client goes, or is dropped."""
        connection, place = self._place.connection, self._place
        pace = Pace(self._limits.requests_per_s, self._limits.bytes_per_s)
        try:
            await self._send(connection, metadata)
            while True:
                frame = await self._next()
                start = time.perf_counter()
                place.busy = True
                connection.message_taken()
                await self._send(connection, await self._reply(frame, start))
                seconds = time.perf_counter() - start
                self._previous_ms = seconds * 1e3
                self._served.metrics.request.observe(seconds)
                place.busy, place.asked_at = False, time.monotonic()
                await pace.wait(len(frame))
        except ConnectionClosed:
            _log.info("the client on slot %d went away", place.slot)
        finally:
            if self._ahead is not None:
                self._ahead.cancel()
                await asyncio.gather(self._ahead, return_exceptions=True)
        if self._states or self._commands:
            _log.info(
                "slot %d: clipped %d states and %d commands that were outside of limits",
                place.slot,
                self._states,
                self._commands,
            )

    async def _next(self) -> bytes | str:
        ahead, self._ahead = self._ahead, None
        return await (ahead or self._place.connection.recv())

    async def _reply(self, frame: bytes | str, start: float) -> bytes | str:
        """The answer to one message: a map, or a line of text that says what is wrong."""
        served, kind = self._served, "request"
        served.metrics.requests.inc()
        try:
            message = read_message(frame, self._limits)
            ask = partial(request_of, message, served.contract, self._limits, self._instruction, self._speech)
            # Pictures are decoded beside the loop, which others wait for.
            request = await asyncio.to_thread(ask) if has_pictures(message) else ask()
            self._begin(request)
            kind = "policy"
            answer = await self._answer(request)
            if answer is None:
                served.metrics.superseded.inc()
                return pack({"superseded": True, "sequence": request.sequence})
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
        served.metrics.failed(kind)
        return reply

    def _begin(self, request: Request) -> None:
        """A new episode forgets the instruction, and is one until a request of it was answered."""
        if request.reset:
            self._new_episode, self._instruction, self._speech = True, None, None
        if request.prompt is not None or request.speech is not None:
            self._instruction, self._speech = request.prompt, request.speech

    async def _answer(self, request: Request) -> Answer | None:
        """What the policy says; none if the client may supersede the request, and has sent another message since."""
        answer = self._served.batcher.submit(self._place.slot, request.observation, reset=self._new_episode)
        if not request.supersede:
            return await answer
        self._ahead = asyncio.create_task(self._place.connection.recv())
        waited: set[asyncio.Future[Any]] = {answer, self._ahead}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        return None

    def _response(self, request: Request, answer: Answer, start: float) -> dict[str, Any]:
        response: dict[str, Any] = {"reset": True} if answer.chunk is None else write_answer(answer.chunk)
        if request.sequence is not None:
            response["sequence"] = request.sequence
        if request.state_clipped:
            response["state_clipped"] = True
        self._states += request.state_clipped
        self._commands += len(response.get("clipped", ()))
        response["policy_version"] = answer.version
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
