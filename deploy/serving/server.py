"""Policies behind a websocket that openpi's clients understand.

The event loop only moves bytes: policies run in children, on threads or on other machines (`vla.deploy.engines`). A
connection is a slot of the policy that its path names.
"""

import asyncio
import contextlib
import errno
import logging
import re
import signal
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse

from vla.core.contract import Contract
from vla.core.errors import ServeError
from vla.core.machine.memory import keep_free
from vla.core.types import Policy
from vla.deploy.engines.engine import Engine
from vla.deploy.engines.policy_thread import PolicyThread
from vla.deploy.limits import Limits
from vla.deploy.serving.connection import Guard, GuardedConnection
from vla.deploy.serving.exposure import Exposure
from vla.deploy.serving.metrics import CONTENT_TYPE, Metrics
from vla.deploy.serving.renewal import Renew, renew
from vla.deploy.serving.served import Served, Watcher
from vla.deploy.serving.session import Session
from vla.deploy.wire import wire_log

DEFAULT_PORT = 8000
DEFAULT = "default"
"""The name of a policy that was given none."""
_PATHS = ("/healthz", "/readyz", "/metrics")
"""Of the server's own."""
_LOOK_S = 0.05
"""How often it is looked whether a policy is past help."""

_log = logging.getLogger(__name__)
Given = Policy | Engine | Sequence[Engine]
"""A policy that runs on a thread, an engine, or several that are replicas of each other."""
Several = Mapping[str, Given]
"""Policies by the names that clients put behind the address; ``/`` is the first."""

Watch = Callable[[str, CollectorRegistry], Sequence[Watcher]]
"""Makes, on the event loop, what hears of the batches of a policy; what it counts goes into the registry."""


class PolicyServer:
    """Serves policies to several clients each; see ``deploy/README.md`` for the protocol.

    `ServeError` if the address is taken, or reachable from other machines without an ``api_key`` and ``tls``; with
    ``insecure`` neither is asked for. A policy given here runs on a thread: one that can hang belongs in a
    `PolicyProcess`. Engines are closed when the server ends.
    """

    def __init__(
        self,
        policy: Given | Several,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        api_key: str | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        titles: Mapping[str, str] | None = None,
        renew: Renew | None = None,
        watch: Watch = lambda name, registry: (),
    ) -> None:
        """``titles`` are what clients are told that the policies are, by name.

        With ``renew`` a newer version takes over on `renew`, and on SIGHUP. ``watch`` makes what hears of every batch.
        """
        self._policies: Several = policy if isinstance(policy, Mapping) else {DEFAULT: policy}
        if wrong := [name for name in self._policies if not is_name(name)] or not self._policies:
            raise ServeError(f"policies: expected names of letters, digits, '-' and '_', got {wrong}")
        self._titles = {key: type(given).__name__ for key, given in self._policies.items()} | dict(titles or {})
        self._limits = limits or Limits()
        contracts = [_contract(given) for given in self._policies.values()]
        self._message_bytes = max(map(self._limits.most_message_bytes, contracts))
        self._exposure = Exposure(host=host, port=port, api_key=api_key, tls=tls, insecure=insecure)
        self._build, self._watch_batches = renew, watch
        self._begin()

    def _begin(self) -> None:
        """What one time of serving counts and holds."""
        self._served: dict[str, Served] = {}
        self._metrics = Metrics()
        self._guard = Guard(self._limits, self._message_bytes, self._metrics)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._newer = asyncio.Event()

    def renew(self) -> None:
        """Look for newer versions of the policies; from any thread, and several times are once."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it stopped
                self._loop.call_soon_threadsafe(self._newer.set)

    def serve_forever(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM; ``on_ready`` gets the address once all are warm. Main thread only."""

        async def main() -> None:
            keep_free()
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
            if self._build is not None:
                loop.add_signal_handler(signal.SIGHUP, self.renew)
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

    async def _serve(
        self, stop: asyncio.Event, on_listening: Callable[[str], None], on_ready: Callable[[str], None]
    ) -> None:
        self._begin()
        self._loop = asyncio.get_running_loop()
        self._served = {key: self._serve_one(key, given) for key, given in self._policies.items()}
        try:
            listener = await self._listen()
            try:
                host, port = next(iter(listener.sockets)).getsockname()[:2]
                address = self._exposure.address(host, port)
                on_listening(address)
                for served in self._served.values():
                    if not await served.warm_up(stop):
                        return
                _log.info("ready at %s", address)
                on_ready(address)
                renewals = asyncio.create_task(self._renewals())
                try:
                    await self._watch(stop)
                finally:
                    renewals.cancel()
                    await asyncio.wait({renewals})
            finally:
                await self._close(listener)
        finally:
            await asyncio.gather(*(served.close() for served in self._served.values()))

    def _serve_one(self, key: str, given: Given) -> Served:
        engines = [PolicyThread(given)] if isinstance(given, Policy) else given
        return Served(
            key,
            engines if isinstance(engines, Sequence) else [engines],
            title=self._titles[key],
            limits=self._limits,
            metrics=self._metrics.of(key),
            watchers=self._watch_batches(key, self._metrics.registry),
        )

    async def _listen(self) -> Server:
        limits, exposure = self._limits, self._exposure
        try:
            return await serve(
                self._handle,
                exposure.host,
                exposure.port,
                process_request=self._admit,
                create_connection=partial(GuardedConnection, guard=self._guard),  # type: ignore[arg-type]  # a factory does
                logger=wire_log(),
                origins=[None],  # a browser sends Origin: no web page may talk to a robot through its visitor
                compression=None,
                ssl=exposure.tls,
                open_timeout=limits.handshake_s,
                close_timeout=limits.stop_s,
                max_size=self._message_bytes,
                max_queue=1,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ServeError(
                    f"port {exposure.port} on {exposure.host} is in use; choose another with --port, "
                    "or stop the process that listens there"
                ) from None
            raise ServeError(f"cannot listen on {exposure.host} port {exposure.port}: {error}") from None

    def _admit(self, connection: ServerConnection, request: HttpRequest) -> HttpResponse | None:
        """Answer what is no websocket, and who may not come in; None lets in."""
        unhealthy = self._why_not()
        if request.path == "/healthz":
            return _text(connection, unhealthy)
        if request.path == "/readyz":
            full = [served for served in self._served.values() if not served.places.any_left]
            return _text(connection, unhealthy or ("all places are taken" if full else ""))
        if not self._exposure.admits(request):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong or missing API key\n")
        if request.path == "/metrics":
            response = connection.respond(HTTPStatus.OK, self._metrics.text().decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE
            return response
        served = self._named(request.path)
        if served is None:
            names = ", ".join(f"/{name}" for name in self._served)
            return connection.respond(HTTPStatus.NOT_FOUND, f"no policy of that name; there is {names}\n")
        return _text(connection, served.why_not) if served.why_not else None

    def _named(self, path: str) -> Served | None:
        """The policy that a path names; without a name it is the first."""
        return self._served.get(path.strip("/")) if path != "/" else next(iter(self._served.values()))

    def _why_not(self) -> str:
        """Why a request would not be answered now; empty if all would be."""
        why = {name: served.why_not for name, served in self._served.items() if served.why_not}
        if len(self._served) == 1:
            return next(iter(why.values()), "")
        return "; ".join(f"{name}: {said}" for name, said in why.items())

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, GuardedConnection)
        assert connection.request is not None
        served = self._named(connection.request.path)
        assert served is not None, "_admit lets nobody in who names none"
        assert served.metadata is not None, "_admit lets nobody in before"
        place = served.places.take(connection)
        if place is None:
            all_of_them = f"all {self._limits.clients} places are taken; try again later, or serve more"
            await connection.close(CloseCode.TRY_AGAIN_LATER, all_of_them)
            return
        try:
            await Session(place, served, self._limits).converse(served.metadata)
        finally:
            served.places.give_back(place)

    async def _watch(self, stop: asyncio.Event) -> None:
        """Until a stop; `ServeError` when all policies are past help."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await stop.wait()
            broken = [served.batcher.broken for served in self._served.values()]
            if all(broken) and broken[0] is not None:
                raise broken[0]

    async def _renewals(self) -> None:
        """One after the other, for as long as is served."""
        while self._build is not None:
            await self._newer.wait()
            self._newer.clear()
            for served in self._served.values():
                await renew(served, self._build, self._limits)

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


def is_name(text: str) -> bool:
    """Whether a policy may have it: it is the path of an address."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", text) is not None and f"/{text}" not in _PATHS


def _contract(given: Given) -> Contract:
    """Its contract, if a client of this protocol can ask it."""
    contract = (given[0] if isinstance(given, Sequence) else given).contract
    if contract.policy is not None and contract.policy.history > 1:
        raise ServeError(
            f"the policy reads {contract.policy.history} observations, and a request of this protocol holds one; "
            "serve a policy trained with model.history=1"
        )
    return contract


def _text(connection: ServerConnection, problem: str) -> HttpResponse:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
    return connection.respond(status, f"{problem or 'OK'}\n")


def _ignore(_address: str) -> None:
    pass
