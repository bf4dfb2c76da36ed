"""Servos are emulated from the command line."""

import json
from collections.abc import Callable
from pathlib import Path


def test_servos_in_a_row_with_faults(call: Callable, tmp_path: Path) -> None:
    out, link = tmp_path / "counts.json", tmp_path / "ttyARM"
    answer = call(
        *("emulate", "dynamixel", "--servos", 2, "--link", link, "--seconds", 0.5, "--json", out),
        *("--fault", "silent:2@0.1s+0.1s", "--fault", "unplug@0.3s"),
    )
    assert answer.code == 0, answer.err
    assert f"dynamixel servos (1 servo1, 2 servo2) at {link}, 1000000 baud" in answer.out
    assert json.loads(out.read_text())["success"] is False
    assert not link.exists()


def test_a_tabletop_with_pictures_and_a_socket(call: Callable, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    answer = call(
        *("emulate", "feetech", "--env", "tabletop/place", "--set", "image_size=16", "--seconds", 0.5),
        *("--frames", frames, "--control", tmp_path / "control"),
    )
    assert answer.code == 0, answer.err
    assert "8 gripper" in answer.out
    assert sum(frames.read_bytes()) > 1000  # something was rendered


def test_wrong_words_are_one_line(call: Callable) -> None:
    assert "did you mean 'feetech'?" in call("emulate", "feetch").err
    assert "needs a value, as in drop=0.01" in call("emulate", "feetech", "--fault", "drop").err
