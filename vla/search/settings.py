"""What is embedded of a dataset, and what is looked for. Free of heavy imports, so that help is instant."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from vla.core.config import require_at_least_one
from vla.datasets.selection import Selection

By = Literal["episode", "frame"]
"""One hit for each episode, its best frame; or every frame for itself, whatever episode it is of."""


@dataclass(frozen=True, kw_only=True)
class FramesConfig:
    """Which frames of a dataset an index holds."""

    every: int = 5
    """Every so manieth frame of an episode; its first and its last are always there."""
    cameras: tuple[str, ...] = ()
    """Of these cameras; by default of the one that the model learned from, or of all that see colours."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "every", where="search: ")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How many hits, and among what."""

    hits: int = 12
    """At most."""
    by: By = "episode"
    """Hits are whole episodes, each by its best frame, or single frames."""
    select: Annotated[Selection, tyro.conf.arg(name="")] = field(default_factory=Selection)
    """Only these episodes."""
    robots: tuple[str, ...] = ()
    """Only datasets of these robots."""
    cameras: tuple[str, ...] = ()
    """Only frames of these cameras."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "hits", where="search: ")
