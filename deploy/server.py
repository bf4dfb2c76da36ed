"""A policy behind a websocket that openpi's clients understand.

The event loop only moves bytes; the policy runs on the thread of a `Batcher`. A connection is a slot of the policy.
"""

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse

from vla.core.errors import ServeError
from vla.core.types import Policy
from vla.deploy.batcher import Answer, Batcher
from vla.deploy.requests import neutral_observation, read_request, write_answer, write_metadata
from vla.deploy.wire import pack, wire_log

DEFAULT_PORT = 8000
DEFAULT_CLIENTS = 64
"""Places cost next to nothing until they are taken; an evaluation takes one for each episode that it runs at a time."""
STOP_TIMEOUT_S = 5.0
"""How long a stop waits for the inference in flight."""

_log = logging.getLogger(__name__)


class PolicyServer:
    """Serves one policy to at most ``max_clients`` clients; see ``deploy/README.md`` for the protocol.

    `ServeError` if the address is taken, or reachable from other machines without an ``api_key``.
    """

    def __init__(
        self,
        policy: Policy,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        api_key: str | None = None,
        max_message_bytes: int = 8 << 20,
        max_clients: int = DEFAULT_CLIENTS,
        name: str | None = None,
    ) -> None:
        self._policy = policy
        self._contract = policy.contract
        if self._contract.policy is not None and self._contract.policy.history > 1:
            raise ServeError(
                f"the policy reads {self._contract.policy.history} observations, and a request of this protocol holds "
                "one; serve a policy trained with model.history=1"
            )
        self._host, self._port = host, port
        self._api_key = api_key
        self._max_message_bytes = max_message_bytes
        self._max_clients = max_clients
        self._name = name or type(policy).__name__
        self._metadata: bytes | None = None  # set when the policy is warm
        self._free_slots: list[int] = []
        self._check()

    def serve_forever(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM; ``on_ready`` gets the address once the policy is warm. Main thread only."""

        async def main() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
            await self._serve(stop, on_listening=_ignore, on_ready=on_ready or _ignore)

        asyncio.run(main())

    @contextlib.contextmanager
    def running(self, *, wait_until_ready: bool = True) -> Iterator[str]:
        """Serve from a thread of this process while the block runs; gives the address, ``ws://host:port``."""
        address: Future[str] = Future()
        stopper: Future[Callable[[], object]] = Future()

        async def main() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            stopper.set_result(lambda: loop.call_soon_threadsafe(stop.set))
            ready, listening = (address.set_result, _ignore) if wait_until_ready else (_ignore, address.set_result)
            await self._serve(stop, on_listening=listening, on_ready=ready)

        def run() -> None:
            try:
                asyncio.run(main())
            except BaseException as error:
                if address.done():
                    _log.error("the server stopped", exc_info=error)
                else:
                    address.set_exception(error)

        thread = threading.Thread(target=run, name="vla-server")
        thread.start()
        try:
            yield address.result()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it stopped by itself
                stopper.result()()
            thread.join()

    def _check(self) -> None:
        if self._api_key == "":
            raise ServeError("the API key is empty; set one, or none to serve this machine only")
        if not _is_loopback(self._host):
            if self._api_key is None:
                raise ServeError(
                    f"{self._host} can be reached from other machines and no API key is set; "
                    "set one, or serve on 127.0.0.1"
                )
            _log.warning("%s: API key and images travel unencrypted; put a TLS proxy in front", self._host)
        if not 0 <= self._port <= 65535:
            raise ServeError(f"port: expected 0 (any free one) to 65535, got {self._port}")
        if self._max_clients < 1:
            raise ServeError(f"max_clients: expected at least 1, got {self._max_clients}")
        needed = sum(image.nbytes for image in neutral_observation(self._contract).images.values())
        if needed >= self._max_message_bytes:
            raise ServeError(
                f"max_message_bytes is {self._max_message_bytes}, but the images of one observation have {needed}; "
                "raise it"
            )

    async def _serve(
        self, stop: asyncio.Event, on_listening: Callable[[str], None], on_ready: Callable[[str], None]
    ) -> None:
        self._metadata = None
        self._free_slots = list(range(self._max_clients))
        batcher = Batcher(self._policy, self._max_clients)
        try:
            listener = await self._listen(batcher)
            try:
                host, port = next(iter(listener.sockets)).getsockname()[:2]
                host = f"[{host}]" if ":" in host else host
                address = f"ws://{host}:{port}"
                on_listening(address)
                if await self._warm_up(batcher, stop):
                    _log.info("ready at %s", address)
                    on_ready(address)
                    await stop.wait()
            finally:
                await _close(listener)
        finally:
            if not batcher.close(timeout_s=STOP_TIMEOUT_S):
                _log.error("the policy did not return within %g s; leaving it behind", STOP_TIMEOUT_S)

    async def _listen(self, batcher: Batcher) -> Server:
        try:
            return await serve(
                lambda connection: self._handle(connection, batcher),
                self._host,
                self._port,
                process_request=self._admit,
                logger=wire_log(),
                origins=[None],  # a browser sends Origin: no web page may talk to a robot through its visitor
                compression=None,
                max_size=self._max_message_bytes,
                max_queue=2,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ServeError(
                    f"port {self._port} on {self._host} is in use; choose another with --port, "
                    "or stop the process that listens there"
                ) from None
            raise ServeError(f"cannot listen on {self._host} port {self._port}: {error}") from None

    async def _warm_up(self, batcher: Batcher, stop: asyncio.Event) -> bool:
        """Run the policy once and publish its metadata; false if a stop came first."""
        future = asyncio.wrap_future(batcher.submit(0, neutral_observation(self._contract), reset=True))
        stopped = asyncio.ensure_future(stop.wait())
        either: set[asyncio.Future[Any]] = {future, stopped}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not future.done():
            future.cancel()
            return False
        try:
            chunk = future.result().chunk
            await asyncio.wrap_future(batcher.submit(0, None, reset=True))
        except ServeError as error:
            raise ServeError(f"the warm-up failed: {error}") from None
        assert chunk is not None, "a warm-up observation has an answer"
        horizon, places = len(chunk.actions), self._max_clients
        self._metadata = pack(write_metadata(self._contract, policy=self._name, action_horizon=horizon, places=places))
        return True

    def _admit(self, connection: ServerConnection, request: HttpRequest) -> HttpResponse | None:
        if request.path == "/healthz":
            if self._metadata is None:
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "warming up\n")
            return connection.respond(HTTPStatus.OK, "OK\n")
        if self._api_key is not None:
            given = " ".join(request.headers.get_all("Authorization"))
            if not hmac.compare_digest(given.encode(), f"Api-Key {self._api_key}".encode()):
                return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong or missing API key\n")
        if self._metadata is None:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "warming up; try again soon\n")
        return None

    async def _handle(self, connection: ServerConnection, batcher: Batcher) -> None:
        if not self._free_slots:
            await connection.close(1013, f"all {self._max_clients} places are taken; try again later, or serve more")
            return
        slot = self._free_slots.pop(0)
        try:
            assert self._metadata is not None, "_admit lets nobody in before"
            await connection.send(self._metadata)
            await self._converse(connection, batcher, slot)
        except ConnectionClosed:
            _log.info("the client on slot %d went away", slot)
        finally:
            self._free_slots.append(slot)

    async def _converse(self, connection: ServerConnection, batcher: Batcher, slot: int) -> None:
        new_episode = True  # a connection starts with a fresh slot
        states = commands = 0
        previous_ms: float | None = None
        async for frame in connection:
            start = time.perf_counter()
            try:
                request = read_request(frame, self._contract)
                future = batcher.submit(slot, request.observation, reset=new_episode or request.reset)
                answer = await asyncio.wrap_future(future)
                new_episode = False
                response = _respond(answer, start, previous_ms)
                if request.state_clipped:
                    response["state_clipped"] = True
                states, commands = states + request.state_clipped, commands + len(response.get("clipped", ()))
                reply: bytes | str = pack(response)
            except ServeError as error:
                reply = " ".join(str(error).split())  # a text frame is an error, one line
            except Exception:
                _log.exception("slot %d: a request failed", slot)
                reply = "the server failed; its log has the details"
            await connection.send(reply)
            previous_ms = (time.perf_counter() - start) * 1e3
        if states or commands:
            _log.info("slot %d: clipped %d states and %d commands that were outside of limits", slot, states, commands)


def _respond(answer: Answer, start: float, previous_ms: float | None) -> dict[str, Any]:
    response: dict[str, Any] = {"reset": True} if answer.chunk is None else write_answer(answer.chunk)
    response["policy_timing"] = {"infer_ms": answer.infer_ms, "batch_size": answer.batch_size}
    response["server_timing"] = {"infer_ms": (time.perf_counter() - start) * 1e3}
    if previous_ms is not None:
        response["server_timing"]["prev_total_ms"] = previous_ms
    return response


async def _close(listener: Server) -> None:
    listener.close(reason="the server stops")
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await listener.wait_closed()
    except TimeoutError:
        _log.warning("requests were still in flight after %g s; dropping them", STOP_TIMEOUT_S)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ignore(_address: str) -> None:
    pass
