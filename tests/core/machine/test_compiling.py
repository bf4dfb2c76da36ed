"""Compiled functions compute what is written, where they can be kept and where they cannot."""

from pathlib import Path
from typing import Any

import pytest

from vla.core.machine.compiling import compiled

SOURCE = """
@compiled()
def total(count):
    found = 0
    for i in range(count):
        found += i
    return found
"""


@pytest.mark.parametrize("kept", [True, False])
def test_it_runs_with_and_without_a_place_for_it(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "total.py"
    file.write_text(SOURCE)
    names: dict[str, Any] = {"compiled": compiled, "__name__": "total"}
    exec(compile(SOURCE, str(file) if kept else "<of no file>", "exec"), names)
    assert names["total"](5) == 10
    assert bool(names["total"].stats.cache_path) == kept
    assert len(names["total"].signatures) == 1
