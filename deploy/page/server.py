"""The operator's page: live cameras, what to do, what is asked and sent, and a stop button; for this machine alone.

It runs on a thread of the loop's process and needs neither the policy nor its server: the stop button works when they
hang. Its address holds a secret that is new each time, so that no other page of the same browser can steer the robot.
"""

import asyncio
import contextlib
import json
import re
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from http import HTTPStatus
from importlib import resources

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from vla.core.errors import ServeError
from vla.deploy.control.operator import Operator, Order
from vla.deploy.page.board import Board
from vla.deploy.wire import wire_log

_EVERY_S = 0.1
_MOST_BYTES = 4096
"""Of a message of the page."""
_MOST_WAITING = 1 << 20
"""Bytes that a page has not taken: then it gets no pictures."""
_MOST_PAGES = 8
_MOST_CHARS = 1000
"""Of an instruction."""
_HERE = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?")
_LEVEL = 85
"""Of the JPEG pictures."""


class OperatorPage:
    """Shows a `Board`, and hands on what is clicked and typed to an `Operator`."""

    def __init__(self, board: Board, operator: Operator, *, port: int = 0) -> None:
        self._board, self._operator, self._port = board, operator, port
        self._secret = secrets.token_urlsafe(16)
        self._pages: set[ServerConnection] = set()

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve while the block runs; gives the address. `ServeError` if the port is taken."""
        address: Future[str] = Future()
        ends: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(address, ends)), name="vla-page", daemon=True)
        thread.start()
        try:
            where = address.result()
            self._operator.listeners += 1
            yield where
            self._operator.listeners -= 1
        finally:
            if ends.done():
                loop, end = ends.result()
                loop.call_soon_threadsafe(end.set)
            thread.join(2.0)

    async def _serve(self, address: Future[str], ends: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        try:
            server = await self._listen()
        except (OSError, OverflowError) as error:
            address.set_exception(ServeError(f"the page cannot be served on port {self._port}: {error}"))
            return
        async with server:
            end = asyncio.Event()
            ends.set_result((asyncio.get_running_loop(), end))
            port = next(iter(server.sockets)).getsockname()[1]
            address.set_result(f"http://127.0.0.1:{port}/{self._secret}/")
            await end.wait()
            await asyncio.sleep(2 * _EVERY_S)  # the last notes

    async def _listen(self) -> Server:
        return await serve(
            self._live, "127.0.0.1", self._port, process_request=self._answer, origins=[_HERE], compression=None,
            max_size=_MOST_BYTES, max_queue=4, open_timeout=5.0, close_timeout=0.5, logger=wire_log(),
        )  # fmt: skip

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """The page itself; None lets a websocket in."""
        root = f"/{self._secret}/"
        if secrets.compare_digest(request.path.encode(), f"{root}live".encode()):
            full = len(self._pages) >= _MOST_PAGES
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open\n") if full else None
        if not secrets.compare_digest(request.path.encode(), root.encode()):
            return connection.respond(HTTPStatus.NOT_FOUND, "not here: use the address that vla run prints\n")
        body = resources.files("vla.deploy.page").joinpath("page.html").read_bytes()
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
            "img-src blob:; connect-src 'self'; frame-ancestors 'none'",
            "Connection": "close",
        }
        return Response(HTTPStatus.OK, "OK", Headers(headers), body)

    async def _live(self, connection: ServerConnection) -> None:
        self._pages.add(connection)
        shows = asyncio.create_task(self._show(connection))
        try:
            with contextlib.suppress(ConnectionClosed):
                await connection.send(json.dumps(self._board.about()))
                async for message in connection:
                    self._hear(message)
        finally:
            shows.cancel()
            self._pages.discard(connection)

    def _hear(self, message: str | bytes) -> None:
        """An order or an instruction; whatever else comes is no order."""
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            said = json.loads(message)
            if "say" in said:
                if text := " ".join(str(said["say"]).split())[:_MOST_CHARS]:
                    self._operator.say(text)
            else:
                self._operator.give(Order(said["order"]))

    async def _show(self, connection: ServerConnection) -> None:
        shown, told = -1, 0
        with contextlib.suppress(ConnectionClosed):
            while True:
                fresh = [(number, event) for number, event in list(self._board.events) if number > told]
                told = fresh[-1][0] if fresh else told
                if (now := self._board.now()) is not None:
                    await connection.send(json.dumps({"now": now, "events": [event for _, event in fresh]}))
                    if self._board.steps != shown and connection.transport.get_write_buffer_size() < _MOST_WAITING:
                        shown = self._board.steps
                        await self._pictures(connection)
                await asyncio.sleep(_EVERY_S)

    async def _pictures(self, connection: ServerConnection) -> None:
        import imagecodecs

        step = self._board.step
        assert step is not None, "there was one"
        for index, name in enumerate(self._board.about()["cameras"]):
            picture = np.ascontiguousarray(step.seen.images[name])
            await connection.send(bytes([index]) + bytes(imagecodecs.jpeg8_encode(picture, level=_LEVEL)))
