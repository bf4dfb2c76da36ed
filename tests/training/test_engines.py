"""Engine ray, end to end: two workers, one of them killed, Ctrl-C, and more workers than CPUs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vla.cli.main import main
from vla.core.config import to_dict
from vla.core.errors import ConfigError
from vla.core.machine.stopping import exit_code
from vla.training.engines import Stopped, train
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig
from vla.training.state import newest_state, position_of, states

MakeRecipe = Callable[..., TrainConfig]
pytestmark = [
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two Ray workers need two CPUs"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # Ray Data warns about its own settings
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes of workers through /proc"),
]


def _workers_of(ancestor: int) -> list[int]:
    """The Ray Train worker processes below the process ``ancestor``: others on this machine are none of ours."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError):
            continue  # it has just ended
    return [pid for pid, title in titles.items() if "RayTrainWorker" in title and ancestor in _line(pid, parents)]


def _line(pid: int, parents: dict[int, int]) -> list[int]:
    line = []
    while pid in parents:
        pid = parents[pid]
        line.append(pid)
    return line


def _position(run: Path) -> dict[str, Any]:
    origin = json.loads((run / "checkpoint" / "provenance.json").read_text())
    position: dict[str, Any] = origin["training"]
    return position


@pytest.mark.usefixtures("ray_cluster")
def test_more_workers_than_cpus_are_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    config = make_recipe(engine="ray", workers=99)
    with pytest.raises(ConfigError, match=r"workers=99.*\d+ CPUs; lower --workers"):
        train(config, tmp_path)


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_is_replaced_no_step_is_lost_and_sigterm_saves(
    make_recipe: MakeRecipe, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray has taken SIGTERM for itself; while a run goes on it is ours."""
    monkeypatch.chdir(dataset.parent)  # a relative path must reach workers, which run elsewhere
    config = make_recipe(
        engine="ray", data={"path": dataset.name}, workers=2, steps=100_000, batch=4, log_steps=5, checkpoint_s=1.0
    )
    killed: list[int] = []
    saved_at, asked = 0, False

    def log(line: dict[str, Any]) -> None:
        nonlocal saved_at, asked
        if not killed and (saved := states(tmp_path)):
            saved_at = int(saved[-1].name)
            killed.append(_workers_of(os.getpid())[0])
            os.kill(killed[0], signal.SIGKILL)
        elif killed and not asked and int(states(tmp_path)[-1].name) > saved_at + 10:
            asked = True  # a second time would not wait for the state
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="run the same command again to resume") as caught:
        train(config, tmp_path, log)
    assert exit_code(caught.value) == 143
    state = newest_state(tmp_path)
    assert state is not None
    position = position_of(state)
    assert position.step > saved_at
    assert position.consumed == position.step * 4 * 2
    steps = [line["step"] for line in read_metrics(tmp_path)]
    assert steps == list(range(5, 5 * len(steps) + 1, 5))


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_ctrl_c_stops_with_130_and_the_same_command_resumes(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own is interrupted, with a Ray of its own; this one resumes, with the Ray of the tests."""
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    config = make_recipe(engine="ray", workers=2, steps=200, batch=4, log_steps=5)
    recipe.write_text(yaml.safe_dump(to_dict(config)))
    arguments = ["train", str(recipe), "--out", str(run)]
    command = [sys.executable, "-m", "vla.cli.main", *arguments]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        _wait_for(lambda: bool(read_metrics(run)), process)
        os.killpg(process.pid, signal.SIGINT)
        output = process.communicate(timeout=100)[0].decode()
    assert process.returncode == 130, output
    assert "run the same command again to resume" in output
    assert "Traceback" not in output
    (state,) = (run / "states").glob("[0-9]*")
    stopped_at = json.loads((state / "state.json").read_text())["step"]
    assert 0 < stopped_at < 200
    monkeypatch.setattr(sys, "argv", ["vla", *arguments])
    assert main() == 0
    assert (_position(run)["step"], _position(run)["consumed"]) == (200, 200 * 4 * 2)
    steps = [line["step"] for line in read_metrics(run)]
    assert steps == list(range(5, 201, 5))


def _wait_for(condition: Callable[[], bool], process: "subprocess.Popen[bytes]", timeout_s: float = 200) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, f"it ended: {process.communicate()[0].decode()}"
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)
