"""``vla train``: a mixture, a part of another kind, and runs that are stopped, made longer, or have no disk left."""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.running import running
from vla.models.checkpoint import load_model, read_blueprint
from vla.training.metrics import read_metrics
from vla.training.state import states

_SMALL = {
    "engine": "inline",
    "workers": 1,
    "batch": 4,
    "steps": 2,
    "log_steps": 1,
    "precision": "float32",
    "model": {"trunk": {"width": 32, "layers": 1, "heads": 2}, "readers": {"text": {"heads": 2}}},
}


def test_a_mixture_and_another_head(call: Callable, dataset: Path, tmp_path: Path) -> None:
    mixture = {"slots": ["front", "wrist"], "image_size": [16, 16], "entries": [{"path": str(dataset)}]}
    recipe = tmp_path / "mixture.yaml"
    recipe.write_text(yaml.safe_dump({**_SMALL, "data": {"mixture": mixture}}))
    answer = call("train", recipe, "--out", tmp_path / "run", "--model.head.kind", "tokens", "--seed", "3")
    assert answer.code == 0, answer.err
    blueprint = read_blueprint(tmp_path / "run" / "checkpoint")
    assert blueprint.preprocessor.image_size == (16, 16)
    assert blueprint.contract.policy is not None
    assert blueprint.contract.policy.model["head"]["kind"] == "tokens"


def test_help_and_mistyped_flags_know_every_key_of_a_recipe(call: Callable, dataset: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump({**_SMALL, "data": {"path": str(dataset)}}))
    answer = call("train", recipe, "--help")
    assert answer.code == 0
    assert "--model.head.bins" in answer.out
    # A part that may be missing has flags where it is there, by its kind, and no sub-command where it is not.
    flow = ("train", recipe, "--model.head.kind", "flow")
    taught = call(*flow, "--model.head.teacher.kind", "bins", "--help")
    assert "--model.head.teacher.bins INT" in taught.out
    assert "teacher" not in call(*flow, "--help").out.split("--model.head.insulate")[0]
    assert "could not create" not in (answer.out + answer.err).lower()


@pytest.fixture
def place(dataset: Path, tmp_path: Path) -> Path:
    """A recipe that knows its data."""
    path = tmp_path / "place.yaml"
    path.write_text(yaml.safe_dump({**_SMALL, "data": {"path": str(dataset)}}))
    return path


def test_a_run_that_is_told_to_end_saves_and_can_go_on(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "vla.cli.main", "train", place, "--out", run, "--steps", "100000"]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not read_metrics(run):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, f"vla train: stopped; run the same command again to resume {run}\n")
    assert states(run)


def test_a_run_is_made_longer(call: Callable, place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", place, "--out", run).code == 0
    answer = call("train", place, "--out", run, "--steps", 3)
    assert (answer.code, answer.err.endswith(f"make the run longer with: vla train --resume {run} --steps 3\n")) == (
        2,
        True,
    )
    answer = call("train", "--resume", run, "--steps", 3, "--json", tmp_path / "out.json")
    assert answer.code == 0, answer.err
    assert f"{run}: at step 2 made a run of 3 steps instead of 2" in answer.out
    assert json.loads((tmp_path / "out.json").read_text())["checkpoint"] == str(run / "checkpoint")
    assert json.loads((run / "checkpoint" / "provenance.json").read_text())["training"]["step"] == 3
    answer = call("train", "--resume", run, "--steps", 4, "--batch", 2)
    assert (answer.code, "batch: 4 there, 2 here" in answer.err) == (2, True)
    answer = call("train", place, "--resume", run)
    assert (answer.code, "goes on with the recipe of that run" in answer.err) == (2, True)
    answer = call("train", "--resume", tmp_path / "nowhere")
    assert (answer.code, "nowhere/recipe.json does not exist" in answer.err) == (2, True)


def test_several_seeds_are_one_command_and_the_folder_goes_on(call: Callable, place: Path, tmp_path: Path) -> None:
    group = tmp_path / "band"
    answer = call("train", place, "--seeds", 2, "--out", group, "--data.validation", 0.5, "--json", tmp_path / "o.json")
    assert answer.code == 0, answer.err
    (head,) = [line for line in answer.out.splitlines() if "deviation" in line]
    assert head.split() == ["seed", "0", "seed", "1", "mean", "deviation", "least", "most"]
    (row,) = [line for line in answer.out.splitlines() if line.strip().startswith("first frame action error")]
    outcome = json.loads((tmp_path / "o.json").read_text())
    (band,) = [band for band in outcome["bands"] if band["metric"] == "first_frame_action_error"]
    own = [run["metrics"]["first_frame_action_error"] for run in outcome["runs"]]
    shown = [*own, band["mean"], band["deviation"], band["low"], band["high"]]
    assert [float(number) for number in row.split()[4:]] == pytest.approx(shown, rel=0.05)
    assert (group / "seeds.svg").exists()
    answer = call("train", "--resume", group, "--steps", 3)
    assert answer.code == 0, answer.err
    assert f"{group / 'seed-1'}: at step 2 made a run of 3 steps instead of 2" in answer.out
    answer = call("train", place, "--seeds", 2, "--out", group / "seed-0")
    assert (answer.code, "holds the run of one seed; choose another --out for several" in answer.err) == (2, True)
    answer = call("train", place, "--seeds", 0, "--out", group)
    assert (answer.code, "seeds=0 must be at least 1" in answer.err) == (2, True)


def test_a_full_disk_is_one_line_and_the_last_state_stays(
    call: Callable, shell: Callable, place: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert call("train", place, "--out", run).code == 0
    before = {path: path.read_bytes() for path in states(run)[-1].iterdir()}
    size = 100_000  # a state has more
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
    answer = shell("train", "--resume", run, "--steps", 3, before=limit)
    assert answer.code == 2
    assert answer.err.startswith("vla train: ")
    assert answer.err.endswith("disk full; free space and run the same command again, all that was finished is kept\n")
    assert answer.err.count("\n") == 1
    assert {path: path.read_bytes() for path in states(run)[-1].iterdir()} == before
    assert [path.name for path in (run / "states").iterdir()] == ["00000002"]
    assert call("train", "--resume", run, "--steps", 3).code == 0
    load_model(run / "checkpoint")


def test_a_damaged_state_is_said_in_one_line(call: Callable, place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", place, "--out", run).code == 0
    assert call("train", "--resume", run, "--steps", 3).code == 0
    path = states(run)[-1] / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    answer = call("train", "--resume", run)
    assert answer.code == 0, answer.err
    (line,) = [line for line in answer.out.splitlines() if "set aside" in line]
    assert "00000003: state.safetensors fails its checksum" in line
    assert line.endswith("resumed from state 00000002")
    assert states(run)[-1].name == "00000003"


def test_a_checkpoint_is_checked(call: Callable, checkpoint: Path, tmp_path: Path) -> None:
    answer = call("info", checkpoint, "--check", "--json", tmp_path / "good.json")
    assert (answer.code, answer.out) == (0, f"{checkpoint}: nothing is wrong\n")
    assert json.loads((tmp_path / "good.json").read_text()) == {"damage": []}
    path = checkpoint / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    answer = call("info", checkpoint, "--check")
    assert (answer.code, "damaged weights.safetensors fails its checksum" in answer.out) == (1, True)
    (checkpoint / "COMMIT.json").unlink()
    answer = call("info", checkpoint, "--check")
    assert (answer.code, f"vla upgrade {checkpoint}" in answer.err) == (2, True)
    answer = call("upgrade", checkpoint)
    assert (answer.code, "sealed as it is" in answer.out) == (0, True)


def test_an_insulated_flow_that_is_told_what_runs(call: Callable, dataset: Path, tmp_path: Path) -> None:
    """From a recipe to an evaluation in which inference takes as many steps as it was trained for, and no more."""
    head = {"kind": "flow", "steps": 2, "insulate": True, "teacher": {"kind": "bins"}}
    model = {**_SMALL["model"], "committed": 2, "head": head}  # type: ignore[dict-item]
    recipe = tmp_path / "flow.yaml"
    recipe.write_text(yaml.safe_dump({**_SMALL, "model": model, "data": {"path": str(dataset)}}))
    answer = call("train", recipe, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    where = ("--episodes", "1", "--workers", "1", "--set", "max_steps=9", "image_size=32")
    answer = call("eval", tmp_path / "run" / "checkpoint", "--latency-steps", "2", *where)
    assert answer.code == 0, answer.err
    assert "1/1" in answer.out
    answer = call("eval", tmp_path / "run" / "checkpoint", "--latency-steps", "3", *where)
    assert answer.code == 2
    assert "trained for at most 2 steps that are decided already; train with model.committed=3" in answer.err
