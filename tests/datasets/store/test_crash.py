"""Ten kills: nothing that was committed is lost. ``vla bench crash`` is the same with as many as you like."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

_MARK = "VLA_CRASH_TEST"


def _marked(mark: str) -> list[int]:
    """Processes that inherited a mark."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"{_MARK}={mark}".encode() in Path("/proc", name, "environ").read_bytes():
                found.append(int(name))
        except OSError:
            continue  # it ended, or is somebody else's
    return found


@pytest.mark.parametrize("kills", [10, pytest.param(60, marks=pytest.mark.long)])
def test_nothing_that_was_committed_is_lost(tmp_path: Path, kills: int) -> None:
    result, mark = tmp_path / "crash.json", f"{os.getpid()}-{time.time_ns()}"
    command = [sys.executable, "-m", "vla.cli.main", "bench", "crash", "--kills", str(kills), "--seed", "1"]
    done = subprocess.run(
        [*command, "--json", str(result)],
        env={**os.environ, _MARK: mark, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = {row["name"]: row for row in json.loads(result.read_text())["rows"]}
    assert rows["kill -9"]["value"] == kills
    assert [name for name, row in rows.items() if row["bar"] is not None and row["value"] > row["bar"]] == [], (
        done.stdout
    )
    judged = [row for row in rows.values() if row["bar"] is not None]
    assert len(judged) == 9
    for name in ("committed episodes", "episodes compared after kills", "episodes that readers compared"):
        assert rows[name]["value"] >= kills // 2
    # Stages that were interrupted: which they are is chance, and a busy machine is in the same ones most of the time.
    assert len([name for name in rows if name.startswith("while ")]) >= min(4, kills // 5)
    until = time.monotonic() + 10
    while (left := _marked(mark)) and time.monotonic() < until:
        time.sleep(0.05)  # what starts processes for the test ends after it
    assert left == []
    assert list(tmp_path.glob("vla crash*")) == []
