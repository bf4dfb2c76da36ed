"""Who can reach a server: this machine alone, or others, who need a key and TLS."""

import hmac
import ipaddress
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from websockets.http11 import Request as HttpRequest

from vla.core.errors import ServeError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Where a server listens, and what it asks of those who come."""

    host: str
    port: int
    """0 is any that is free."""
    api_key: str | None = None
    tls: ssl.SSLContext | None = None
    insecure: bool = False
    """Whether others may come without key or TLS."""

    def __post_init__(self) -> None:
        if self.api_key == "":
            raise ServeError("the API key is empty; set one, or none to serve this machine only")
        if not 0 <= self.port <= 65535:
            raise ServeError(f"port: expected 0 (any free one) to 65535, got {self.port}")
        wanted = (("no API key (--api-key-file)", self.api_key), ("no TLS (--tls-cert)", self.tls))
        missing = " and ".join(what for what, there in wanted if not there)
        if not missing or _is_loopback(self.host):
            return
        if not self.insecure:
            raise ServeError(
                f"{self.host} can be reached from other machines, and there is {missing}; "
                "give both, serve on 127.0.0.1, or say --insecure"
            )
        _log.warning("%s can be reached from other machines, and there is %s", self.host, missing)

    def admits(self, request: HttpRequest) -> bool:
        """Whether it brings the key, if there is one."""
        if self.api_key is None:
            return True
        given = " ".join(request.headers.get_all("Authorization"))
        return hmac.compare_digest(given.encode(), f"Api-Key {self.api_key}".encode())

    def address(self, host: str, port: int) -> str:
        """That of the server, when it listens there."""
        return f"{'wss' if self.tls else 'ws'}://{f'[{host}]' if ':' in host else host}:{port}"


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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
