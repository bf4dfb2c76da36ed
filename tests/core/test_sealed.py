"""A sealed folder is read as it was sealed or refused, whatever becomes of its bytes, and whoever wrote its seal."""

import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest

from vla.core.errors import CheckpointError
from vla.core.files import NotPlainError
from vla.core.sealed import (
    COMMIT,
    MOST_BYTES,
    SEAL_VERSION,
    DamageError,
    SealedFolder,
    encode,
    parse_files,
    parse_json,
    seal_folder,
)

FIX = "copy the whole folder again"


def sealed(folder: Path) -> SealedFolder:
    (folder / "inner").mkdir(parents=True)
    (folder / "a.json").write_bytes(b'{"a": 1}')
    (folder / "inner" / "b").write_bytes(bytes(range(256)))
    return seal_folder(folder, {"step": 3})


def opened(folder: Path) -> SealedFolder:
    return SealedFolder.open(folder, error=CheckpointError, fix=FIX)


def read_all(folder: Path) -> dict[str, bytes]:
    found = opened(folder)
    found.check(error=CheckpointError, fix=FIX)
    return {name: found.read(name, error=CheckpointError, fix=FIX) for name in found.files}


def test_what_was_sealed_is_read(tmp_path: Path) -> None:
    made = sealed(tmp_path / "x")
    assert opened(tmp_path / "x") == made
    assert made.about == {"step": 3}
    assert read_all(tmp_path / "x") == {"a.json": b'{"a": 1}', "inner/b": bytes(range(256))}


def test_a_folder_is_sealed_again(tmp_path: Path) -> None:
    first = sealed(tmp_path / "x")
    (tmp_path / "x" / "a.json").write_bytes(b"other")
    second = seal_folder(tmp_path / "x", {"step": 3})
    assert second.digest != first.digest
    assert read_all(tmp_path / "x")["a.json"] == b"other"


def test_every_flipped_bit_and_every_cut_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    sealed(folder)
    for path in (folder / "a.json", folder / "inner" / "b", folder / COMMIT):
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=FIX):
                read_all(folder)
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=FIX):
                read_all(folder)
        path.write_bytes(whole)
    read_all(folder)


def _swap(folder: Path) -> None:
    (folder / "a.json").rename(folder / "c")
    (folder / "inner" / "b").rename(folder / "a.json")
    (folder / "c").rename(folder / "inner" / "b")


def _link(folder: Path) -> None:
    (folder / "a.json").rename(folder.parent / "a.json")
    (folder / "a.json").symlink_to(folder.parent / "a.json")


def _linked_folder(folder: Path) -> None:
    (folder / "inner").rename(folder.parent / "inner")
    (folder / "inner").symlink_to(folder.parent / "inner")


def _folder(folder: Path) -> None:
    (folder / "a.json").unlink()
    (folder / "a.json").mkdir()


def _pipe(folder: Path) -> None:
    (folder / "a.json").unlink()
    os.mkfifo(folder / "a.json")


def _delete(folder: Path) -> None:
    (folder / "a.json").unlink()


def _add(folder: Path) -> None:
    (folder / "more").write_bytes(b"")


def _grow(folder: Path) -> None:
    os.truncate(folder / "a.json", 2**40)  # sparse: it must not be read


@pytest.mark.parametrize("spoil", [_swap, _link, _linked_folder, _folder, _pipe, _delete, _add, _grow])
def test_what_is_not_as_sealed_is_said(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    sealed(tmp_path / "x")
    spoil(tmp_path / "x")
    began = time.perf_counter()
    found = opened(tmp_path / "x")
    with pytest.raises(CheckpointError, match=FIX):
        found.check(error=CheckpointError, fix=FIX)
    if spoil is not _add:
        with pytest.raises(CheckpointError, match=FIX):
            [found.read(name, error=CheckpointError, fix=FIX) for name in found.files]
    assert time.perf_counter() - began < 1


def test_a_seal_is_only_of_files(tmp_path: Path) -> None:
    sealed(tmp_path / "x")
    _link(tmp_path / "x")
    with pytest.raises(NotPlainError, match="link"):
        seal_folder(tmp_path / "x")


def test_no_seal_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        opened(tmp_path)


NAMES = ["../a", "/etc/passwd", "a/../../b", "..", ".", "", "a//b", "a/", "a\\b", "a\0b", "a\nb", "x" * 300, "a/./b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_seal_names_nothing_outside(tmp_path: Path, name: str) -> None:
    files = {name: {"bytes": 0, "crc32c": "00000000"}}
    with pytest.raises(DamageError, match="plain name"):
        parse_files(files)
    (tmp_path / COMMIT).write_bytes(encode({"about": {}, "files": files}, SEAL_VERSION))
    with pytest.raises(CheckpointError, match="plain name"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        None,
        [],
        {"a": None},
        {"a": {}},
        {"a": {"bytes": True, "crc32c": "00000000"}},
        {"a": {"bytes": -1, "crc32c": "00000000"}},
        {"a": {"bytes": 1e300, "crc32c": "00000000"}},
        {"a": {"bytes": 10**30, "crc32c": "00000000"}},
        {"a": {"bytes": 1, "crc32c": 7}},
        {"a": {"bytes": 1, "crc32c": "0"}},
    ],
)
def test_odd_tables_are_damage(files: object) -> None:
    with pytest.raises(DamageError):
        parse_files(files)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[" * 10**6, "nested|larger"),
        (b'{"a": ' * 10**5 + b"1" + b"}" * 10**5, "nested"),
        (b'{"a": [' + b"[]," * 4_000_000 + b"0]}", "larger"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": "\\ud800"}', "surrogates"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "limit"),
        (b"[]", "object"),
        (b"", "Expecting"),
    ],
)
def test_hostile_json_is_refused_cheaply(data: bytes, said: str) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(DamageError, match=said) as refused:
        parse_json(data)
    assert time.perf_counter() - began < 1
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert "\n" not in str(refused.value)


def test_a_huge_document_is_not_read(tmp_path: Path) -> None:
    (tmp_path / COMMIT).write_bytes(b"")
    os.truncate(tmp_path / COMMIT, MOST_BYTES + 1)
    with pytest.raises(CheckpointError, match="expected at most"):
        opened(tmp_path)


def test_the_checksum_is_of_the_bytes_before_it() -> None:
    data = encode({"a": 1}, "1.0")
    zeros = data[:-12] + b'00000000"\n}\n'
    assert json.loads(data)["checksum"] == f"{google_crc32c.value(zeros):08x}"
