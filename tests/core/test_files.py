"""A reader sees the old content or the new, whatever happens between."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from vla.core import files
from vla.core.errors import VlaError
from vla.core.files import NotPlainError, locked, open_below, plain_name, plain_path, write_atomic, write_json


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for content in (b"one", b"two", b""):
        write_atomic(path, content)
        assert path.read_bytes() == content
    assert _names(path.parent) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_crash_between_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def crash(*args: Any, **options: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, function, crash)
    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_data_is_on_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, real=real, name=name, **options: (calls.append(name), real(*args, **options))[1]
        )
    write_atomic(tmp_path / "file", b"data")
    assert calls == ["fsync", "replace", "fsync"]


def test_json_refuses_what_other_readers_do_not_know(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"name": "é"})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": float("nan")})
    assert path.read_text() == '{\n "name": "é"\n}\n'


@pytest.fixture(params=["openat2", "walk"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the kernel does not have the call."""
    if request.param == "walk":
        monkeypatch.setattr(files, "_OPENAT2", 9999)


@pytest.mark.usefixtures("opener")
def test_files_below_a_folder_are_opened_without_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "canary").write_text("secret")
    (root / "in" / "file").write_text("hello")
    (tmp_path / "alias").symlink_to(root)
    handle = open_below(tmp_path / "alias", "in/file")  # the way to the folder itself is the user's
    assert os.read(handle, 10) == b"hello"
    os.close(handle)
    (root / "link").symlink_to(tmp_path / "canary")
    (root / "way").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(root / "socket"))
    for name in ("link", "way/canary", "way", "loop", "pipe", "socket", "in", "in/file/.."):
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_TRUNC):
            with pytest.raises(NotPlainError):
                open_below(root, name, flags)
    for name in ("../canary", "in/../../canary", str(tmp_path / "canary")):
        with pytest.raises(NotPlainError, match="plain names below"):
            open_below(root, name, os.O_RDWR)
    for name in ("none", "in/none", "none/file", "in/file/more"):
        with pytest.raises(FileNotFoundError):
            open_below(root, name)
    assert (tmp_path / "canary").read_text() == "secret"


@pytest.mark.usefixtures("opener")
def test_new_files_are_new(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "canary").write_text("secret")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "canary")
    (tmp_path / "root" / "dangling").symlink_to(tmp_path / "new")
    (tmp_path / "root" / "way").symlink_to(tmp_path)
    (tmp_path / "root" / "old").write_text("old")
    os.close(open_below(tmp_path / "root", "fresh", os.O_WRONLY | os.O_CREAT))
    assert (tmp_path / "root" / "fresh").stat().st_mode & 0o777 == 0o644
    for name in ("link", "dangling", "way/new", "old"):
        with pytest.raises((NotPlainError, FileExistsError)):
            open_below(tmp_path / "root", name, os.O_WRONLY | os.O_CREAT)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "canary").read_text() == "secret"


@pytest.mark.parametrize("name", ["a", "räume", "a b", ".hidden", "a..b", "...", "x" * 255])
def test_plain_names_are_plain(name: str) -> None:
    assert plain_name(name) == name
    assert plain_path(f"{name}/{name}") == f"{name}/{name}"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\\b", "a\0", "a\n", "\u202e", "x" * 256, 7, None, ["a"]])
def test_other_names_are_not(name: object) -> None:
    with pytest.raises(NotPlainError):
        plain_name(name)


def test_what_is_locked_is_refused_to_another_until_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with locked(path), pytest.raises(VlaError, match=r"new/lock is being written by another process"), locked(path):
        pass
    with locked(path):
        pass
