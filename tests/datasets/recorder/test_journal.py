"""What stands in a journal before the first damage is read as it was written; nothing after it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.datasets.recorder.journal import Journal, read_journal

ENTRIES: list[dict[str, Any]] = [
    {"text": "größer\n🧱 \u2028"},
    {"step": {"state": [0.1, -0.0, 1e-45]}, "time_ns": 2**62},
    {},
    {"frames": {"front": [3, 7]}},
]


def write(path: Path, entries: list[dict[str, Any]]) -> bytes:
    journal = Journal(path)
    for entry in entries:
        journal.append(entry)
    journal.sync()
    journal.close()
    return path.read_bytes()


def test_each_entry_is_in_the_file_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for count, entry in enumerate(ENTRIES):
        assert list(read_journal(tmp_path / "journal")) == ENTRIES[:count]
        journal.append(entry)
    assert list(read_journal(tmp_path / "journal")) == ENTRIES
    journal.close()


def test_a_journal_goes_on_where_it_ended(tmp_path: Path) -> None:
    write(tmp_path / "journal", ENTRIES[:2])
    write(tmp_path / "journal", ENTRIES[2:])
    assert list(read_journal(tmp_path / "journal")) == ENTRIES


def test_every_truncation_gives_the_whole_entries_before_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = write(path, ENTRIES)
    lines = [0]
    for line in data.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in lines[1:])
        assert list(read_journal(path)) == ENTRIES[:whole]


def test_every_flipped_bit_ends_the_journal_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = write(path, ENTRIES)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert list(read_journal(path)) == ENTRIES[: data[: bit // 8].count(b"\n")]


def test_what_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(ENTRIES[0])
    with pytest.raises(ValueError, match="JSON"):
        journal.append({"a": float("nan")})
    journal.append(ENTRIES[1])
    journal.close()
    assert list(read_journal(tmp_path / "journal")) == ENTRIES[:2]


@given(
    values=st.lists(st.dictionaries(st.text(max_size=3), st.text() | st.floats(allow_nan=False, allow_infinity=False)))
)
def test_any_entries_round_trip(tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.getbasetemp() / "journal"
    path.unlink(missing_ok=True)
    write(path, values)
    assert list(read_journal(path)) == values
