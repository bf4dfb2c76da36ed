"""A disk that loses its power: what a trace of system calls leaves on it.

Read from ``strace``: which bytes were written to which file, which names were made, moved and removed, and what was
flushed. POSIX promises no more than that a file's bytes survive once it was fsynced, and a name once its folder was;
journaling file systems keep names without it, and may keep a file's name without its bytes.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "openat,openat2,open,creat,write,pwrite64,writev,lseek,ftruncate,rename,renameat,renameat2,link,linkat,unlink,"
    "unlinkat,rmdir,mkdir,mkdirat,fsync,fdatasync,close"
)
"""What must be traced; ``-f -y -xx`` and strings that are long enough give the rest."""

_LINE = re.compile(r"(\d+)\s+(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+=\s+(-?\d+)(?:<([^>]*)>)?")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HANDLE = re.compile(r"^(?:AT_FDCWD|(\d+))<((?:\\x[0-9a-f]{2})*)>")
_DIR_NAME = re.compile(r'(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>, "((?:\\x[0-9a-f]{2})*)"')
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")


@dataclass(kw_only=True)
class File:
    """Its bytes now, and those that would survive."""

    data: bytearray = field(default_factory=bytearray)
    safe: bytes | None = None
    """None before it was first flushed: then nothing is promised, also not its length."""


@dataclass(kw_only=True)
class Folder:
    """Its names now, and those that would survive."""

    names: "dict[str, File | Folder]" = field(default_factory=dict)
    safe: "dict[str, File | Folder]" = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One system call that succeeded."""

    process: int
    call: str
    arguments: str
    result: int
    path: str
    """Of the handle that it returned, if it did."""

    @property
    def written(self) -> bytes:
        """The bytes that it was given."""
        return b"".join(_bytes(part) for part in _STRING.findall(self.arguments))[: self.result]

    @property
    def handle(self) -> tuple[int, str]:
        """The handle that it was given first, and the path behind it."""
        match = _HANDLE.match(self.arguments)
        return (int(match[1] or -1), _text(match[2])) if match else (-1, "")


def read_trace(path: Path) -> Iterator[Event]:
    """The calls of a trace in the order in which they ended; of failed ones nothing is left."""
    begun: dict[int, str] = {}
    with path.open() as file:
        for line in file:
            match = _LINE.match(line.rstrip("\n"))
            if not match:
                continue
            process, text = int(match[1]), match[2]
            if text.endswith("<unfinished ...>"):
                begun[process] = text.removesuffix("<unfinished ...>").rstrip()
                continue
            if resumed := _RESUMED.match(text):
                text = begun.pop(process, "") + resumed[1]
            if (call := _CALL.match(text)) and int(call[3]) >= 0:
                yield Event(
                    process=process, call=call[1], arguments=call[2], result=int(call[3]), path=_text(call[4] or "")
                )


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(text: str) -> str:
    return _bytes(text).decode(errors="surrogateescape")


class Disk:
    """The folder below ``root``, as system calls change it; what was there before is safe."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self.folder = _load(root)
        self._offsets: dict[int, int] = {}  # threads share handles, and what is traced starts no processes
        self._append: set[int] = set()

    def apply(self, event: Event) -> bool:
        """Whether the call changed anything here."""
        change = _CHANGES.get(event.call)
        return bool(change and change(self, event))

    def opened(self, event: Event) -> bool:
        """A file may have been made or emptied."""
        handle, flags = event.result, event.arguments
        self._offsets[handle] = 0
        (self._append.add if "O_APPEND" in flags else self._append.discard)(handle)
        place = self._place(event.path)
        if place is None or "O_DIRECTORY" in flags or not re.search("O_CREAT|O_TRUNC", flags):
            return False
        folder, name = place
        made = name not in folder.names
        file = folder.names.setdefault(name, File())
        if isinstance(file, File) and "O_TRUNC" in flags:
            file.data.clear()
        return made or "O_TRUNC" in flags

    def wrote(self, event: Event) -> bool:
        """Bytes at the handle's place, or at the one that is given."""
        number, path = event.handle
        file = self._find(path)
        if not isinstance(file, File):
            return False
        key = number
        data = event.written
        if event.call == "pwrite64":
            start = int(event.arguments.rsplit(",", 1)[1])
        else:
            start = len(file.data) if key in self._append else self._offsets.get(key, 0)
            self._offsets[key] = start + len(data)
        if start > len(file.data):
            file.data.extend(bytes(start - len(file.data)))
        file.data[start : start + len(data)] = data
        return True

    def sought(self, event: Event) -> bool:
        """The handle's place."""
        self._offsets[event.handle[0]] = event.result
        return False

    def truncated(self, event: Event) -> bool:
        """Cut, or made longer."""
        file, size = self._find(event.handle[1]), int(event.arguments.rsplit(",", 1)[1])
        if not isinstance(file, File):
            return False
        file.data[:] = file.data[:size] + bytes(max(0, size - len(file.data)))
        return True

    def flushed(self, event: Event) -> bool:
        """What is safe from here on."""
        found = self._find(event.handle[1])
        if isinstance(found, File):
            found.safe = bytes(found.data)
        elif found is not None:
            found.safe = dict(found.names)
        return found is not None

    def renamed(self, event: Event) -> bool:
        """From one name to another, or one more name."""
        old, new = (self._place(path) for path in self._paths(event))
        if old is None or new is None or old[1] not in old[0].names:
            return False
        new[0].names[new[1]] = old[0].names[old[1]]
        if event.call.startswith("rename"):
            del old[0].names[old[1]]
        return True

    def removed(self, event: Event) -> bool:
        """A name."""
        place = self._place(self._paths(event)[0])
        return bool(place and place[0].names.pop(place[1], None))

    def made(self, event: Event) -> bool:
        """A folder."""
        place = self._place(self._paths(event)[0])
        if place:
            place[0].names[place[1]] = Folder()
        return place is not None

    def _paths(self, event: Event) -> list[str]:
        if event.call.endswith(("at", "at2")):
            found = [(_text(folder), _text(name)) for folder, name in _DIR_NAME.findall(event.arguments)]
            return [name if name.startswith("/") else f"{folder}/{name}" for folder, name in found]
        return [_text(name) for name in _STRING.findall(event.arguments)]

    def _find(self, path: str) -> File | Folder | None:
        if path == self._root:
            return self.folder
        place = self._place(path)
        return place[0].names.get(place[1]) if place else None

    def _place(self, path: str) -> tuple[Folder, str] | None:
        if not path.startswith(self._root + "/"):
            return None
        *above, name = path.removeprefix(self._root + "/").split("/")
        folder: File | Folder | None = self.folder
        for part in above:
            folder = folder.names.get(part) if isinstance(folder, Folder) else None
        return (folder, name) if isinstance(folder, Folder) else None


_CHANGES: dict[str, Callable[[Disk, Event], bool]] = {
    **dict.fromkeys(("open", "openat", "openat2", "creat"), Disk.opened),
    **dict.fromkeys(("write", "pwrite64", "writev"), Disk.wrote),
    "lseek": Disk.sought,
    "ftruncate": Disk.truncated,
    **dict.fromkeys(("fsync", "fdatasync"), Disk.flushed),
    **dict.fromkeys(("rename", "renameat", "renameat2", "link", "linkat"), Disk.renamed),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), Disk.removed),
    **dict.fromkeys(("mkdir", "mkdirat"), Disk.made),
}


def _load(path: Path) -> Folder:
    names: dict[str, File | Folder] = {}
    for child in path.iterdir():
        names[child.name] = _load(child) if child.is_dir() else _whole(child.read_bytes())
    return Folder(names=names, safe=dict(names))


def _whole(data: bytes) -> File:
    return File(data=bytearray(data), safe=data)


def strict(folder: Folder, target: Path) -> None:
    """Only what POSIX promises: names of flushed folders, bytes of flushed files."""
    _write(folder, target, lambda place: place.safe, lambda file: file.safe or b"")


def names_survive(folder: Folder, target: Path) -> None:
    """What a journaling file system leaves: all names as they are, and of what was not flushed no bytes."""
    _write(folder, target, lambda place: place.names, lambda file: file.safe or b"")


def bytes_survive(folder: Folder, target: Path) -> None:
    """Bytes reached the disk early, and names that were not flushed did not."""
    _write(folder, target, lambda place: place.safe, lambda file: bytes(file.data))


CUTS = {"strict": strict, "names survive": names_survive, "bytes survive": bytes_survive}
"""What may be left, by name."""


def _write(
    folder: Folder,
    target: Path,
    names: Callable[[Folder], dict[str, File | Folder]],
    data: Callable[[File], bytes],
) -> None:
    target.mkdir()
    for name, item in names(folder).items():
        if isinstance(item, Folder):
            _write(item, target / name, names, data)
        else:
            (target / name).write_bytes(data(item))
