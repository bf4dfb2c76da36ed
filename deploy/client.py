"""A thin client of a policy server: numpy, msgpack and websockets are all that a robot needs to install."""

import contextlib
import math
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from vla.core.errors import PlacesTakenError, ServeError
from vla.deploy.wire import pack, unpack, wire_log

MAX_RESPONSE_BYTES = 64 << 20
_MOST_STEPS = 1 << 16
_MOST = 1e6
"""Of a command whose limits the server does not say, in whatever unit: more is no command."""
_ROUNDING = 1e-5
"""Of the range of a command: what float32 and float64 make of its limits."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Where the time of one request went, in milliseconds; a server that does not say leaves all to the wire."""

    encode_ms: float
    """Making the message here."""
    wire_ms: float
    """There and back, with what the two kernels, and reading here, take."""
    server_ms: float
    """Reading, checking and answering there."""
    queue_ms: float
    """Waiting for the policy."""
    inference_ms: float
    """The policy itself, for all who share the batch."""

    @property
    def total_ms(self) -> float:
        """From the call to the answer."""
        return self.encode_ms + self.wire_ms + self.server_ms + self.queue_ms + self.inference_ms


@dataclass(frozen=True, kw_only=True)
class _Asked:
    sequence: int
    acts: bool
    supersedable: bool
    began: float
    encoded: float


class PolicyClient:
    """One connection to one policy server, ours or openpi's; not for several threads at once.

    Every failure is a `ServeError`. An error that the server reports leaves the connection usable; a timeout, a lost
    connection or an answer to another request closes it, because the next response could belong to an older request.
    With ``reconnect`` the next request then opens a new one, which is a new episode to the server, and is refused where
    another contract is served. Actions are refused unless they are finite, of the contract's shape and within its
    limits. ``tls_ca`` is a file with the certificates that a ``wss://`` server is checked against, by default the
    system's.
    """

    def __init__(
        self,
        uri: str,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        *,
        tls_ca: Path | None = None,
        reconnect: bool = False,
    ) -> None:
        self._uri, self._api_key, self._timeout_s, self._tls_ca = uri, api_key, timeout_s, tls_ca
        self._reconnect = reconnect
        self._stack = contextlib.ExitStack()
        self._connection: ClientConnection | None = None
        self._asked: deque[_Asked] = deque()
        self._sequence = 0
        self.latency: Latency | None = None
        """Of the last answer."""
        self._metadata = self._begin()
        try:
            self._limits = _action_limits(self._metadata.get("contract"), uri)
        except BaseException:
            self.close()
            raise

    @property
    def metadata(self) -> dict[str, Any]:
        """What the server said when it accepted: contract, policy, action_horizon, protocol."""
        return self._metadata

    @property
    def closed(self) -> bool:
        """Whether there is no connection now."""
        return self._connection is None

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Send one observation map and wait for its answer, ``{"actions": float32 (h, d), ...}``."""
        self.send(observation)
        return self.receive()

    def reset(self, instruction: str | None = None, *, speech: np.ndarray | None = None) -> None:
        """Tell the server that a new episode begins: our extension, openpi's own server takes it for an observation.

        With ``instruction``, or the same as ``speech`` of float32 (a,) at 16 kHz, its requests need no ``prompt``.
        """
        told = {"prompt": instruction, "speech": speech}
        self.infer({"reset": True} | {key: value for key, value in told.items() if value is not None})

    def send(self, message: Mapping[str, Any]) -> None:
        """First half of `infer`, for callers who have several connections."""
        if self._connection is None and self._reconnect:
            self._begin_again()
        began = time.perf_counter()
        self._sequence += 1
        counted = {"sequence": self._sequence} if self._metadata.get("sequence") is True else {}
        frame = pack({**message, **counted})
        asked = _Asked(
            sequence=self._sequence,
            acts=not message.keys() <= {"reset", "prompt", "speech"},
            supersedable=message.get("supersede") is True,
            began=began,
            encoded=time.perf_counter(),
        )
        try:
            self._refuse_unasked()
            self._open().send(frame)
        except ConnectionClosed as error:
            raise self._lost(error) from None
        self._asked.append(asked)

    def receive(self) -> dict[str, Any]:
        """Second half of `infer`: the answers come in the order of the requests.

        One with ``supersede: true`` that another was sent after is answered ``{"superseded": true}`` if it is not
        answered by then.
        """
        self._open()
        if not self._asked:
            raise ServeError(f"nothing was asked of {self._uri}; send first")
        asked = self._asked.popleft()
        message = self._receive()
        if self._metadata.get("sequence") is True and message.get("sequence") != asked.sequence:
            self.close()
            raise ServeError(
                f"{self._uri} answered request {message.get('sequence')!r:.40} where {asked.sequence} was asked; "
                "connection closed"
            )
        if asked.acts and not (asked.supersedable and message.get("superseded") is True):
            self._check_actions(message.get("actions"))
        self.latency = _latency(message, asked)
        return message

    def _refuse_unasked(self) -> None:
        """What waits before anything was asked would be taken for the next answer."""
        if self._asked:
            return
        with contextlib.suppress(TimeoutError):
            self._open().recv(timeout=0)
            self.close()
            raise ServeError(f"{self._uri} spoke without being asked; connection closed")

    def _receive(self) -> dict[str, Any]:
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

    def _check_actions(self, actions: Any) -> None:
        wide = len(self._limits[0]) if self._limits is not None else None
        if not (isinstance(actions, np.ndarray) and actions.dtype.kind == "f" and actions.ndim == 2):
            got = f"{actions.dtype} {actions.shape}" if isinstance(actions, np.ndarray) else type(actions).__name__
            raise self._refused(f"expected float actions (horizon, {wide or 'd'}), got {got}")
        steps, columns = actions.shape
        if not 0 < steps <= _MOST_STEPS or columns == 0 or wide not in (None, columns):
            raise self._refused(f"expected actions (horizon, {wide or 'd'}) of at least one step, got {actions.shape}")
        if not np.isfinite(actions).all():
            raise self._refused("expected finite actions, got NaN or infinity")
        low, high = self._limits or (np.float64(-_MOST), np.float64(_MOST))
        if (actions < low).any() or (actions > high).any():
            raise self._refused(f"expected actions within their limits, got {float(np.abs(actions).max()):g}")

    def _refused(self, why: str) -> ServeError:
        return ServeError(f"{self._uri} answered what no robot should do: {why}")

    def close(self) -> None:
        """Close the connection; harmless if it is closed."""
        self._connection = None
        self._asked.clear()
        self._stack.close()

    def __enter__(self) -> "PolicyClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> dict[str, Any]:
        """Connect, and hear what the server says first."""
        self._connection = self._connect()
        try:
            return self._receive()
        except BaseException:
            self.close()
            raise

    def _begin_again(self) -> None:
        metadata = self._begin()
        if _relied_on(metadata.get("contract")) != _relied_on(self._metadata.get("contract")):
            self.close()
            raise ServeError(f"{self._uri} now serves a policy with another contract; start again")
        self._metadata = metadata

    def _connect(self) -> ClientConnection:
        uri, key = self._uri, self._api_key
        try:
            connection = connect(
                uri,
                additional_headers={"Authorization": f"Api-Key {key}"} if key else None,
                compression=None,
                max_size=MAX_RESPONSE_BYTES,
                open_timeout=self._timeout_s,
                close_timeout=1.0,
                proxy=None,
                logger=wire_log(),
                ssl=self._tls(),
            )
            return self._stack.enter_context(connection)
        except InvalidURI:
            raise ServeError(f"{uri!r} is not a websocket address; write ws://HOST:PORT") from None
        except InvalidStatus as error:
            status, body = error.response.status_code, bytes(error.response.body or b"")
            said = body.decode(errors="replace").strip()
            fix = "; give its key in VLA_API_KEY or with --api-key-file" if status == 401 else ""
            raise ServeError(f"{uri} refused the connection: {status} {said[:200]}{fix}") from None
        except ssl.SSLCertVerificationError as error:
            raise ServeError(
                f"{uri}: its certificate is not trusted ({error.verify_message}); name that of its authority in "
                "VLA_TLS_CA or with --tls-ca"
            ) from None
        except (OSError, WebSocketException) as error:  # a TimeoutError is an OSError; also one that is closed at once
            port = uri.rpartition(":")[2].partition("/")[0]
            raise ServeError(
                f"no policy server answers at {uri} ({type(error).__name__}); "
                f"start one with: vla serve CHECKPOINT --port {port if port.isdigit() else 'N'}"
            ) from None

    def _tls(self) -> ssl.SSLContext | None:
        if not self._uri.startswith("wss://"):
            return None
        try:
            return ssl.create_default_context(cafile=self._tls_ca)
        except (OSError, ssl.SSLError) as error:
            raise ServeError(f"TLS: cannot use {self._tls_ca} ({error}); give a file of PEM certificates") from None

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


def _relied_on(contract: Any) -> Any:
    """What a newer version of a policy must share with the one before: all but how it came to be."""
    if not isinstance(contract, dict):
        return contract
    policy = contract.get("policy")
    how = ("horizon", "execute", "ensemble", "history", "committed", "speech")
    kept = {key: policy.get(key) for key in how} if isinstance(policy, dict) else policy
    return {**contract, "policy": kept, "signals": None, "versions": None}


def _action_limits(contract: Any, uri: str) -> tuple[Any, Any] | None:
    """The bounds of each command, with room for rounding; none from a server that publishes no contract."""
    if contract is None:
        return None
    try:
        ends = np.array([[float(d["low"]), float(d["high"])] for d in contract["action"]], np.float64)
        low, high = ends.reshape(-1, 2).T
    except (TypeError, KeyError, ValueError, OverflowError):
        raise ServeError(f"{uri} publishes a contract without the limits of its actions") from None
    room = _ROUNDING * np.maximum(high - low, np.maximum(np.abs(low), np.abs(high)))
    return low - room, high + room


def _latency(message: Mapping[str, Any], asked: _Asked) -> Latency:
    total_ms = (time.perf_counter() - asked.began) * 1e3
    encode_ms = (asked.encoded - asked.began) * 1e3

    def said(part: str, key: str, most: float) -> float:
        timing = message.get(part)
        value = timing.get(key) if isinstance(timing, dict) else None
        return min(float(value), most) if isinstance(value, int | float) and value > 0 and math.isfinite(value) else 0.0

    there_ms = said("server_timing", "infer_ms", total_ms - encode_ms)
    inference_ms = said("policy_timing", "infer_ms", there_ms)
    queue_ms = said("server_timing", "queue_ms", there_ms - inference_ms)
    return Latency(
        encode_ms=encode_ms,
        wire_ms=total_ms - encode_ms - there_ms,
        server_ms=there_ms - inference_ms - queue_ms,
        queue_ms=queue_ms,
        inference_ms=inference_ms,
    )
