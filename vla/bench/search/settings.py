"""What ``vla bench search`` can be told."""

from dataclasses import dataclass

import tyro

from vla.core.config import require_at_least_one
from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Nearest frames by a model of two towers, beside comparing all; frames and their crops, never random vectors."""

    dataset: tyro.conf.Positional[str] = ""
    """Whose frames: of the camera that the model learned from, or of all that see colours."""
    checkpoint: str = ""
    """A model of two towers."""
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Vectors that are searched; beyond the frames themselves they are of crops of frames, some mirrored."""
    queries: int = 1000
    """Crops and as many sentences, if the dataset has them, that the vectors are not of; each asked alone."""
    out: str = "runs/bench-search"
    """Keeps the vectors; what is there is not embedded again."""
    threads: int = 1
    """Of the processor, for embedding. A query has one."""
    seed: int = 0
    """Of the crops."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "queries", "threads", where="bench search: ")
        if not self.sizes or min(self.sizes) < 1000:
            raise ConfigError(f"bench search: sizes={self.sizes} must be at least 1000 vectors each")
