"""A thin client of a policy server: numpy, msgpack and websockets are all that a robot needs to install."""

import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from vla.core.errors import PlacesTakenError, ServeError
from vla.deploy.wire import pack, unpack, wire_log

MAX_RESPONSE_BYTES = 64 << 20


class PolicyClient:
    """One connection to one policy server, ours or openpi's; not for several threads at once.

    Every failure is a `ServeError`. An error that the server reports leaves the connection usable; a timeout or a lost
    connection closes it, because the next response could belong to an older request.
    """

    def __init__(self, uri: str, api_key: str | None = None, timeout_s: float = 30.0) -> None:
        self._uri = uri
        self._timeout_s = timeout_s
        self._stack = contextlib.ExitStack()
        self._connection: ClientConnection | None = self._connect(api_key)
        try:
            self._metadata = self.receive()
        except BaseException:
            self.close()
            raise

    @property
    def metadata(self) -> dict[str, Any]:
        """What the server said when it accepted: contract, policy, action_horizon, protocol."""
        return self._metadata

    @property
    def closed(self) -> bool:
        """Whether a further request is impossible."""
        return self._connection is None

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Send one observation map and wait for its answer, ``{"actions": float32 (h, d), ...}``."""
        self.send(observation)
        return self.receive()

    def reset(self) -> None:
        """Tell the server that a new episode begins: our extension, openpi's own server takes it for an observation."""
        self.infer({"reset": True})

    def send(self, message: Mapping[str, Any]) -> None:
        """First half of `infer`, for callers who have several connections."""
        frame = pack(dict(message))
        try:
            self._open().send(frame)
        except ConnectionClosed as error:
            raise self._lost(error) from None

    def receive(self) -> dict[str, Any]:
        """Second half of `infer`."""
        try:
            frame = self._open().recv(timeout=self._timeout_s)
        except TimeoutError:
            self.close()
            raise ServeError(f"{self._uri} did not answer within {self._timeout_s:g} s; connection closed") from None
        except ConnectionClosed as error:
            raise self._lost(error) from None
        if isinstance(frame, str):
            raise ServeError(f"{self._uri} answered with an error: {frame}")
        message = unpack(frame)
        if not isinstance(message, dict):
            raise ServeError(f"{self._uri}: expected a map, got {type(message).__name__}; is it a policy server?")
        return message

    def close(self) -> None:
        """Close the connection; harmless if it is closed."""
        self._connection = None
        self._stack.close()

    def __enter__(self) -> "PolicyClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self, api_key: str | None) -> ClientConnection:
        uri = self._uri
        try:
            connection = connect(
                uri,
                additional_headers={"Authorization": f"Api-Key {api_key}"} if api_key else None,
                compression=None,
                max_size=MAX_RESPONSE_BYTES,
                open_timeout=self._timeout_s,
                close_timeout=1.0,
                proxy=None,
                logger=wire_log(),
            )
            return self._stack.enter_context(connection)
        except InvalidURI:
            raise ServeError(f"{uri!r} is not a websocket address; write ws://HOST:PORT") from None
        except InvalidStatus as error:
            status, body = (
                error.response.status_code,
                bytes(error.response.body or b"").decode(errors="replace").strip(),
            )
            fix = "; give its key in VLA_API_KEY or with --api-key-file" if status == 401 else ""
            raise ServeError(f"{uri} refused the connection: {status} {body[:200]}{fix}") from None
        except (OSError, InvalidHandshake) as error:  # TimeoutError is an OSError
            port = uri.rpartition(":")[2].strip("/")
            raise ServeError(
                f"no policy server answers at {uri} ({type(error).__name__}); "
                f"start one with: vla serve CHECKPOINT --port {port if port.isdigit() else 'N'}"
            ) from None

    def _open(self) -> ClientConnection:
        if self._connection is None:
            raise ServeError(f"the connection to {self._uri} is closed; connect again")
        return self._connection

    def _lost(self, error: ConnectionClosed) -> ServeError:
        self.close()
        if error.rcvd is not None and error.rcvd.code == CloseCode.TRY_AGAIN_LATER:
            return PlacesTakenError(f"{self._uri}: {error.rcvd.reason} (vla serve --limits.clients N)")
        why = ""
        if error.rcvd is not None:
            why = f" (code {error.rcvd.code}{': ' if error.rcvd.reason else ''}{error.rcvd.reason})"
        return ServeError(f"{self._uri} closed the connection{why}; see the server's log, then connect again")
