"""What a file really is, by its first bytes: so that an error names the true cause, and not always damage.

Around the library that reads a file stands `reading`: what is ours passes as it is, what is the library's becomes one
line with the cause, as far as the file itself shows it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vla.core.errors import DatasetError, VlaError

_LFS = b"version https://git-lfs.github.com/spec/"
_MARKUP = re.compile(rb"\s*(<!doctype html|<html|<\?xml|<error|<head|<body)", re.IGNORECASE)
_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PAR1", "a parquet file"),
    (4, b"ftyp", "an mp4 video"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (8, b"AVI ", "an AVI video"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x89MCAP0\r\n", "an MCAP file"),
    (0, b"#ROSBAG V2.0", "a bag of ROS 1"),
    (0, b"SQLite format 3\0", "an SQLite database, as a .db3 bag of ROS 2"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"PK\x03\x04", "a zip archive: unpack it"),
    (0, b"\x1f\x8b", "compressed with gzip: unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it"),
    (0, b"\xfd7zXZ\0", "compressed with xz: unpack it"),
    (0, b"BZh", "compressed with bzip2: unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (257, b"ustar", "a tar archive: unpack it"),
    (0, b"ARROW1", "an Arrow IPC file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x80\x04\x95", "a Python pickle"),
    (0, b"%PDF", "a PDF document"),
)
_HEAD = 4096


def cause_of(path: Path, expected: str) -> str | None:
    """What is wrong with a file that should be ``expected`` ("a parquet file", "a video", "JSON text"), with the fix.

    None if it looks right, as far as anybody can tell.
    Never raises: it is asked when reading has failed already, or to be sure before a library reads.
    """
    try:
        if path.is_symlink() and not path.exists():
            return f"it is a link to {path.readlink()}, which does not exist: copy the files that links point to"
        if path.is_dir():
            return f"expected {expected}, got a folder"
        if not path.exists():
            return "it is missing: download or copy the whole dataset"
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        return f"it cannot be read ({error.strerror}): check its permissions and its disk"
    if not size:
        return "it is empty (0 bytes): the download or the recording broke off, fetch it again"
    if head.startswith(_LFS):
        return "it is a Git LFS pointer, not the file itself: run git lfs pull in the dataset's folder"
    if match := _MARKUP.match(head):
        text = " ".join(re.sub(rb"<[^>]*>", b" ", head).decode(errors="replace").split())[:60]
        kind = (
            "an HTML page" if b"xml" not in match[1].lower() and b"error" not in match[1].lower() else "an XML answer"
        )
        return f"it is {kind} ({text!r}), not {expected}: the server answered with an error; log in and fetch it again"
    if not head.strip(b"\0"):
        return f"it begins with {len(head)} zero bytes: the copy or the disk lost its content, fetch it again"
    found = kind_of(head)
    if found is not None and found != expected and not (expected == "a video" and found.endswith(" video")):
        return f"expected {expected}, got {found}"
    if found is None and not expected.endswith("text") and _is_text(head):
        return f"expected {expected}, got text that begins with {head[:40].decode(errors='replace')!r}"
    return None


def kind_of(head: bytes) -> str | None:
    """The format of a file that begins so ("a zip archive: unpack it"), if it is one of those that people mix up."""
    return next((kind for place, mark, kind in _KINDS if head[place : place + len(mark)] == mark), None)


@contextmanager
def reading(path: Path, expected: str, *foreign: type[Exception]) -> Iterator[None]:
    """Around what reads a file: our own errors pass, and the ``foreign`` ones become a `DatasetError` with the cause.

    Nothing is said of damage where the file shows another cause; where it shows none, the library's own words are all
    that is known.
    """
    try:
        yield
    except VlaError:
        raise
    except (OSError, *foreign) as error:  # type: ignore[misc]
        reason = " ".join(str(error).split()) or type(error).__name__
        cause = cause_of(path, expected) or (
            f"not a readable {expected.partition(' ')[2]} ({reason}); it was not finished, is cut short or damaged: "
            "fetch it again, or leave it out"
        )
        raise DatasetError(f"{path}: {cause}") from None


def _is_text(head: bytes) -> bool:
    """Whether the first bytes are printable: no format of recordings begins so."""
    start = head[:256]
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:
            return False
        text = start[: error.start].decode()
    return all(letter.isprintable() or letter in "\r\n\t" for letter in text)
