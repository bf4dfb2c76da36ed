"""A policy behind a websocket that openpi's clients understand.

The event loop only moves bytes; the policy runs on the thread of a `Batcher`, or behind it in a `PolicyProcess`. A
connection is a slot of the policy.
"""

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import logging
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse

from vla.core.errors import ServeError
from vla.core.types import Policy
from vla.deploy.engines.batcher import Batcher
from vla.deploy.serving.connection import Guard, GuardedConnection
from vla.deploy.limits import Limits
from vla.deploy.serving.metrics import CONTENT_TYPE, Metrics
from vla.deploy.serving.places import Places
from vla.deploy.requests import neutral_observation, write_metadata
from vla.deploy.serving.session import Session
from vla.deploy.wire import pack, wire_log

DEFAULT_PORT = 8000
_LOOK_S = 0.05
"""How often it is looked whether the policy has taken too long."""

_log = logging.getLogger(__name__)


class PolicyServer:
    """Serves one policy to several clients; see ``deploy/README.md`` for the protocol.

    `ServeError` if the address is taken, or reachable from other machines without an ``api_key`` and ``tls``; with
    ``insecure`` neither is asked for. A policy given here runs on a thread: one that can hang belongs in a
    `PolicyProcess`.
    """

    def __init__(
        self,
        policy: Policy,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        api_key: str | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
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
        self._api_key, self._tls, self._insecure = api_key, tls, insecure
        self._limits = limits or Limits()
        self._message_bytes = self._limits.most_message_bytes(self._contract)
        self._name = name or type(policy).__name__
        self._metadata: bytes | None = None  # set when the policy is warm
        self._check()
        self._begin()

    def _begin(self) -> None:
        """What one time of serving counts and holds."""
        self._metadata = None
        self._metrics = Metrics()
        self._places = Places(self._limits.clients, self._limits.idle_s)
        self._guard = Guard(self._limits, self._message_bytes, self._metrics)

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
            missing = [
                what
                for what, there in (("no API key (--api-key-file)", self._api_key), ("no TLS (--tls-cert)", self._tls))
                if not there
            ]
            if missing and not self._insecure:
                raise ServeError(
                    f"{self._host} can be reached from other machines, and there is {' and '.join(missing)}; "
                    "give both, serve on 127.0.0.1, or say --insecure"
                )
            if missing:
                _log.warning(
                    "%s can be reached from other machines, and there is %s", self._host, " and ".join(missing)
                )
        if not 0 <= self._port <= 65535:
            raise ServeError(f"port: expected 0 (any free one) to 65535, got {self._port}")

    async def _serve(
        self, stop: asyncio.Event, on_listening: Callable[[str], None], on_ready: Callable[[str], None]
    ) -> None:
        self._begin()
        limits = self._limits
        batcher = Batcher(
            self._policy,
            limits.clients,
            inference_s=limits.inference_s,
            start_s=limits.start_s,
            restarts=limits.restarts,
            batch=limits.batch,
            batch_s=limits.batch_s,
            on_batch=self._metrics.inferred,
            on_restart=self._metrics.starts.inc,
        )
        self._metrics.queue.set_function(lambda: batcher.waiting)
        self._metrics.clients.set_function(lambda: self._places.taken)
        self._metrics.ready.set_function(lambda: not self._why_not(batcher))
        try:
            listener = await self._listen(batcher)
            try:
                host, port = next(iter(listener.sockets)).getsockname()[:2]
                host = f"[{host}]" if ":" in host else host
                address = f"{'wss' if self._tls else 'ws'}://{host}:{port}"
                on_listening(address)
                if await self._warm_up(batcher, stop):
                    _log.info("ready at %s", address)
                    on_ready(address)
                    await _watch(batcher, stop)
            finally:
                await self._close(listener)
        finally:
            if not batcher.close(timeout_s=limits.stop_s):
                _log.error("the policy did not return within %g s; leaving it behind", limits.stop_s)

    async def _listen(self, batcher: Batcher) -> Server:
        limits = self._limits
        try:
            return await serve(
                lambda connection: self._handle(connection, batcher),
                self._host,
                self._port,
                process_request=lambda connection, request: self._admit(connection, request, batcher),
                create_connection=partial(GuardedConnection, guard=self._guard),  # type: ignore[arg-type]  # a factory does
                logger=wire_log(),
                origins=[None],  # a browser sends Origin: no web page may talk to a robot through its visitor
                compression=None,
                ssl=self._tls,
                open_timeout=limits.handshake_s,
                close_timeout=limits.stop_s,
                max_size=self._message_bytes,
                max_queue=1,
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
        while not future.done():
            if stop.is_set():
                future.cancel()
                return False
            await _tick(stop)
            batcher.watch()
        try:
            chunk = future.result().chunk
            await asyncio.wrap_future(batcher.submit(0, None, reset=True))
        except ServeError as error:
            raise ServeError(f"the warm-up failed: {error}") from None
        assert chunk is not None, "a warm-up observation has an answer"
        horizon, places = len(chunk.actions), self._limits.clients
        self._metadata = pack(write_metadata(self._contract, policy=self._name, action_horizon=horizon, places=places))
        return True

    def _admit(self, connection: ServerConnection, request: HttpRequest, batcher: Batcher) -> HttpResponse | None:
        """Answer what is no websocket, and who may not come in; None lets in."""
        unhealthy = self._why_not(batcher)
        if request.path == "/healthz":
            return _text(connection, unhealthy)
        if request.path == "/readyz":
            return _text(connection, unhealthy or ("" if self._places.any_left else "all places are taken"))
        if self._api_key is not None:
            given = " ".join(request.headers.get_all("Authorization"))
            if not hmac.compare_digest(given.encode(), f"Api-Key {self._api_key}".encode()):
                return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong or missing API key\n")
        if request.path == "/metrics":
            response = connection.respond(HTTPStatus.OK, self._metrics.text().decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE
            return response
        return _text(connection, unhealthy) if unhealthy else None

    def _why_not(self, batcher: Batcher) -> str:
        """Why no request is answered now; empty if they are."""
        if self._metadata is None:
            return "warming up; try again soon"
        return "" if batcher.down is None else str(batcher.down)

    async def _handle(self, connection: ServerConnection, batcher: Batcher) -> None:
        assert isinstance(connection, GuardedConnection)
        assert self._metadata is not None, "_admit lets nobody in before"
        place = self._places.take(connection)
        if place is None:
            all_of_them = f"all {self._limits.clients} places are taken; try again later, or serve more"
            await connection.close(CloseCode.TRY_AGAIN_LATER, all_of_them)
            return
        try:
            await Session(place, self._contract, batcher, self._limits, self._metrics).converse(self._metadata)
        finally:
            self._places.give_back(place)

    async def _close(self, listener: Server) -> None:
        listener.close(reason="the server stops")
        try:
            async with asyncio.timeout(self._limits.stop_s):
                await listener.wait_closed()
        except TimeoutError:
            _log.warning("requests were still in flight after %g s; dropping them", self._limits.stop_s)
            for connection in list(self._guard.open):
                connection.transport.abort()
            await asyncio.sleep(0.01)  # their sockets are closed by the loop


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What serves with this certificate, its chain behind it, and its key, both PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")  # of an encrypted key nobody is there to ask for it
    except (OSError, ssl.SSLError) as error:
        raise ServeError(
            f"TLS: cannot use {certificate} with {key} ({error}); give a PEM certificate and its key"
        ) from None
    return context


async def _watch(batcher: Batcher, stop: asyncio.Event) -> None:
    """Until a stop; `ServeError` when the policy is past help."""
    while not stop.is_set():
        await _tick(stop)
        batcher.watch()
        if batcher.broken is not None:
            raise batcher.broken


async def _tick(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_S):
            await stop.wait()


def _text(connection: ServerConnection, problem: str) -> HttpResponse:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
    return connection.respond(status, f"{problem or 'OK'}\n")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ignore(_address: str) -> None:
    pass
