"""The files of a TFDS dataset: which version, which splits, which shards, and where each episode lies in them.

An episode that a file should hold and does not keeps its number: reading it says what is wrong with the file.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.core.errors import DatasetError
from vla.core.media.signatures import cause_of
from vla.datasets.formats.rlds.features import FEATURES
from vla.datasets.formats.rlds.tfrecord import whole_records

INFO = "dataset_info.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_SHARD = re.compile(r"(?P<name>.+)-(?P<split>[^-]+)\.tfrecord-(?P<number>\d{5,})-of-(?P<total>\d{5,})")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a split."""

    path: Path
    split: str
    episodes: int | None
    """As the dataset says; None where it does not."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """What a folder of TFDS holds."""

    name: str
    version: str
    shards: tuple[Shard, ...]
    notes: tuple[str, ...]


def find_folder(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder with ``features.json``, at or below ``path``, and a note where a version was chosen."""
    if (path / FEATURES).is_file() or any(path.glob("*.tfrecord*")):
        return path, ()
    found = sorted({file.parent for pattern in ("*", "*/*") for file in path.glob(f"{pattern}/{FEATURES}")})
    if not found:
        raise DatasetError(
            f"{path}: expected {FEATURES} there, or in a folder of a version like 1.0.0 below; "
            "give the folder of an RLDS dataset"
        )
    versions = all(_VERSION.fullmatch(folder.name) for folder in found)
    if len(found) > 1 and (len({folder.parent for folder in found}) > 1 or not versions):
        raise DatasetError(
            f"{path}: several datasets lie below it: {', '.join(str(f.relative_to(path)) for f in found)}; "
            "give the folder of one"
        )
    chosen = max(found, key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.name)])
    if len(found) == 1:
        return chosen, ()
    return chosen, (f"Of the versions {', '.join(f.name for f in found)} the highest, {chosen.name}, is read.",)


def read_shards(folder: Path) -> Shards:
    """The shards of all splits, those that are missing too."""
    path = folder / INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _from_names(folder)
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); download it again") from None
    try:
        name = str(info.get("name") or folder.parent.name)
        kind = str(info.get("fileFormat") or "tfrecord")
        shards = [shard for split in info.get("splits", []) for shard in _split(folder, name, kind, split)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: not the description that TFDS writes ({error}); download it again") from None
    if kind != "tfrecord":
        raise DatasetError(f"{path}: expected files of the format tfrecord, got {kind}; write the dataset as tfrecord")
    listed = {shard.path.name for shard in shards}
    others = sorted(file.name for file in folder.glob("*.tfrecord*") if file.name not in listed)
    return Shards(
        name=name,
        version=str(info.get("version") or folder.name),
        shards=tuple(shard for shard in shards if shard.episodes or shard.path.is_file()),
        notes=(f"{len(others)} files that {INFO} does not list are left out, the first is {others[0]}.",)
        if others
        else (),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where the episodes lie."""

    rows: Int64[np.ndarray, "n 3"]
    """Shard, offset and length of each record; offset 0 for one that cannot be read."""
    problems: Mapping[int, str]
    """Why the episodes of a shard that cannot be read cannot, by shard."""
    notes: tuple[str, ...]

    @property
    def readable(self) -> Int64[np.ndarray, "m 3"]:
        """The rows of those that can be read."""
        return self.rows[self.rows[:, 1] > 0]


def index_episodes(folder: Path, shards: Shards) -> Places:
    """Find each episode that the dataset lists, or that its files hold; if none is whole, that is a `DatasetError`."""
    rows, problems, notes = [], dict[int, str](), []
    for number, shard in enumerate(shards.shards):
        records, problem = _records(shard, shards)
        missing = (shard.episodes or 0) - len(records)
        if problem:
            missing = max(missing, 1)
        elif missing > 0:
            problem = (
                f"{shard.path}: expected {shard.episodes} records as shardLengths in {folder / INFO} says, got "
                f"{len(records)}; download both again"
            )
        elif shard.episodes is not None and missing < 0:
            notes.append(f"{shard.path.name} has {len(records)} records, {INFO} says {shard.episodes}: all are read.")
        if problem:
            problems[number] = problem
            records = np.concatenate([records, np.zeros((missing, 2), np.int64)])
        rows.append(np.insert(records, 0, number, axis=1))
    found = np.concatenate(rows) if rows else np.empty((0, 3), np.int64)
    if not (found[:, 1] > 0).any():
        first = next(iter(problems.values()), f"{folder}: expected at least 1 episode, got none; download the records")
        raise DatasetError(first)
    lost = int((found[:, 1] == 0).sum())
    if lost:
        first = next(iter(problems.values()))
        notes.append(
            f"{lost} of {len(found)} episodes cannot be read, for {len(problems)} of {len(shards.shards)} files are "
            f"missing or damaged; the first: {first}"
        )
    return Places(rows=found, problems=problems, notes=tuple(notes))


def _records(shard: Shard, shards: Shards) -> tuple[Int64[np.ndarray, "n 2"], str]:
    """Offset and length of the records of a shard, and what is wrong with it."""
    nothing = np.empty((0, 2), np.int64)
    if not shard.path.is_file():
        same = [other.path for other in shards.shards if other.split == shard.split]
        where = f"file {same.index(shard.path) + 1} of {len(same)} of the split {shard.split}"
        return nothing, f"{shard.path} is missing: it is {where}; download it"
    if shard.episodes != 0 and not shard.path.stat().st_size:
        return nothing, f"{shard.path}: {cause_of(shard.path, 'a TFRecord file')}"
    return whole_records(shard.path)


def _split(folder: Path, name: str, kind: str, split: dict[str, Any]) -> Iterator[Shard]:
    """The shards of one split, named by its template."""
    lengths = [int(length) for length in split.get("shardLengths", [])]
    template = str(split.get("filepathTemplate") or _TEMPLATE).rpartition("/")[2]
    for number, length in enumerate(lengths):
        parts = {
            "DATASET": name,
            "SPLIT": str(split["name"]),
            "FILEFORMAT": kind,
            "SHARD_INDEX": f"{number:05d}",
            "NUM_SHARDS": f"{len(lengths):05d}",
            "SHARD_X_OF_Y": f"{number:05d}-of-{len(lengths):05d}",
        }
        file = re.sub(r"\{(\w+)\}", lambda match: parts[match[1]], template)  # noqa: B023
        yield Shard(path=folder / file, split=parts["SPLIT"], episodes=length)


def _from_names(folder: Path) -> Shards:
    """The shards as their names say, where there is no description."""
    found = [(match, file) for file in sorted(folder.iterdir()) if (match := _SHARD.fullmatch(file.name))]
    if not found:
        raise DatasetError(f"{folder}: expected {INFO} and files named *.tfrecord-*, got neither; download them")
    names: dict[str, str] = {}
    for split in {match["split"] for match, _ in found}:
        numbers = {int(match["number"]) for match, _ in found if match["split"] == split}
        total = max(int(match["total"]) for match, _ in found if match["split"] == split)
        if max(numbers) >= total:
            raise DatasetError(f"{folder}: the split {split} has a file {max(numbers)} of {total}; rename its files")
        names |= {f"{found[0][0]['name']}-{split}.tfrecord-{n:05d}-of-{total:05d}": split for n in range(total)}
    return Shards(
        name=found[0][0]["name"],
        version=folder.name,
        shards=tuple(Shard(path=folder / name, split=split, episodes=None) for name, split in sorted(names.items())),
        notes=(f"{INFO} is missing: splits and files are taken from the names of the files.",),
    )
