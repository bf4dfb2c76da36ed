"""A policy behind a server succeeds and fails exactly where it does without one."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.running import running
from vla.core.secret import VARIABLE

_EPISODES = ("--episodes", "3", "--workers", "1", "--seed", "900", "--set", "image_size=32", "max_steps=12")


@contextmanager
def _serving(checkpoint: Path, folder: Path, *arguments: str) -> Iterator[str]:
    """The address of ``vla serve`` in a process of its own; Ctrl-C must end it cleanly. Its output goes to a file."""
    ready, said = folder / "ready.json", folder / "served.txt"
    command = [sys.executable, "-m", "vla.cli.main", "serve", str(checkpoint), "--port", "0", "--json", str(ready)]
    command += arguments
    with (
        said.open("w") as out,
        running(command, stdout=out, stderr=subprocess.PIPE, text=True) as process,
    ):
        deadline = time.monotonic() + 100
        while not ready.exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the server was never ready"
            time.sleep(0.05)
        yield json.loads(ready.read_text())["address"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130), err
    assert "serving" in said.read_text()
    assert not err


@pytest.fixture
def server(trained: Path, tmp_path: Path) -> Iterator[str]:
    with _serving(trained, tmp_path) as address:
        yield address


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


def test_the_key_reaches_the_server_and_nothing_that_is_written(
    call: Callable, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of three places, too: the evaluation takes as many episodes at a time as it has."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)  # and what the command sets is undone
    key, file = "sesame-4711-open", tmp_path.with_name(f"{tmp_path.name}-key")
    file.write_text(f"{key}\n")
    many = ("--episodes", "4", "--workers", "2", "--batch", "10", "--set", "image_size=32", "max_steps=6")
    told = [call("serve", trained, "--api-key", key), call("eval", "--server", "ws://x", f"--api-key={key}")]
    assert all(answer.code == 2 and "never given on the command line" in answer.err for answer in told)
    with _serving(trained, tmp_path, "--api-key-file", str(file), "--limits.clients", "3") as address:
        told.append(call("eval", "--server", address, *many))
        assert told[-1].code == 2
        assert "401" in told[-1].err
        assert "VLA_API_KEY or with --api-key-file" in told[-1].err
        kept = ("--out", tmp_path / "results", "--json", tmp_path / "result.json")
        told.append(call("eval", "--server", address, "--api-key-file", file, *many, *kept))
        assert told[-1].code == 0, told[-1].err
        assert "3 places: 1 workers with 3 episodes at a time" in told[-1].out
        monkeypatch.setenv(VARIABLE, key)
        drive = (
            "--set",
            "env=tabletop/place",
            "settings={image_size: 32}",
            "--seconds",
            "0.3",
            "--json",
            tmp_path / "run.json",
        )
        told.append(call("run", "--policy", address, *drive))
        assert told[-1].code == 0, told[-1].err
        monkeypatch.setenv(VARIABLE, f"{key}-not")
        told.append(call("run", "--policy", address, *drive))
        assert told[-1].code == 2
        assert "401" in told[-1].err
        for command in (
            ("run", "--policy", f"{address}/?key={key}", *drive),
            ("eval", "--server", f"{address}/?key={key}", *many),
        ):
            told.append(call(*command))
            assert "an address holds no password" in told[-1].err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"served.txt", "result.json", "evaluation.json"} <= {path.name for path in written}
    assert not [path for path in written if key.encode() in path.read_bytes()]
    assert not any(key in answer.out + answer.err for answer in told)


def test_a_server_for_another_robot_is_refused(call: Callable, server: str) -> None:
    answer = call("eval", "--server", server, "--episodes", "1", "--workers", "1", "--set", "image_size=16")
    assert answer.code == 2
    assert "cameras.front: 32x32 ≠ 16x16" in answer.err


def test_whatever_acts_is_served_and_what_needs_an_environment_is_not(call: Callable) -> None:
    answer = call("serve", "random")
    assert answer.code == 2
    assert "policy random needs contract, and there is no environment here" in answer.err
