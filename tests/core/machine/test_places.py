"""Folders that do not serve are replaced, and those that do are left alone."""

import os
import tempfile
from pathlib import Path

import pytest

from vla.core.errors import VlaError
from vla.core.machine.places import (
    LONGEST,
    cache_folder,
    free_shared_memory,
    short_temporary_folder,
    use_writable_folders,
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    for name in ("TMPDIR", "RAY_TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "kept so that it is put back")
        monkeypatch.delenv(name)


def test_a_folder_that_serves_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        use_writable_folders()
        assert os.environ["TMPDIR"] == folder


@pytest.mark.parametrize(
    ("inside", "why"), [("x" * 80, "characters, too many"), ("missing", "is no folder"), ("/proc", "cannot be written")]
)
def test_one_that_does_not_is_replaced_and_named(monkeypatch: pytest.MonkeyPatch, inside: str, why: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        chosen = Path(folder) / inside
        if len(inside) == 80:
            chosen.mkdir()
        monkeypatch.setenv("TMPDIR", str(chosen))
        with pytest.warns(UserWarning, match=why):
            use_writable_folders()
    assert len(os.environ["TMPDIR"]) <= LONGEST
    assert short_temporary_folder() == Path(tempfile.gettempdir())


def test_a_cache_that_cannot_be_written_is_one_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc/none")
    use_writable_folders()
    found = Path(os.environ["XDG_CACHE_HOME"])
    assert found == cache_folder()
    assert found.name == f"vla-{os.getuid()}"
    assert found.stat().st_mode & 0o777 == 0o700


def test_somebody_elses_folder_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/proc/none")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)  # which the fixture of this test's own folder has filled
        (Path(folder) / f"vla-{os.getuid()}").symlink_to(tmp_path)
        with pytest.raises(VlaError, match="another user"):
            cache_folder()


def test_a_cache_that_serves_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    use_writable_folders()
    assert cache_folder() == Path(os.environ["XDG_CACHE_HOME"]) == tmp_path / "cache"


def test_shared_memory_is_counted() -> None:
    assert free_shared_memory() > 0 or not Path("/dev/shm").exists()
