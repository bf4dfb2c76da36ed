"""What recipes say of mixtures. Free of heavy imports, so that help is instant."""

import math
from dataclasses import dataclass, field

from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MixtureEntry:
    """One dataset, and how much of it."""

    path: str
    """A folder or URL."""
    weight: float = 1.0
    """Its share of the samples, relative to the other entries."""
    cameras: dict[str, str] = field(default_factory=dict)
    """{slot: camera}; empty fills each slot with the camera of its name. Slots that get none are masked."""
    manifest: int | None = None
    """Version of the dataset; the latest by default."""
    split: str | None = None
    """Only the episodes of this split."""
    hz: float | None = None
    """Rate of its chunks and histories, if it is not that of the mixture."""

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ConfigError(f"{self.path}: weight={self.weight} must be positive; leave the dataset out instead")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Datasets, their weights, and the shape that all of their items get."""

    entries: tuple[MixtureEntry, ...]
    slots: tuple[str, ...]
    """Names of the images of an item, in order."""
    image_size: tuple[int, ...] = (224, 224)
    """(y, x): frames of another size are stretched to it."""
    hz: float | None = None
    """Rate of all chunks and histories: the nearest recorded steps; None takes every dataset's own control rate."""
    balance: bool = False
    """Multiply weights by numbers of steps: at weights of 1 every step is as likely as any other."""

    def __post_init__(self) -> None:
        if not self.entries:
            raise ConfigError("entries: expected at least one dataset")
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ConfigError(f"image_size={list(self.image_size)} must be two positive numbers (y, x)")
        if len(set(self.slots)) != len(self.slots):
            raise ConfigError(f"slots={list(self.slots)}: each needs a name of its own")
        keys = [(entry.path, entry.manifest, entry.split) for entry in self.entries]
        for path, _, split in (key for key in keys if keys.count(key) > 1):
            raise ConfigError(f"entries: {path} (split {split}) is listed twice; add its weights up")
