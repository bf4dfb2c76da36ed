"""A log that is cut anywhere keeps what was whole, and goes on from there."""

from pathlib import Path

import pytest

from vla.core.errors import VlaError
from vla.core.log import CheckedLog, read_log

_ENTRIES = [{"n": 0}, {"text": "Привет\nline"}, {"n": 2.5, "list": [1, None]}]


def _write(path: Path) -> bytes:
    log = CheckedLog(path)
    for entry in _ENTRIES:
        log.append(entry)
    log.close()
    return path.read_bytes()


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    _write(tmp_path / "log")
    assert read_log(tmp_path / "log") == _ENTRIES
    log = CheckedLog(tmp_path / "log")
    assert log.entries == _ENTRIES
    log.close()


def test_a_log_cut_at_any_byte_goes_on_after_the_last_whole_line(tmp_path: Path) -> None:
    whole = _write(tmp_path / "whole")
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path = tmp_path / "cut"
        path.write_bytes(whole[:size])
        log = CheckedLog(path)
        expected = _ENTRIES[: sum(end <= size for end in ends)]
        assert log.entries == expected
        log.append({"next": True})
        log.close()
        assert read_log(path) == [*expected, {"next": True}]


def test_a_changed_byte_ends_the_log(tmp_path: Path) -> None:
    whole = _write(tmp_path / "log")
    place = whole.index(b"2.5")
    (tmp_path / "log").write_bytes(whole[:place] + b"3" + whole[place + 1 :])
    assert read_log(tmp_path / "log") == _ENTRIES[:2]


def test_only_one_may_write(tmp_path: Path) -> None:
    log = CheckedLog(tmp_path / "log")
    with pytest.raises(VlaError, match="another process"):
        CheckedLog(tmp_path / "log")
    log.close()
    CheckedLog(tmp_path / "log").close()


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    log = CheckedLog(tmp_path / "log")
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.append({"x": float("nan")})
    log.close()
    assert (tmp_path / "log").read_bytes() == b""
