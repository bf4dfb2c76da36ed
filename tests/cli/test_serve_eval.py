"""A policy behind a server succeeds and fails exactly where it does without one."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_EPISODES = ("--episodes", "3", "--workers", "1", "--seed", "900", "--set", "image_size=32", "max_steps=12")


@pytest.fixture
def server(trained: Path, tmp_path: Path) -> Iterator[str]:
    """The address of ``vla serve`` in a process of its own; Ctrl-C must end it cleanly."""
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "vla.cli.main", "serve", str(trained), "--port", "0", "--json", str(ready)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 100
        while not ready.exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the server was never ready"
            time.sleep(0.05)
        yield json.loads(ready.read_text())["address"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130), err
    assert "serving" in out
    assert not err


def _episodes(result: Path) -> list[dict[str, Any]]:
    (row,) = json.loads(result.read_text())["rows"]
    episodes: list[dict[str, Any]] = row["episodes"]
    return episodes


def test_remote_equals_local(call: Callable, server: str, trained: Path, tmp_path: Path) -> None:
    assert call("eval", trained, *_EPISODES, "--json", tmp_path / "local.json").code == 0
    assert call("eval", "--server", server, *_EPISODES, "--json", tmp_path / "remote.json").code == 0
    local, remote = _episodes(tmp_path / "local.json"), _episodes(tmp_path / "remote.json")
    assert [episode["seed"] for episode in remote] == [900, 901, 902]
    for ours, theirs in zip(local, remote, strict=True):
        assert theirs["crash"] is theirs["failure"] is None
        for key in ("seed", "instruction", "goal", "success", "steps"):
            assert ours[key] == theirs[key], key
        # The server may batch other observations together than the local loop does: equal up to rounding.
        assert {"grasped", "distance_m", "grounding_error", "pointing_error"} == set(ours["metrics"])
        assert theirs["metrics"] == pytest.approx(ours["metrics"], abs=1e-3)


def test_a_server_for_another_robot_is_refused(call: Callable, server: str) -> None:
    answer = call("eval", "--server", server, "--episodes", "1", "--workers", "1", "--set", "image_size=16")
    assert answer.code == 2
    assert "cameras.front: 32x32 ≠ 16x16" in answer.err
