"""Every example runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vla.datasets.dataset import Dataset
from vla.datasets.formats.table import format_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def _run(name: str, *arguments: str | Path) -> str:
    """What the script prints; its own folder is on its path, as always."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLES)])}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "train_on_your_data",
        "add_a_policy",
        "add_an_environment",
        "use_a_checkpoint",
        "record_from_your_robot",
        "search_a_catalogue",
    }


@pytest.mark.parametrize("format", ["robomimic", "lerobot"])
def test_train_on_your_data_and_use_the_checkpoint(format: str, dataset: Path, tmp_path: Path) -> None:
    export = format_of(format).export
    assert export is not None
    source = tmp_path / ("demo.hdf5" if format == "robomimic" else "lerobot")
    export(Dataset.open(dataset), source, lambda steps: None)
    out = _run("train_on_your_data", source, tmp_path / "run", "--steps", "2")
    assert "12 episodes" in out
    assert "2 steps" in out


def test_use_a_checkpoint(tmp_path: Path) -> None:
    from vla.bench.envs.evaluation import write_random_checkpoint

    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", 0, {"image_size": 32})
    assert "put the" in _run("use_a_checkpoint", checkpoint, "--steps", "6", "--image-size", "32")


def test_add_a_policy() -> None:
    assert "success 0 of 2" in _run("add_a_policy")


def test_add_an_environment() -> None:
    assert "the expert solves 3 of 3" in _run("add_an_environment")


def test_record_from_your_robot(tmp_path: Path) -> None:
    assert "1 episode of 40 steps" in _run("record_from_your_robot", tmp_path / "data")


def test_search_a_catalogue(tmp_path: Path) -> None:
    from tests.towers import write_towers

    checkpoint = write_towers(tmp_path / "towers")
    said = _run("search_a_catalogue", checkpoint, tmp_path / "catalogue", "a red block", "--image-size", "32")
    assert "168 pictures of 42 things" in said
    assert "a red block: a " in said
    assert re.search(r"the first picture: a \w+ \w+ 1\.00", said)
