"""A policy that keeps two megabytes a second, to be served."""

import time
from collections.abc import Sequence

from vla.bench.serving.policies import Swinging
from vla.core.contract import Contract
from vla.core.types import ActionChunk, Observation

_BYTES_PER_S = 2_000_000


class Leaking:
    def __init__(self) -> None:
        self._sound, self._kept, self._began_s = Swinging(), list[bytes](), time.monotonic()

    @property
    def contract(self) -> Contract:
        return self._sound.contract

    def reset(self, slot: int) -> None:
        self._sound.reset(slot)

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        now = time.monotonic()
        self._kept.append(b"x" * round((now - self._began_s) * _BYTES_PER_S))
        self._began_s = now
        return self._sound.act(observations)
