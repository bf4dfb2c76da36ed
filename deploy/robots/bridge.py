"""One connection to a rosbridge server, through roslibpy: topics, the newest message of each, and how it ended."""

import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vla.core.errors import RobotError
from vla.core.machine.packages import missing_package

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Received(Generic[T]):
    """A value, and when it arrived on the monotonic clock."""

    value: T
    at_s: float


class Bridge:
    """Connected from the beginning until it is lost or closed, and never again after that."""

    def __init__(self, host: str, port: int, *, secure: bool, connect_s: float) -> None:
        """A `RobotError` says why nobody answers."""
        try:
            import roslibpy
        except ImportError as error:
            raise missing_package(error, "the rosbridge robot", extra="ros") or error from None
        self.url = f"{'wss' if secure else 'ws'}://{host}:{port}"
        self.latest: dict[str, Received[Mapping[str, Any]]] = {}
        """The newest message of each topic."""
        self._roslibpy, self._topics = roslibpy, dict[str, Any]()
        self._lost: str | None = None
        self._told = ""
        fix = "see that ros2 launch rosbridge_server rosbridge_websocket_launch.xml runs there, and the port"
        try:
            socket.create_connection((host, port), timeout=connect_s).close()  # roslibpy does not say why
        except OSError as error:
            raise RobotError(f"{self.url} cannot be reached ({error}); {fix}") from None
        # Of its two ways the one that needs no reactor, of which a process has but one.
        self._ros = roslibpy.Ros(host, port, is_secure=secure, transport="asyncio")
        self._ros.factory.maxRetries = 0
        self._ros.factory.on_ready(self._listen)
        self._ros.on("close", self._on_close)
        try:
            self._ros.run(timeout=connect_s)
        except roslibpy.core.RosTimeoutError:
            self._ros.factory.on_ready(lambda protocol: protocol.send_close())
            raise RobotError(f"{self.url} answers, but not as a rosbridge server; {fix}") from None

    @property
    def said(self) -> str:
        """The last error that the server told, to put behind another."""
        return f" (rosbridge says: {self._told})" if self._told else ""

    def require(self) -> None:
        """Raise `RobotError` where the connection is gone."""
        if self._lost is not None:
            raise RobotError(f"{self._lost}{self.said}; the robot holds what it was sent last")

    def subscribe(
        self, topic: str, kind: str, on_message: Callable[[Mapping[str, Any]], None] = lambda message: None
    ) -> None:
        """Keep the newest message of ``topic``; ``on_message`` runs in the bridge's thread."""

        def receive(message: Mapping[str, Any]) -> None:
            self.latest[topic] = Received(value=message, at_s=time.monotonic())
            on_message(message)

        self._topic(topic, kind).subscribe(receive)

    def advertise(self, topic: str, kind: str) -> None:
        """Say that messages of that kind will come."""
        self._topic(topic, kind).advertise()

    def publish(self, topic: str, message: Mapping[str, Any]) -> None:
        """Send it; where the connection is gone it is not kept for later."""
        self.require()
        self._topics[topic].publish(self._roslibpy.Message(dict(message)))

    def close(self) -> None:
        """Say goodbye to the topics, and disconnect."""
        if self._lost is not None:
            return
        for topic in self._topics.values():
            topic.unsubscribe() if topic.is_subscribed else topic.unadvertise()
        self._lost = f"{self.url} is closed"
        self._ros.close()

    def _topic(self, topic: str, kind: str) -> Any:
        if topic not in self._topics:
            self._topics[topic] = self._roslibpy.Topic(
                self._ros, topic, kind, queue_length=1, queue_size=1, reconnect_on_close=False
            )
        return self._topics[topic]

    def _listen(self, protocol: Any) -> None:
        """Hear what the server has to complain of: roslibpy leaves that out."""
        protocol._message_handlers["status"] = self._on_status

    def _on_status(self, message: Mapping[str, Any]) -> None:
        level, text = message.get("level"), " ".join(str(message.get("msg", "")).split())[:300]
        if level in ("error", "warning"):
            _log.warning("rosbridge at %s: %s", self.url, text)
        if level == "error":
            self._told = text

    def _on_close(self, protocol: Any) -> None:
        if self._lost is None:
            self._lost = f"{self.url} closed the connection, or it broke"
