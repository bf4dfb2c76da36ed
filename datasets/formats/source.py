"""What every importer offers, and what exporters say of that which their format cannot hold.

An importer is a small picklable value that reads one episode at a time, so that any number of processes can share
the work. Formats name few of the things that a contract needs; what they do not say comes from `Hints`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vla.core.contract import Contract
from vla.core.types import Episode

OnEpisode = Callable[[int], None]
"""Called with the number of steps of each episode that was written."""


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a user knows and a source may not say; None leaves it to the source or to a stated default."""

    robot: str | None = None
    control_hz: float | None = None
    instruction: str | None = None
    """For sources without language."""
    task: str | None = None
    split: str | None = None


@runtime_checkable
class Source(Protocol):
    """Recorded episodes in somebody else's format."""

    @property
    def contract(self) -> Contract:
        """Cameras, state, action and rate, as far as the source names them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left out, one sentence each: shown to the user, and kept in the provenance."""

    def __len__(self) -> int:
        """The number of episodes."""

    def read(self, number: int) -> Episode:
        """One episode that fits the contract; damage is a `DatasetError` that names the file."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exporter wrote, and what its format could not hold."""

    episodes: int
    steps: int
    lost: tuple[str, ...]
    """One sentence for each thing that is in the dataset and not in the export."""
