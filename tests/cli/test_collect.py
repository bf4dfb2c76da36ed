"""``vla collect`` from the outside: several tasks, a learner that drives, and what is refused in one line."""

import json
from pathlib import Path

from tests.cli.conftest import Call
from vla.datasets.dataset import Dataset

_SMALL = ("--workers", 1, "--set", "image_size=32", "max_steps=8")


def test_a_checkpoint_drives_and_the_expert_labels(call: Call, trained: Path, tmp_path: Path) -> None:
    """And what comes of it trains like any other data."""
    said = tmp_path / "said.json"
    out = tmp_path / "corrected"
    driven = ("--policy", trained, "--label", "expert", "--episodes", 2)
    answer = call("collect", out, *driven, "--json", said, *_SMALL)
    assert answer.code == 0
    assert "version 1, 2 new episodes, 16 steps, 2 failed and kept" in answer.out
    assert json.loads(said.read_text())["envs"] == {"tabletop/place": 2}
    origin = Dataset.open(out).provenance(0)
    assert (origin["driver"]["policy"], origin["label"]) == (str(trained), "expert")
    assert len(origin["driver"]["digest"]) == 16


def test_several_tasks_are_one_command(call: Call, tmp_path: Path) -> None:
    answer = call("collect", tmp_path / "both", "--env", "tabletop/li*", "tabletop/reach", "--episodes", 1, *_SMALL[:4])
    assert answer.code == 0
    tasks, _ = Dataset.open(tmp_path / "both").episodes.column("task")
    assert set(tasks) == {"tabletop/lift", "tabletop/reach"}


def test_what_cannot_be_collected_is_one_line(call: Call, tmp_path: Path) -> None:
    for arguments, line in (
        (("--policy", "random"), "give both, or neither"),
        (("--latency-steps", 0, 4), "the expert acts at once; give --policy and --label"),
        (("--policy", tmp_path / "none", "--label", "expert"), "does not exist"),
        (("--env", "tabletop/nothing*"), "none is called like that"),
        (("--env", "tabletop/lift", "fetch/reach"), "fetch/reach (robot: 'tabletop-panda'"),
    ):
        answer = call("collect", tmp_path / "new", *arguments)
        assert answer.code == 2
        assert line in answer.err.splitlines()[-1]
        assert len(answer.err.splitlines()) == 1
