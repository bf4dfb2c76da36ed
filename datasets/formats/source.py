"""What a format offers: an importer, and perhaps an exporter that says what the format cannot hold.

An importer is a small picklable value that reads one episode at a time, so that any number of processes can share
the work. Formats name few of the things that a contract needs; what they do not say comes from `Hints`.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.files import sync_folder
from vla.core.types import Episode
from vla.datasets.store.records import NOTES

if TYPE_CHECKING:
    from vla.datasets.dataset import Dataset

Planned = TypeVar("Planned")

OnEpisode = Callable[[int], None]
"""Called with the number of steps of each episode that was written."""


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a user knows and a source may not say; None leaves it to the source or to a stated default."""

    robot: str | None = None
    control_hz: float | None = None
    """Steps in one second."""
    instruction: str | None = None
    """For sources without language."""
    task: str | None = None
    split: str | None = None
    flip_images: tuple[str, ...] | None = None
    """Cameras whose pictures are stored upside down, with row 0 at the bottom; no name: none is, whatever it says."""


def check_flips(named: Iterable[str], cameras: Sequence[str]) -> None:
    """Raise `DatasetError` unless every camera of ``flip_images`` exists."""
    if unknown := [name for name in named if name not in cameras]:
        raise DatasetError(f"--flip-images: expected names of {', '.join(cameras) or 'no camera'}, got {unknown[0]!r}")


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
        """The number of episodes, those included that cannot be read."""

    def read(self, number: int) -> Episode:
        """One episode that fits the contract; damage is a `DatasetError` that names the file and the true cause."""


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Stands for an episode that planning found damaged: it keeps its number, so that it can be skipped and counted.

    A source plans with `attempt` for each episode, leaves out what is unreadable from all that it measures, and raises
    ``error`` when that episode is read. Only what makes every episode unreadable is raised by `Format.open` itself.
    """

    error: DatasetError


def attempt(plan: Callable[[], Planned]) -> Planned | Unreadable:
    """What ``plan()`` returns of one episode, or that it cannot be read."""
    try:
        return plan()
    except DatasetError as error:
        return Unreadable(error=error)


def noted(provenance: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Provenance of an episode with what was assumed of it or could not be carried over, one sentence each.

    Such a sentence says both sides where two sources of truth disagree, and which of them was taken.
    """
    return {**provenance, **({NOTES: [*provenance.get(NOTES, ()), *notes]} if notes else {})}


def notes_of(episode: Episode) -> tuple[str, ...]:
    """The sentences of `noted`."""
    return tuple(map(str, episode.provenance.get(NOTES, ())))


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exporter wrote, and what its format could not hold."""

    episodes: int
    steps: int
    lost: tuple[str, ...]
    """One sentence for each thing that is in the dataset and not in the export."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one format is known, read and written. Libraries that only it needs are imported where they are used."""

    looks: str
    """What a user finds at its path."""
    recognise: Callable[[Path], bool]
    """Whether a path holds it; never raises."""
    open: Callable[..., Source]
    """Called with the path, the `Hints`, and the options if the user gave some; damage is a `DatasetError`."""
    options: type | None = None
    """Dataclass of what only this format may need to be told, such as which of its topics are the state."""
    export: Callable[..., Exported] | None = None
    """Called with the dataset, the new path and `OnEpisode` or None."""
    lossless: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of ``export``, with which every pixel stays as it is."""
    extra: str = "formats"
    """What ``pip install 'vla[...]'`` names its libraries."""
    orients: bool = False
    """Whether it follows `Hints.flip_images` itself, since its files may say which way up pictures are."""


@dataclass(frozen=True, kw_only=True)
class TurnedSource:
    """A source of which some cameras' pictures are upside down, turned: for formats that do not say it."""

    source: Source
    cameras: tuple[str, ...]

    @property
    def contract(self) -> Contract:
        """See `Source`."""
        return self.source.contract

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Source`."""
        return (*self.source.notes, turned_note(self.cameras))

    def __len__(self) -> int:
        """See `Source`."""
        return len(self.source)

    def read(self, number: int) -> Episode:
        """See `Source`."""
        episode = self.source.read(number)
        turned = {name: np.ascontiguousarray(episode.images[name][:, ::-1]) for name in self.cameras}
        return replace(episode, images={**episode.images, **turned})


def turned_note(cameras: Sequence[str]) -> str:
    """What is said of cameras that `Hints.flip_images` names."""
    if not cameras:
        return "Frames are kept as stored, as asked: row 0 is at the top."
    return f"Frames of {', '.join(cameras)} are turned, as asked: row 0 was at the bottom."


@contextmanager
def new_target(dataset: "Dataset", out: Path) -> Iterator[Path]:
    """A path to write an export at, in a folder of its own; it becomes ``out`` unless an exception is raised.

    An existing ``out``, and a dataset without episodes, are a `DatasetError`.
    """
    if out.exists():
        raise DatasetError(f"{out} exists; name another target, or remove it first")
    if not len(dataset.episodes):
        raise DatasetError("export: expected at least 1 episode, got none")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield folder / "target"
        if (folder / "target").is_file():
            with (folder / "target").open("rb") as written:
                os.fsync(written.fileno())
        os.rename(folder / "target", out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sync_folder(out.parent)
