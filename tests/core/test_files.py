"""A reader sees the old content or the new, whatever happens between."""

import os
from pathlib import Path
from typing import Any

import pytest

from vla.core.errors import VlaError
from vla.core.files import locked, write_atomic, write_json


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

    def crash(*args: Any) -> None:
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
        monkeypatch.setattr(os, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])
    write_atomic(tmp_path / "file", b"data")
    assert calls == ["fsync", "replace", "fsync"]


def test_json_refuses_what_other_readers_do_not_know(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"name": "é"})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": float("nan")})
    assert path.read_text() == '{\n "name": "é"\n}\n'


def test_what_is_locked_is_refused_to_another_until_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with locked(path), pytest.raises(VlaError, match=r"new/lock is being written by another process"), locked(path):
        pass
    with locked(path):
        pass
