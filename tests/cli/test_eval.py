"""``vla eval`` and ``vla report``: stopped and resumed, compared, tested for language and robustness, and reported."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running import running
from vla.bench.envs.evaluation import write_random_checkpoint
from vla.evaluation.folder import EPISODES, RESULT, read_episodes
from vla.evaluation.trials import TIMES

_SHORT = ("--workers", "1", "--batch", "3", "--set", "image_size=32", "max_steps=12")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights."""
    return write_random_checkpoint(tmp_path_factory.mktemp("network") / "checkpoint", 0, {"image_size": 32})


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((path / RESULT).read_text())["rows"]
    return rows


def _timeless(path: Path) -> list[list[dict[str, Any]]]:
    """Every episode of a result without what differs from run to run."""
    return [[{k: v for k, v in e.items() if k not in TIMES} for e in row["episodes"]] for row in _rows(path)]


@pytest.mark.parametrize("policy", ["checkpoint", "random"])
def test_results_depend_on_nothing_but_the_seeds(call: Callable, network: Path, tmp_path: Path, policy: str) -> None:
    """Batches, order, and an interruption: not a bit of any episode changes."""
    name = network if policy == "checkpoint" else policy
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    command = ("eval", name, "--episodes", "7", *_SHORT)
    assert call(*command, "--out", whole).code == 0
    assert call(*command, "--out", resumed).code == 0
    lines = (resumed / EPISODES).read_bytes().splitlines(keepends=True)
    # As if it had been killed while it wrote its fifth episode; a session and an origin come before the first.
    (resumed / EPISODES).write_bytes(b"".join(lines[:6]) + lines[6][:40])
    (resumed / RESULT).unlink()
    answer = call(*command, "--out", resumed)
    assert answer.code == 0, answer.err
    assert "4 episodes are there already" in answer.out
    assert _timeless(resumed) == _timeless(whole)
    assert [trial.seed for trial, _ in read_episodes(resumed)].__len__() == 7


def test_finished_episodes_are_not_run_again(call: Callable, tmp_path: Path) -> None:
    command = ("eval", "random", "--episodes", "3", *_SHORT, "--out", tmp_path / "out")
    assert call(*command).code == 0
    first = (tmp_path / "out" / EPISODES).read_bytes()
    assert call(*command).code == 0
    second = (tmp_path / "out" / EPISODES).read_bytes()
    assert second.startswith(first)
    assert second.count(b'"episode"') == 3


def test_other_settings_are_refused_with_the_difference(call: Callable, tmp_path: Path) -> None:
    command = ("eval", "random", "--episodes", "2", "--out", tmp_path / "out", *_SHORT)
    assert call(*command).code == 0
    answer = call("eval", "random", "--episodes", "4", "--out", tmp_path / "out", *_SHORT[:-1], "max_steps=13")
    assert answer.code == 2
    assert "'max_steps': 12" in answer.err
    assert "'max_steps': 13" in answer.err
    assert "episodes: 2 there, 4 now" in answer.err


def test_ctrl_c_keeps_what_has_ended_and_the_same_command_goes_on(call: Callable, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["eval", "expert", "--episodes", "30", "--workers", "2", "--batch", "2", "--out", str(out)]
    with running(
        [sys.executable, "-m", "vla.cli.main", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 100
        while not (out / EPISODES).exists() or (out / EPISODES).read_bytes().count(b'"episode"') < 2:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    kept = len(read_episodes(out))
    assert 2 <= kept < 30
    answer = call("report", out)
    assert answer.code == 2
    assert "not finished" in answer.err


def test_tasks_and_splits_in_one_call(call: Callable, tmp_path: Path) -> None:
    answer = call(
        "eval", "random", "--env", "tabletop/place", "tabletop/lift", "--split", "seen", "distractors",
        "--episodes", "2", *_SHORT, "--out", tmp_path / "out",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    rows = _rows(tmp_path / "out")
    expected = [(env, split) for env in ("tabletop/place", "tabletop/lift") for split in ("seen", "distractors")]
    assert [(row["condition"]["env"], row["condition"]["split"]) for row in rows] == expected
    assert all(row["success"]["episodes"] == 2 for row in rows)
    result = json.loads((tmp_path / "out" / RESULT).read_text())
    assert set(result["origins"]) == {"tabletop/place", "tabletop/lift"}
    assert all(env["renderer"] and env["contract"] for env in result["origins"].values())
    assert {"git", "versions", "hardware", "seed", "command"} <= result["provenance"].keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("expert", "--env", "tabletop/plac"), "did you mean 'tabletop/place'"),
        (("expert", "--split", "sen"), "seen"),
        (("nowhere",), "does not exist"),
        ((), "which policy"),
        (("expert", "--sequential"), "--against"),
        (("random", "--robustness", "image_nois"), "did you mean 'image_noise'"),
        (("random", "--episodes", "0"), "episodes=0"),
    ],
)
def test_mistakes_are_explained(call: Callable, arguments: tuple[str, ...], message: str) -> None:
    answer = call("eval", *arguments, "--workers", "1")
    assert answer.code == 2
    assert message in answer.err


def test_a_checkpoint_for_other_cameras_is_refused(call: Callable, network: Path) -> None:
    answer = call("eval", network, "--episodes", "1", "--workers", "1", "--set", "image_size=16")
    assert answer.code == 2
    assert "cameras.front: 32x32 ≠ 16x16" in answer.err


def test_a_sequential_comparison_stops_early_and_is_reported(call: Callable, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = call(
        "eval", "expert", "--against", "random", "--sequential", "--episodes", "60",
        "--workers", "1", "--batch", "4", "--set", "image_size=32", "max_steps=40", "--out", out,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    value = json.loads((out / RESULT).read_text())
    assert value["sequential"]["better"] == "a"
    assert value["sequential"]["scenes"] < 12
    assert len(read_episodes(out)) < 40
    assert "expert is better than random" in answer.out
    page, table = tmp_path / "page.html", tmp_path / "table.md"
    answer = call("report", out, "--out", page, "--markdown", table)
    assert answer.code == 0, answer.err
    assert "expert is better than random" in page.read_text()
    assert "expert is better than random" in table.read_text()


def test_diff_names_the_seeds_that_flipped(call: Callable, tmp_path: Path) -> None:
    steps = ("--workers", "1", "--batch", "4", "--episodes", "4", "--set", "image_size=32", "max_steps=40")
    for name in ("expert", "random"):
        assert call("eval", name, *steps, "--out", tmp_path / name).code == 0
    answer = call("eval", "--diff", tmp_path / "expert", tmp_path / "random", "--json", tmp_path / "diff.json")
    assert answer.code == 0, answer.err
    (row,) = json.loads((tmp_path / "diff.json").read_text())["rows"]
    row = row["paired"]
    assert row["only_a"] == [500000, 500001, 500002, 500003]
    assert row["p_value"] == 2 / 16
    assert call("eval", "random", *steps[:-1], "max_steps=41", "--out", tmp_path / "other").code == 0
    answer = call("eval", "--diff", tmp_path / "expert", tmp_path / "other")
    assert answer.code == 2
    assert "not of the same scenes" in answer.err


def test_language_and_robustness_are_measured_and_reported(call: Callable, network: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("eval", network, "--episodes", "2", *_SHORT, "--language-test", "--robustness", "action_latency_steps")
    assert call(*command, "--out", out).code == 0
    value = json.loads((out / RESULT).read_text())
    assert [row["condition"]["language"] for row in value["language"]] == ["right", "paraphrase", "blank", "wrong"]
    (curve,) = value["robustness"]
    assert [level["level"] for level in curve["levels"]] == [0, 1, 2, 3, 4, 6, 8]
    page = tmp_path / "page.html"
    assert call("report", out, "--out", page).code == 0
    text = page.read_text()
    assert "Does it listen?" in text
    assert "What it withstands" in text
    assert "://" not in text.replace("http://www.w3.org", "")


def test_report_refuses_what_is_no_result(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    answer = call("report", tmp_path / "x.json")
    assert answer.code == 2
    assert "not a result of vla eval" in answer.err
    assert call("report", tmp_path / "nothing").code == 2
