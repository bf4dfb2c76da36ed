"""A policy, an environment and a format from another package go by name, in Python and on the command line."""

import subprocess
import sys
from pathlib import Path

from vla import evaluate, open_dataset
from vla.envs.checker import check_env
from vla.envs.registry import env_spec
from vla.policies.checker import check_policy
from vla.policies.table import build_policy, find_policy


def test_an_environment_and_a_policy() -> None:
    env = env_spec("example/small-place").make({})
    check_env(env)
    check_policy(build_policy(find_policy("example-hold"), contract=env.contract))
    env.close()
    result = evaluate("example-hold", env="example/small-place", episodes=2)
    assert (result.success.successes, result.success.episodes) == (0, 2)


def test_a_format_on_the_command_line(tmp_path: Path, package: Path) -> None:
    table = tmp_path / "moves.csv"
    table.write_text("pan,tilt\n0.0,0.1\n0.2,0.3\n0.4,0.5\n")
    command = [sys.executable, "-m", "vla.cli.main", "data", "convert", str(table), str(tmp_path / "data")]
    run = subprocess.run([*command, "--from", "example-csv", "--engine", "inline"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    dataset = open_dataset(tmp_path / "data")
    assert [d.name for d in dataset.contract.action] == ["pan", "tilt"]
    assert len(dataset) == 3
