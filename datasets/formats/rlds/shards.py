"""The files of a TFDS dataset: which version, which splits, which shards, and where each episode lies in them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.core.errors import DatasetError
from vla.datasets.formats.rlds.features import FEATURES
from vla.datasets.formats.rlds.tfrecord import index_records

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
    """The shards of all splits; one that is missing is a `DatasetError`."""
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
    missing = [shard.path.name for shard in shards if shard.episodes and not shard.path.is_file()]
    if missing:
        raise DatasetError(
            f"{folder}: {len(missing)} of {len(shards)} files that {INFO} lists are missing, the first is "
            f"{missing[0]}; download them, or take their numbers out of shardLengths"
        )
    return Shards(
        name=name,
        version=str(info.get("version") or folder.name),
        shards=tuple(shard for shard in shards if shard.path.is_file()),
        notes=(),
    )


def index_episodes(folder: Path, shards: Shards) -> Int64[np.ndarray, "n 3"]:
    """Shard, offset and length of each episode's record; shards that are cut short or too long are a `DatasetError`."""
    rows = []
    for number, shard in enumerate(shards.shards):
        records = index_records(shard.path)
        if shard.episodes is not None and len(records) != shard.episodes:
            raise DatasetError(
                f"{shard.path}: expected {shard.episodes} records as shardLengths in {folder / INFO} says, got "
                f"{len(records)}; download both again"
            )
        rows.append(np.insert(records, 0, number, axis=1))
    return np.concatenate(rows) if rows else np.empty((0, 3), np.int64)


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
    for split in {match["split"] for match, _ in found}:
        numbers = {int(match["number"]) for match, _ in found if match["split"] == split}
        total = max(int(match["total"]) for match, _ in found if match["split"] == split)
        if numbers != set(range(total)):
            missing = sorted(set(range(total)) - numbers)
            raise DatasetError(
                f"{folder}: {len(missing)} of {total} files of the split {split} are missing, the first is number "
                f"{missing[0] if missing else total}; download them"
            )
    return Shards(
        name=found[0][0]["name"],
        version=folder.name,
        shards=tuple(Shard(path=file, split=match["split"], episodes=None) for match, file in found),
        notes=(f"{INFO} is missing: splits and files are taken from the names of the files.",),
    )
