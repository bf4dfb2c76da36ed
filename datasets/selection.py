"""Which episodes: a predicate that can be written in a recipe or on a command line, or any function of a record."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool

from vla.core.errors import DatasetError
from vla.core.lookup import lookup
from vla.datasets.store.records import EpisodeIndex, EpisodeRecord


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Episodes for which everything that is set holds; an empty selection is all of them."""

    success: bool | None = None
    """Only those that succeeded, or only those that are known to have failed."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""
    splits: tuple[str, ...] = ()
    """Only these splits."""
    instruction: str = ""
    """Only instructions that hold this text, whatever its case."""
    uids: tuple[str, ...] = ()
    """Only these."""
    min_length: int = 1
    """Only those of at least so many steps."""
    max_length: int | None = None
    """Only those of at most so many steps."""

    @property
    def is_everything(self) -> bool:
        """Whether nothing is set."""
        return self == Selection()

    def mask(self, index: EpisodeIndex) -> Bool[np.ndarray, " episodes"]:
        """Whether each episode is chosen; tasks and splits that no episode has are an error."""
        chosen = index.lengths >= self.min_length
        if self.max_length is not None:
            chosen &= index.lengths <= self.max_length
        if self.success is not None:
            chosen &= index.success == int(self.success)
        for column, wanted in (("task", self.tasks), ("split", self.splits)):
            if wanted:
                chosen &= _among(index, column, wanted)
        if self.instruction:
            values, codes = index.column("instruction")
            chosen &= np.array([self.instruction.casefold() in text.casefold() for text in values], bool)[codes]
        if self.uids:
            known = set(index.uids.tolist())
            missing = [uid for uid in self.uids if uid.encode() not in known]
            if missing:
                raise DatasetError(f"no episode {missing[0]!r}; vla data info lists them with --episodes")
            chosen &= np.isin(index.uids, np.array(self.uids, "S"))
        return np.asarray(chosen)

    def __str__(self) -> str:
        """What is set, for people."""
        default = Selection()
        said = [
            (f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != getattr(default, f.name)
        ]
        return ", ".join(f"{name}={value}" for name, value in said) or "all"


def _among(index: EpisodeIndex, column: str, wanted: Iterable[str]) -> Bool[np.ndarray, " episodes"]:
    values, codes = index.column(column)
    present = {values[code]: code for code in np.unique(codes)}
    return np.isin(codes, [lookup(column, name, present) for name in wanted])


def select_episodes(index: EpisodeIndex, predicate: Callable[[EpisodeRecord], bool]) -> np.ndarray:
    """The numbers of the episodes for whose record a function answers true."""
    return np.array([number for number, record in enumerate(index) if predicate(record)], np.int64)
