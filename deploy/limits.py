"""What clients may cost a policy server: every work, wait and byte that a peer can cause has its bound here."""

import math
from dataclasses import dataclass, fields

from vla.core.contract import Contract
from vla.core.errors import ServeError
from vla.deploy.wire import MAX_ITEMS, MAX_RANK

_ROOM_BYTES = 2 << 20
"""Beside the images of an observation: two that were not scaled down are refused in words, not cut off."""

_MAY_BE_ZERO = ("message_bytes", "batch_s")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """All are kept by the server, whatever a client does; seconds are of the monotonic clock."""

    clients: int = 64
    """Connections at a time; their requests share inferences. An evaluation takes one for each episode at a time."""
    sockets: int = 256
    """Open connections in all, those that have not said who they are among them; one more is closed at once."""
    message_bytes: int = 0
    """Largest message; 0 is 2 MiB and what the images of an observation take."""
    instruction_chars: int = 1000
    """Longest instruction, looked at before it is made into tokens."""
    depth: int = 8
    """Lists and maps within each other in a message."""
    rank: int = MAX_RANK
    """Dimensions of an array; its types are those of the protocol."""
    items: int = MAX_ITEMS
    """Elements of all lists and maps of a message."""
    requests_per_s: float = 200.0
    """Of one client; those that come faster wait unread."""
    bytes_per_s: float = 64e6
    """Of one client, likewise."""
    frames_per_s: float = 2000.0
    """Of one client, pings and pieces of messages among them; one that sends more for a second is dropped."""
    handshake_s: float = 5.0
    """From the connection to the end of its HTTP request."""
    idle_s: float = 60.0
    """A place whose client has asked nothing for so long goes to a newcomer, when there is no other."""
    write_s: float = 5.0
    """How long an answer may take to be read; then its client is dropped."""
    write_bytes: int = 1 << 20
    """Most that waits to be read by one client, pongs among it; then it is dropped."""
    batch: int = 64
    """Most requests of one inference."""
    batch_s: float = 0.02
    """How long a request waits at most, to share an inference with those who should ask again by then; and at most a
    quarter of what the last inference took."""
    queue: int = 256
    """Most requests that wait for a policy; one more is answered with an error. Of each client there is one at most."""
    inference_s: float = 10.0
    """The policy's time for a batch. Then its clients are told, and the policy is started anew, or the server ends."""
    start_s: float = 600.0
    """The policy's time to load, and to answer for the first time."""
    restarts: int = 3
    """Starts in a row without an answer after which the server ends."""
    stop_s: float = 1.0
    """What a stop waits for the inference in flight, and then for clients to say goodbye."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value, least = getattr(self, item.name), 0 if item.name in _MAY_BE_ZERO else 1e-3
            if not (math.isfinite(value) and value >= least):
                raise ServeError(f"limits.{item.name}: expected a number above 0, got {value}")
        if self.clients > self.sockets:
            raise ServeError(f"limits.sockets: expected at least one for each of {self.clients} clients; raise it")

    def most_message_bytes(self, contract: Contract) -> int:
        """The largest message of a client of a policy with this contract."""
        needed = image_bytes(contract)
        if self.message_bytes == 0:
            return needed + _ROOM_BYTES
        if needed >= self.message_bytes:
            raise ServeError(
                f"limits.message_bytes is {self.message_bytes}, but the images of one observation have {needed}; "
                "raise it"
            )
        return self.message_bytes


def image_bytes(contract: Contract) -> int:
    """What the images of one observation take."""
    return sum(math.prod(camera.shape) * (2 if camera.kind == "depth" else 1) for camera in contract.cameras)
