"""An index of a dataset's frames on disk, as it is read: which frames a vector is nearest to.

INDEX/
index.json             the model's digest and width, and which frames are embedded; with its own checksum
parts/NAME/            vectors of some episodes (see `vla.search.parts`)
neighbours/NAME/       once rows are many: a sealed faiss index of the parts that its seal names, in that order
lock                   held by whoever writes

What is said of episodes (task, success, instruction) is not kept here but read from the dataset, which may change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla.core.config import from_dict, to_dict
from vla.core.errors import ConfigError, SearchError
from vla.core.files import NotPlainError, read_below
from vla.core.sealed import COMMIT, MOST_BYTES, DamageError, SealedFolder, decode, encode, table, text, whole
from vla.datasets.dataset import Dataset
from vla.search.neighbours import Neighbours, exact, flat, load_faiss
from vla.search.parts import Part, read_parts
from vla.search.settings import FramesConfig

VERSION = "1.0"
HEAD, NEIGHBOURS, LISTS = "index.json", "neighbours", "lists.faiss"
EXACT_MOST = 20_000
"""Rows that a filter leaves up to which all of them are compared."""
_MOST_WIDTH = 2**16


@dataclass(frozen=True, kw_only=True)
class Head:
    """What an index is of; it never changes."""

    model: str
    """Digest of the model whose vectors it holds."""
    width: int
    frames: FramesConfig

    def to_bytes(self) -> bytes:
        """As `read_head` reads it."""
        return encode({"model": self.model, "width": self.width, "frames": to_dict(self.frames)}, VERSION)


class Place(NamedTuple):
    """What a row of an index is a picture of."""

    uid: str
    camera: str
    step: int
    time_ns: int


class SearchIndex:
    """All rows that were finished, numbered: part after part, in the order of the neighbours'."""

    def __init__(
        self, folder: Path, head: Head, parts: Sequence[Part], neighbours: Neighbours, *, kept: int = 0
    ) -> None:
        self.folder, self.head, self.parts, self.neighbours = folder, head, tuple(parts), neighbours
        self.kept = kept
        """Parts whose neighbours are on disk: the first so many."""
        self._starts = np.cumsum([0, *(len(part.rows) for part in parts)])

    @staticmethod
    def open(folder: Path, model: str) -> "SearchIndex":
        """Read and check all of it; a missing one is a `FileNotFoundError`, one of another model or damaged refused."""
        head = read_head(folder)
        require_model(head, model, folder)
        parts = {part.name: part for part in read_parts(folder, head.width, fix(folder))}
        listed, neighbours = read_neighbours(folder, head, parts)
        rest = [part for name, part in parts.items() if name not in listed]
        neighbours.add(all_vectors(rest, head.width))
        return SearchIndex(folder, head, [*(parts[n] for n in listed), *rest], neighbours, kept=len(listed))

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._starts[-1])

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """Of its frames."""
        return tuple(dict.fromkeys(camera for part in self.parts for camera in part.cameras))

    def place(self, row: int) -> Place:
        """What a row shows."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        part = self.parts[number]
        entry = part.rows[row - self._starts[number]]
        uid, camera = part.uids[entry["episode"]], part.cameras[entry["camera"]]
        return Place(uid, camera, int(entry["step"]), int(entry["time_ns"]))

    def vectors(self, rows: Int64[np.ndarray, " k"]) -> Float32[np.ndarray, "k e"]:
        """Some rows, in rising order."""
        bounds = np.searchsorted(rows, self._starts)
        within = zip(self.parts, self._starts[:-1], bounds[:-1], bounds[1:], strict=True)
        found = [part.vectors[rows[a:b] - start] for part, start, a, b in within]
        gathered = np.concatenate([np.empty((0, self.head.width), np.float16), *found])
        return np.asarray(gathered, np.float32)

    def episodes(self, dataset: Dataset) -> Int64[np.ndarray, " n"]:
        """The episode that each row is of, by its number in a version of the dataset; -1 where it is not in there."""
        numbers = {uid.decode(): number for number, uid in enumerate(dataset.episodes.uids.tolist())}
        return self._by_row("episode", [[numbers.get(uid, -1) for uid in part.uids] for part in self.parts])

    def of_cameras(self, names: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Whether each row is of one of these cameras."""
        return self._by_row("camera", [[name in names for name in part.cameras] for part in self.parts]).astype(bool)

    def nearest(
        self, query: Float32[np.ndarray, " e"], count: int, allowed: Bool[np.ndarray, " n"]
    ) -> tuple[Float32[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
        """Scores and rows of the nearest that are allowed, best first: ``count`` of them, if there are so many."""
        left = int(allowed.sum())
        if left == len(self):
            return self.neighbours.nearest(query, count)
        if left > EXACT_MOST:
            return self.neighbours.nearest(query, count, allowed)
        rows = np.flatnonzero(allowed)
        scores, found = exact(self.vectors(rows), query[None], count)
        return scores[0], rows[found[0]]

    def _by_row(self, column: str, values: Sequence[Sequence[int]]) -> Int64[np.ndarray, " n"]:
        found = [np.array(v, np.int64)[p.rows[column]] for v, p in zip(values, self.parts, strict=True)]
        return np.asarray(np.concatenate([np.empty(0, np.int64), *found]))


def read_head(folder: Path) -> Head:
    """What the index in a folder is of; a missing one is a `FileNotFoundError`, a damaged one a `SearchError`."""

    def check_version(version: object) -> None:
        if version != VERSION:
            raise DamageError(f"version {version!r}, this software reads {VERSION}")

    try:
        value = decode(read_below(folder, HEAD, MOST_BYTES), check_version)
        frames = from_dict(FramesConfig, table(value.get("frames"), "frames"), where=str(folder / HEAD))
        width = whole(value.get("width"), "width", least=1, most=_MOST_WIDTH)
        return Head(model=text(value.get("model"), "model"), width=width, frames=frames)
    except (DamageError, NotPlainError, ConfigError) as what:
        raise SearchError(f"{folder / HEAD} is damaged: {what}; {fix(folder)}") from None


def require_model(head: Head, model: str, folder: Path) -> None:
    """Vectors of two models cannot be compared."""
    if head.model != model:
        raise SearchError(
            f"{folder} is an index of another model: expected {model}, got {head.model}; search with the checkpoint "
            "that made it, or name another folder with --index"
        )


def fix(folder: Path) -> str:
    """What to do about an index that is damaged: all of it can be made anew."""
    return f"remove {folder}, and the next search makes it anew"


def all_vectors(parts: Sequence[Part], width: int) -> np.ndarray:
    """Float16 (n, e), in memory."""
    return np.concatenate([np.empty((0, width), np.float16), *(part.vectors for part in parts)])


def read_neighbours(folder: Path, head: Head, parts: dict[str, Part]) -> tuple[list[str], Neighbours]:
    """The names of the parts that are in it, in order, and what was kept; nothing while rows are few."""
    places = [place for place in (folder / NEIGHBOURS).glob("*") if (place / COMMIT).exists()]
    opened = [SealedFolder.open(place, error=SearchError, fix=fix(folder)) for place in places]
    if not opened:
        return [], flat(head.width)
    newest = max(opened, key=lambda sealed: len(table(sealed.about.get("parts"), "parts")))
    newest.check(error=SearchError, fix=fix(folder))
    try:
        listed = table(newest.about.get("parts"), "parts")
        probes, made_of = (whole(newest.about.get(key), key, least=1) for key in ("probes", "made_of"))
        for name, digest in listed.items():
            if name not in parts or parts[name].digest != digest:
                raise DamageError(f"it is of part {name[:40]}, which is not there or another")
        index: Any = load_faiss().read_index(str(newest.path / LISTS))
        rows = sum(len(parts[name].rows) for name in listed)
        if (index.ntotal, index.d) != (rows, head.width):
            raise DamageError(f"{LISTS} holds {index.ntotal} vectors of {index.d}, expected {rows} of {head.width}")
    except (DamageError, RuntimeError) as what:  # faiss raises the latter
        raise SearchError(f"{newest.path} is damaged: {what}; {fix(folder)}") from None
    return list(listed), Neighbours(index=index, probes=probes, made_of=made_of)
