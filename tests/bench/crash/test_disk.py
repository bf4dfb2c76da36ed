"""The disk keeps what was flushed and loses the rest, read from a trace of real system calls."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vla.bench.crash.disk import CALLS, CUTS, Disk, read_trace

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

PROGRAM = """
import os, sys
root = sys.argv[1]
folder = os.open(root, os.O_RDONLY)
for name, flush, keep in (("räume", True, True), ("lost bytes", False, True), ("lost name", True, False)):
    handle = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder)
    os.write(handle, b"hello \\0 ")
    os.write(handle, name.encode())
    if flush:
        os.fsync(handle)
    os.close(handle)
    if keep:
        os.fsync(folder)
with open(root + "/old", "ab") as file:
    file.write(b" and new")
os.rename(root + "/moved", root + "/elsewhere")
os.mkdir(root + "/fresh")
os.unlink(root + "/gone")
"""


def left(root: Path, cut: str, tmp_path: Path, disk: Disk) -> dict[str, bytes]:
    target = tmp_path / cut
    CUTS[cut](disk.folder, target)
    return {path.name: path.read_bytes() for path in target.rglob("*") if path.is_file()}


def test_what_a_power_cut_leaves(tmp_path: Path) -> None:
    root = tmp_path / "a disk"
    root.mkdir()
    for name in ("old", "moved", "gone"):
        (root / name).write_bytes(name.encode())
    disk = Disk(root)
    trace = tmp_path / "trace"
    options = ["-f", "-y", "-xx", "-s", "100000", "-e", f"trace={CALLS}", "-o", str(trace)]
    traced = subprocess.run(["strace", *options, sys.executable, "-c", PROGRAM, str(root)], check=False)
    if traced.returncode:
        pytest.skip("strace is not allowed here")
    for event in read_trace(trace):
        disk.apply(event)
    whole, before = "hello \0 räume".encode(), {name: name.encode() for name in ("old", "moved", "gone")}
    assert left(root, "strict", tmp_path, disk) == {**before, "räume": whole, "lost bytes": b""}
    names = left(root, "names survive", tmp_path, disk)
    assert names["lost name"] == b"hello \0 lost name"
    assert (names["lost bytes"], names["old"], names["elsewhere"]) == (b"", b"old", b"moved")
    assert not {"moved", "gone"} & names.keys()
    early = left(root, "bytes survive", tmp_path, disk)
    assert early == {**before, "old": b"old and new", "räume": whole, "lost bytes": b"hello \0 lost bytes"}
    assert {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()} == {
        **names,
        "lost bytes": b"hello \0 lost bytes",
        "old": b"old and new",
    }
