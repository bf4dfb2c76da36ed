"""A file that cannot be opened says why, and what helps."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.running import running
from vla.core.errors import DatasetError
from vla.datasets.formats.robomimic.file import is_hdf5, open_hdf5
from vla.datasets.formats.robomimic.source import open_robomimic, recognise
from vla.datasets.formats.source import Hints
from vla.datasets.formats.table import open_source


def said_of(path: Path) -> str:
    with pytest.raises(DatasetError) as caught, open_hdf5(path):
        pass
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"", "0 bytes"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "HTML page"),
        (b"PK\x03\x04" + bytes(18), "zip"),
        (b"\0" * 600, "zero"),
        (b"\x1f\x8b\x08" + bytes(range(1, 60)), "gzip"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.hdf5"
    path.write_bytes(content)
    assert said in said_of(path)
    assert not recognise(path)
    with pytest.raises(DatasetError, match=said):
        open_source(path, Hints())
    with pytest.raises(DatasetError, match=said):
        open_source(path, Hints(), "robomimic")


def test_a_file_that_is_cut_short(recording: Callable[..., Path]) -> None:
    path = recording()
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert f"cut short: {len(whole) - 100} of {len(whole)} bytes" in said_of(path)
    assert recognise(path)


_WRITER = """
import h5py, os, sys
file = h5py.File(sys.argv[1], "w", libver="latest")
array = file.create_dataset("a", (3,), "f4", maxshape=(None,), chunks=(1,))
if sys.argv[2] == "swmr":
    file.swmr_mode = True
array[:] = 1
array.flush()
print("ready", flush=True)
if sys.argv[2] == "open":
    sys.stdin.read()
os._exit(0)
"""


def test_a_file_that_is_still_written(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    command = [sys.executable, "-c", _WRITER, str(path), "open"]
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        assert "open for writing" in said_of(path)
        assert writer.stdin is not None
        writer.stdin.close()


def test_a_file_whose_writer_died(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    subprocess.run([sys.executable, "-c", _WRITER, str(path), "swmr"], check=True, stdout=subprocess.DEVNULL)
    assert f"h5clear -s {path.name}" in said_of(path)


def test_a_block_before_the_signature_and_an_odd_name(recording: Callable[..., Path], tmp_path: Path) -> None:
    """MATLAB writes 512 bytes of its own first."""
    path = tmp_path / "x.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["data/demo_0/actions"], file["data/demo_0/obs/x"] = np.ones((3, 2)), np.ones((3, 2))
    assert is_hdf5(path)
    assert recognise(path)
    assert len(open_robomimic(path, Hints()).read(0)) == 3


def test_a_folder_of_pointers(tmp_path: Path) -> None:
    for name in ("a.hdf5", "b.hdf5"):
        (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DatasetError, match=r"a\.hdf5: .*git lfs pull"):
        open_source(tmp_path, Hints())
    (tmp_path / "c.mcap").write_bytes(b"")
    assert not recognise(tmp_path)


def test_one_of_several_files_is_damaged(recording: Callable[..., Path], tmp_path: Path) -> None:
    recording((3,), name="a.hdf5")
    (tmp_path / "b.hdf5").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert recognise(tmp_path)
    source = open_robomimic(tmp_path, Hints())
    assert len(source) == 2
    source.read(0)
    with pytest.raises(DatasetError, match=r"b\.hdf5: .*git lfs pull"):
        source.read(1)
