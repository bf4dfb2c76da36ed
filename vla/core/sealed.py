"""Sealed folders: a document, written last, that names every file of a folder with its size and checksum.

Three layers, which datasets, checkpoints and run states share: JSON of a bounded size from anybody (`parse_json`),
JSON that carries its own checksum (`encode`, `decode`), and a table of files in such a document (`seal_folder`,
`SealedFolder`). All guard against accidents: a flipped bit, a file that is cut, swapped, missing or of another folder.
Whoever forges a file can forge its seal; what such a document names still stays below its folder.
"""

import hashlib
import json
import os
import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import google_crc32c

from vla.core.errors import VlaError
from vla.core.files import NotPlainError, open_below, plain_path, read_below, sync_folder, write_atomic

COMMIT = "COMMIT.json"
"""The file that seals a folder."""
SEAL_VERSION = "1.0"
MOST_BYTES = 64 * 2**20
"""Of a document. A larger one is refused before it is read, and never written."""
_MOST_VALUES = 3_000_000
"""Of a document: each takes at most about 70 bytes once it is parsed."""
_PART = 2**24

T = TypeVar("T")

_SEAL = b'"checksum": "%s"\n}\n'
_OPEN = _SEAL % b"00000000"
_SEALED = re.compile(rb'"checksum": "([0-9a-f]{8})"\n\}\n\Z')
_CHECKSUM = re.compile(r"[0-9a-f]{8}")


class DamageError(VlaError):
    """What is wrong with a document; the reader adds where it lies and how to mend it."""


def parse_json(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``; anything else, or what would take absurd amounts of memory, is a `DamageError`."""
    if len(data) > MOST_BYTES or data.count(b",") + data.count(b"[") + data.count(b"{") > _MOST_VALUES:
        raise DamageError(f"a document of {len(data)} bytes is larger than any that is written")
    try:
        value = json.loads(data.decode(), parse_constant=_no_constant)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except RecursionError:
        raise DamageError("it is nested too deeply") from None
    except ValueError as error:
        raise DamageError(" ".join(str(error).split())[:200]) from None
    if not isinstance(value, dict):
        raise DamageError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def whole(value: object, what: str, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number of a document, by default one that an int64 holds."""
    if type(value) is not int or value < least:
        raise DamageError(f"{what}: expected a whole number of at least {least}, got {brief(value)}")
    if value > most:
        raise DamageError(f"{what}: expected at most {most}, got {brief(value)}")
    return value


def number(value: object, what: str, *, least: float, most: float) -> int | float:
    """A finite number of a document."""
    if type(value) not in (int, float) or not least <= value <= most:  # type: ignore[operator]  # NaN is neither
        raise DamageError(f"{what}: expected a number from {least:g} to {most:g}, got {brief(value)}")
    assert isinstance(value, int | float)
    return value


def text(value: object, what: str) -> str:
    """A text of a document."""
    if not isinstance(value, str):
        raise DamageError(f"{what}: expected a string, got {brief(value)}")
    return value


def listed(value: object, what: str, of: Callable[[object, str], T], *, most: int | None = None) -> tuple[T, ...]:
    """A list of a document, of things that ``of`` reads."""
    if not isinstance(value, list | tuple) or (most is not None and len(value) > most):
        raise DamageError(f"{what}: expected a list{f' of at most {most}' if most else ''}, got {brief(value)}")
    return tuple(of(item, what) for item in value)


def table(value: object, what: str) -> dict[str, Any]:
    """A table of a document."""
    if not isinstance(value, dict):
        raise DamageError(f"{what}: expected a mapping, got {brief(value)}")
    return value


def brief(value: object) -> str:
    """What an error says of a value that may be of any size."""
    return _BRIEF.repr(value)


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 60


def encode(value: Mapping[str, Any], version: str) -> bytes:
    """Indented JSON whose last entry is the crc32c of its bytes, taken with zeros in the place of the checksum."""
    value = {"format_version": version, **value, "checksum": "00000000"}
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    data = text.encode()
    assert data.endswith(_OPEN), data[-40:]
    if len(data) > MOST_BYTES:
        raise VlaError(f"a document of {len(data)} bytes: expected at most {MOST_BYTES}; make several of it")
    return data[: -len(_OPEN)] + _SEAL % (b"%08x" % google_crc32c.value(data))


def decode(data: bytes, check_version: Callable[[object], None]) -> dict[str, Any]:
    """What `encode` was given; one flipped bit is a `DamageError`. Versions are checked before a checksum is missed."""
    value = parse_json(data)
    seal = _SEALED.search(data)
    if seal and b"%08x" % google_crc32c.value(data[: seal.start()] + _OPEN) != seal[1]:
        raise DamageError("it fails its checksum")
    check_version(value.pop("format_version", None))
    if seal is None:
        raise DamageError("it does not end with a checksum")
    del value["checksum"]
    return value


def digest(data: bytes) -> str:
    """32 hexadecimal digits by which one document names another."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Entry(NamedTuple):
    """What a seal says of one file."""

    bytes: int
    crc32c: str
    """Eight hexadecimal digits."""


def parse_files(value: object) -> dict[str, Entry]:
    """The table of a seal, by the path of each file below the folder; anything odd is a `DamageError`."""
    if not isinstance(value, dict):
        raise DamageError(f"files: expected a mapping, got {brief(value)}")
    files = {}
    for path, entry in value.items():
        try:
            plain_path(path)
        except NotPlainError as error:
            raise DamageError(f"files: {error}") from None
        entry = table(entry, f"files: {path}")
        size, checksum = whole(entry.get("bytes"), f"files: {path}: bytes", most=2**62), entry.get("crc32c")
        if not (isinstance(checksum, str) and _CHECKSUM.fullmatch(checksum)):
            raise DamageError(f"files: {path}: crc32c: expected 8 hexadecimal digits")
        files[path] = Entry(size, checksum)
    return files


def files_table(files: Mapping[str, Entry]) -> dict[str, dict[str, Any]]:
    """As `parse_files` reads it."""
    return {path: entry._asdict() for path, entry in files.items()}


def flush(folder: Path, *, without: Collection[str] = ()) -> dict[str, Entry]:
    """Flush every file and folder below ``folder`` to disk; the entries of its files, but those ``without``.

    A link or a device is a `NotPlainError`: what is sealed is all there.
    """
    for unfinished in folder.glob(f".{COMMIT}*"):  # a seal that was cut short
        unfinished.unlink()
    files, folders = {}, [folder]
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            folders.append(path)
        elif (name := path.relative_to(folder).as_posix()) not in without:
            files[name] = measure(folder, name, sync=True)
    for place in reversed(folders):
        sync_folder(place)
    return files


def measure(folder: Path, name: str, *, sync: bool = False) -> Entry:
    """The entry of a file; ``sync`` flushes it to disk."""
    handle = open_below(folder, name)
    try:
        entry = _measure(handle)
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)
    return entry


def begins_with(folder: Path, name: str, entry: Entry) -> bool:
    """Whether a file that only grows is still what it was when this was its entry."""
    handle = open_below(folder, name)
    try:
        checksum = 0
        for start in range(0, entry.bytes, _PART):
            checksum = google_crc32c.extend(checksum, os.pread(handle, min(_PART, entry.bytes - start), start))
        return os.fstat(handle).st_size >= entry.bytes and f"{checksum:08x}" == entry.crc32c
    finally:
        os.close(handle)


def _measure(handle: int) -> Entry:
    size = checksum = 0
    while data := os.pread(handle, _PART, size):
        size, checksum = size + len(data), google_crc32c.extend(checksum, data)
    return Entry(size, f"{checksum:08x}")


def seal_folder(folder: Path, about: Mapping[str, Any] | None = None) -> "SealedFolder":
    """Flush all that lies in ``folder`` and write its seal, last and atomically; ``about`` is kept in it."""
    (folder / COMMIT).unlink(missing_ok=True)
    files = flush(folder)
    data = encode({"about": dict(about or {}), "files": files_table(files)}, SEAL_VERSION)
    write_atomic(folder / COMMIT, data)
    return SealedFolder(path=folder, files=files, about=dict(about or {}), digest=digest(data))


@dataclass(frozen=True, kw_only=True)
class SealedFolder:
    """A folder as its seal describes it; files are read through it, so that what is used is what was sealed."""

    path: Path
    files: Mapping[str, Entry]
    about: Mapping[str, Any]
    digest: str
    """Of the seal, and so of all in the folder: by it another document names this folder."""

    @staticmethod
    def open(path: Path, *, error: type[VlaError], fix: str) -> "SealedFolder":
        """Read the seal alone; a missing one is a `FileNotFoundError`, anything wrong an ``error`` with the ``fix``."""

        def check_version(version: object) -> None:
            if version != SEAL_VERSION:
                raise DamageError(f"seal version {version!r}, this software reads {SEAL_VERSION}")

        try:
            data = read_below(path, COMMIT, MOST_BYTES)
            value = decode(data, check_version)
            about = value.get("about")
            if not isinstance(about, dict):
                raise DamageError("about: expected a table")
            return SealedFolder(path=path, files=parse_files(value.get("files")), about=about, digest=digest(data))
        except (DamageError, NotPlainError) as what:
            raise error(f"{path / COMMIT} is damaged: {what}; {fix}") from None

    def read(self, name: str, *, error: type[VlaError], fix: str) -> bytes:
        """A whole file, if it is the one that was sealed."""
        entry = self.files.get(name)
        if entry is None:
            raise error(f"{self.path / name} is not in the seal of its folder; {fix}")
        try:
            data = read_below(self.path, name, entry.bytes)
        except FileNotFoundError:
            raise error(f"{self.path / name} is missing; {fix}") from None
        except NotPlainError as what:
            raise error(f"{what}; {fix}") from None
        if Entry(len(data), f"{google_crc32c.value(data):08x}") != entry:
            raise error(f"{self.path / name} fails its checksum: it is damaged, or of another folder; {fix}")
        return data

    def damage(self) -> Iterator[str]:
        """Each file that is not as it was sealed, with what is wrong, and each that the seal does not name."""
        for name, entry in self.files.items():
            try:
                handle = open_below(self.path, name)
            except FileNotFoundError:
                yield f"{name} is missing"
                continue
            except NotPlainError:
                yield f"{name} is a link, a folder or a device, not a file"
                continue
            try:
                size = os.fstat(handle).st_size
                whole = size == entry.bytes and _measure(handle) == entry
            finally:
                os.close(handle)
            if size != entry.bytes:
                yield f"{name} has {size} bytes, expected {entry.bytes}"
            elif not whole:
                yield f"{name} fails its checksum"
        there = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if not path.is_dir()}
        yield from (f"{name} is not in the seal" for name in sorted(there - set(self.files) - {COMMIT}))

    def check(self, *, error: type[VlaError], fix: str) -> None:
        """Raise ``error`` with the first file that is not as it was sealed."""
        for what in self.damage():
            raise error(f"{self.path}: {what}; {fix}")
