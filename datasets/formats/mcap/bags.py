"""Which recordings lie at a path: files, and folders of rosbag2 whose ``metadata.yaml`` says what belongs together.

A recording that cannot be read, because files of it are missing say, is one all the same: reading it tells why.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vla.core.errors import DatasetError
from vla.core.media.signatures import cause_of

METADATA = "metadata.yaml"
SUFFIXES = (".mcap", ".mcap.zstd")
OTHERS = (".db3", ".db3.zstd", ".bag")
"""Recordings of ROS that are no MCAP: named, with what converts them."""
_ROOT = "rosbag2_bagfile_information"
_LARGEST = 16 * 2**20
_VISITED = 2000
"""Files and folders that recognising looks at: it is asked of any path."""
_SPLIT = re.compile(r"(?P<bag>.+)_(?P<number>\d+)\.mcap(\.zstd)?")


@dataclass(frozen=True, kw_only=True)
class Bag:
    """One recording."""

    path: Path
    """The file, or the folder of rosbag2."""
    files: tuple[Path, ...]
    """In the order of time."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Messages of each topic, as the metadata say; empty where they do not."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """What the recorder was told to keep (custom_data)."""
    packed: bool = False
    """Whether each message is packed by itself."""
    problem: str = ""
    """Why it cannot be read."""


def is_recording(path: Path) -> bool:
    """Whether ``path`` is a recording of ROS, or a folder with some anywhere below; never raises."""
    try:
        if path.is_file():
            return path.name.endswith((*SUFFIXES, *OTHERS)) and not path.name.startswith(".")
        found = _walk(path, [])
        return any(file.name.endswith((*SUFFIXES, *OTHERS)) for file, _ in zip(found, range(_VISITED), strict=False))
    except OSError:
        return False


def find_bags(path: Path) -> tuple[tuple[Bag, ...], tuple[str, ...]]:
    """The recordings at a path in the order of their names, behind links too, and what was passed over; none: error."""
    if path.is_file():
        return _one_file(path)
    notes: list[str] = []
    files = sorted(_walk(path, notes))
    folders = [file.parent for file in files if file.name == METADATA]
    bags = [bag for folder in folders if (bag := _described(folder)) is not None]
    listed = {file for bag in bags for file in bag.files}
    unclear = {bag.path for bag in bags if not bag.files}  # reading that recording tells why
    loose = [
        file
        for file in files
        if file.name.endswith((*SUFFIXES, *OTHERS)) and file not in listed and file.parent not in unclear
    ]
    notes += [
        f"{file} is not listed in {METADATA} beside it: it is taken as a recording of its own."
        for file in loose
        if any(bag.path == file.parent for bag in bags)
    ]
    bags += [_single(file) for file in loose]
    bags.sort(key=lambda bag: bag.path)
    if not bags:
        raise DatasetError(
            f"{path}: expected at least 1 file .mcap, got none"
            + (f" ({'; '.join(notes)})" if notes else "")
            + "; give the folder of the recordings"
        )
    notes += _looks_split(loose, {bag.path for bag in bags})
    return tuple(bags), tuple(notes)


def _one_file(path: Path) -> tuple[tuple[Bag, ...], tuple[str, ...]]:
    whole = _described(path.parent) if (path.parent / METADATA).is_file() else None
    if whole is None or path not in whole.files or len(whole.files) < 2:
        return (_single(path),), ()
    place = whole.files.index(path) + 1
    return (_single(path),), (
        f"{path.name} is file {place} of {len(whole.files)} of one recording, as {METADATA} beside it says: give the "
        f"folder {path.parent} to read it whole.",
    )


def _walk(root: Path, notes: list[str]) -> Iterator[Path]:
    """Every file below, links followed, each file and folder once."""
    seen_folders, seen_files = {os.path.realpath(root)}, dict[str, Path]()
    for folder, names, files in os.walk(root, followlinks=True):
        kept = []
        for name in sorted(names):
            real = os.path.realpath(os.path.join(folder, name))
            if name.startswith("."):
                continue
            if real in seen_folders:
                notes.append(f"{os.path.join(folder, name)} leads to a folder that is read already, and is left out.")
                continue
            seen_folders.add(real)
            kept.append(name)
        names[:] = kept
        for name in sorted(files):
            file = Path(folder, name)
            is_bag = name.endswith((*SUFFIXES, *OTHERS))
            if not file.exists():
                notes.append(f"{file} is a link to {os.readlink(file)}, which does not exist: it is left out.")
            elif is_bag and name.startswith("."):
                notes.append(f"{file} is hidden, as the copies of macOS are, and is left out.")
            elif is_bag and (real := os.path.realpath(file)) in seen_files:
                notes.append(f"{file} is the same file as {seen_files[real]}, and is left out.")
            else:
                if is_bag:
                    seen_files[os.path.realpath(file)] = file
                yield file


def _single(file: Path) -> Bag:
    """A file that is a recording of its own."""
    if file.name.endswith(SUFFIXES):
        return Bag(path=file, files=(file,))
    fix = "rosbags-convert or mcap convert" if file.suffix == ".bag" else "ros2 bag convert"
    cause = cause_of(file, "an MCAP file") or "it is no MCAP file"
    return Bag(path=file, files=(file,), problem=f"{file}: {cause}; {fix} makes an MCAP file of it")


def _described(folder: Path) -> Bag | None:
    """What the metadata of a folder say; None where they are not those of rosbag2."""
    path = folder / METADATA
    fix = f"write it anew with ros2 bag reindex {folder}"
    try:
        if path.stat().st_size > _LARGEST:
            return Bag(path=folder, files=(), problem=f"{path} has {path.stat().st_size} bytes; {fix}")
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        return Bag(path=folder, files=(), problem=f"{path} cannot be read ({reason}); {fix}")
    if not isinstance(value, dict) or _ROOT not in value:
        return None
    try:
        return _bag(folder, value[_ROOT])
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        return Bag(
            path=folder,
            files=(),
            problem=f"{path}: not what rosbag2 writes ({type(error).__name__}: {error}); {fix}",
        )


def _bag(folder: Path, value: Mapping[str, Any]) -> Bag:
    names = [str(name) for name in value.get("relative_file_paths") or [file["path"] for file in value["files"]]]
    files, problems = [], []
    storage = str(value.get("storage_identifier") or "mcap")
    if storage != "mcap":
        problems.append(f"{folder} is stored as {storage}, not as mcap: convert it with ros2 bag convert")
    for name in names:
        parts = Path(name).parts
        parts = parts[1:] if len(parts) == 2 and parts[0] == folder.name else parts  # as older versions wrote them
        if len(parts) != 1 or parts[0] in (".", "..", "/"):
            raise ValueError(f"the file {name!r} is not one of this folder")
        file = folder / parts[0]
        packed = file.with_name(f"{file.name}.zstd")
        files.append(packed if not file.exists() and packed.exists() else file)
    missing = [file.name for file in files if not file.exists()]
    if missing or not files:
        problems.append(
            f"{folder / METADATA} lists {len(files)} files, of which {len(missing)} are missing: "
            f"{', '.join(missing) or 'none is named'}; copy them there too"
        )
    mode, form = (str(value.get(f"compression_{key}") or "").lower() for key in ("mode", "format"))
    if form not in ("", "zstd"):
        problems.append(f"{folder} is packed as {form}, only zstd is read: unpack it")
    counts: dict[str, int] = {}
    for topic in value.get("topics_with_message_count") or ():
        counts[str(topic["topic_metadata"]["name"])] = int(topic["message_count"])
    told = value.get("custom_data") or {}
    return Bag(
        path=folder,
        files=tuple(files),
        counts=counts,
        texts={str(key): str(text) for key, text in told.items()},
        packed=mode == "message" and form == "zstd",
        problem="; ".join(problems),
    )


def _looks_split(loose: list[Path], bags: set[Path]) -> Iterator[str]:
    """Files named as rosbag2 names the parts of one recording, where no metadata say that they are."""
    parts: dict[Path, list[str]] = {}
    for file in loose:
        match = _SPLIT.fullmatch(file.name)
        if match and match["bag"] == file.parent.name and file.parent not in bags:
            parts.setdefault(file.parent, []).append(file.name)
    for folder, names in parts.items():
        if len(names) > 1:
            yield (
                f"{folder} has {len(names)} files named as parts of one recording, and no {METADATA}: each is read as "
                f"an episode; if they are one, write it with ros2 bag reindex {folder}."
            )
