"""An error names what a file really is."""

import gzip
import re
import zipfile
from pathlib import Path

import pytest

from vla.core.errors import DatasetError
from vla.core.media.signatures import cause_of, reading

PARQUET = b"PAR1" + bytes(range(256)) + b"PAR1"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (PARQUET, None),
        (b"", "empty .0 bytes"),
        (LFS, "Git LFS pointer, not the file itself: run git lfs pull"),
        (b"\n<!DOCTYPE html><html><title>401 Log in</title></html>", "HTML page .'401 Log in'"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML answer .'AccessDenied'"),
        (b"PK\x03\x04" + PARQUET, "got a zip archive: unpack it"),
        (gzip.compress(PARQUET), "compressed with gzip"),
        (b"\0\0\0\x20ftypisom", "expected a parquet file, got an mp4 video"),
        (bytes(5000), "zero bytes"),
        (b'{"error": "Repository not found"}', "text that begins with"),
        ("größe: zu groß\n".encode(), "text that begins with 'größe"),
        (b"\x01\x02\xfe\xff" * 9, None),  # nobody knows
    ],
)
def test_by_its_first_bytes(tmp_path: Path, content: bytes, cause: str | None) -> None:
    path = tmp_path / "file.parquet"
    path.write_bytes(content)
    found = cause_of(path, "a parquet file")
    if cause is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(cause, found), found


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("blobs/4d7a")
    assert "a link to blobs/4d7a, which does not exist" in str(cause_of(tmp_path / "link", "a parquet file"))
    assert cause_of(tmp_path, "a parquet file") == "expected a parquet file, got a folder"
    assert str(cause_of(tmp_path / "none", "a parquet file")).startswith("it is missing")


def test_reading_names_the_cause_and_lets_our_own_errors_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(LFS)
    with (
        pytest.raises(DatasetError, match=r"a\.zip: it is a Git LFS pointer"),
        reading(path, "a zip file", zipfile.BadZipFile),
    ):
        zipfile.ZipFile(path)
    path.write_bytes(b"\x01\x02\xfe\xff" * 9)
    with (
        pytest.raises(DatasetError, match=r"a\.zip: not a readable zip file \(File is not a zip file\); it was not"),
        reading(path, "a zip file", zipfile.BadZipFile),
    ):
        zipfile.ZipFile(path)
    with pytest.raises(DatasetError, match=r"^mine$"), reading(path, "a zip file", ValueError):
        raise DatasetError("mine")
    with pytest.raises(KeyError), reading(path, "a zip file"):
        raise KeyError("a mistake of ours")
