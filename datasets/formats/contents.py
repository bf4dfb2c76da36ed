"""What really lies at a path, whatever its name says: for messages about files that are not what they are called."""

from pathlib import Path

_LOOKED_AT = 512
"""Bytes at the start of a file that tell what it is."""
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, which stands for the file itself: fetch it with git lfs pull"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive: if it was packed to be sent, unpack it and name what was in it"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"BZh", "a bzip2 archive: unpack it"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"PAR1", "a Parquet file: name the folder of the dataset that it belongs to"),
    (b"\x89MCAP0\r\n", "an MCAP recording"),
    (b"#ROSBAG", "a bag of ROS 1: convert it to MCAP"),
    (b"SQLite format 3\x00", "an SQLite database: a rosbag2 of this kind is converted to MCAP with ros2 bag convert"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x04", "a Python pickle, which may run any program when it is opened"),
    (b"\x80\x05", "a Python pickle, which may run any program when it is opened"),
    (b"CDF", "a netCDF file of version 3"),
    (b"{", "a JSON document"),
)
_TAR_AT = 257


def contents(path: Path) -> str:
    """A few words for what is there, with what to do about it where that is plain; never raises for what it finds."""
    if path.is_dir():
        names = sorted(child.name + ("/" if child.is_dir() else "") for child in path.iterdir())
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"a folder with {', '.join(names[:8])}{more}" if names else "an empty folder"
    if not path.is_file():
        return "neither a file nor a folder"
    size = path.stat().st_size
    if not size:
        return "a file of 0 bytes: its copy or its writer stopped at once"
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if not any(start):
        return f"a file of {size} bytes that begins with zeros: a download or a disk that never filled it"
    if known := next((words for magic, words in _MAGIC if start.startswith(magic)), None):
        return known
    if start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page instead of the file: the download needed a login, or its address was that of a page"
    if start[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "a tar archive: unpack it"
    return f"a file of {size} bytes that begins with {start[:8]!r}"
