"""A folder in which everything that README and the help speak of exists, and what makes their commands small.

Commands run as they are written, but for `_SMALLER`: fewer episodes, seconds and pixels, never another option or order.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vla.cli.main import main
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.core.config import load_recipe
from vla.datasets.dataset import Dataset
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.training.engines import train
from vla.training.recipe import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
_TINY = {
    "model": {
        "trunk": {"width": 32, "layers": 1, "heads": 2},
        "readers": {"text": {"heads": 2}, "images": {"channels": 8, "tokens": 4}},
        "head": {"bins": 16},
        "auxiliaries": {"grounding": {"bins": 8}},
    },
    "engine": "inline",
    "workers": 1,
    "batch": 4,
    "steps": 2,
    "log_steps": 1,
}
_MODULES = {
    "my_package.py": "from vla.deploy.robots.simulated import SimulatedRobot as MyArm\n",
    "mypackage/policies.py": """
from vla.envs.registry import env_spec
from vla.policies.random import RandomPolicy


def Mine(contract=None):
    return RandomPolicy(contract or env_spec("tabletop/place").make({}).contract)
""",
}
_SMALLER: Sequence[tuple[str, str]] = (
    (r"--episodes \d+", "--episodes 2"),
    (r"--minutes \d+", "--minutes 0.05"),
    (r"--seconds \d+", "--seconds 0.5"),
    (r"--env (all|'tabletop/\*')", "--env tabletop/p*"),
    (r"^vla (eval|collect)(?!.*--(diff|workers))(.*)", r"vla \1\3 --workers 1"),
    (r"^vla eval(?!.*(--set|--diff))(.*)", r"vla eval\2 --set max_steps=4"),
    (r"^vla train (.*)", r"vla train \1 --engine inline --workers 1 --steps 2 --batch 4"),
)
"""What is written, and what runs: one after the other."""


@pytest.fixture(scope="session")
def complete_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; do not change it."""
    world = tmp_path_factory.mktemp("world")
    shutil.copytree(ROOT / "configs", world / "configs")
    for name, text in _MODULES.items():
        (world / name).parent.mkdir(exist_ok=True)
        (world / name).write_text(text)
    for name, seed in (("place", 1), ("monday", 10), ("tuesday", 20)):
        collect(CollectConfig(episodes=3 if name == "place" else 1, workers=1, seed=seed), world / "data" / name)
    (world / "tiny.yaml").write_text(yaml.safe_dump(_TINY | {"data": {"path": str(world / "data" / "place")}}))
    train(load_recipe(TrainConfig, world / "tiny.yaml"), world / "runs" / "place")
    for name in ("demo", "new", "old"):
        shutil.copytree(world / "runs" / "place" / "checkpoint", world / "runs" / name / "checkpoint")
    return world


@pytest.fixture
def world(complete_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, in which the test stands."""
    copy = Path(shutil.copytree(complete_world, tmp_path / "world"))
    monkeypatch.chdir(copy)
    monkeypatch.syspath_prepend(copy)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(copy), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("HOME", str(copy))
    return copy


def _evaluated(policy: str, out: str) -> "Callable[[Shell], None]":
    return lambda shell: shell.run(f"vla eval {policy} --episodes 2 --seed 7 --out {out}")


def _lift(shell: "Shell") -> None:
    """Another robot, with a camera called agent."""
    source = Dataset.open("data/place")
    contract = replace(source.contract, robot="lift", cameras=(replace(source.contract.cameras[0], name="agent"),))
    with SegmentWriter("data/lift", contract, {}) as writer:
        for episode in map(source.episode, range(2)):
            writer.add(replace(episode, images={"agent": episode.images["front"]}))
        publish("data/lift", [writer.seal()], "test")


def _version1(name: str, target: str) -> "Callable[[Shell], None]":
    def unpack(shell: "Shell") -> None:
        shutil.rmtree(target, ignore_errors=True)
        with zipfile.ZipFile(ROOT / "tests" / "version1" / f"{name}.zip") as archive:
            archive.extractall(target)

    return unpack


_THINGS: "dict[str, Callable[[Shell], None]]" = {
    "demo.hdf5": lambda shell: shell.run("vla data convert data/place demo --to robomimic"),
    "data/lift": _lift,
    "mixture.yaml": _lift,
    "runs/eval-place": _evaluated("runs/place/checkpoint", "runs/eval-place"),
    "runs/eval-new": _evaluated("random", "runs/eval-new"),
    "runs/eval-old": _evaluated("expert", "runs/eval-old"),
    "runs/new-old": _evaluated("expert --against random", "runs/new-old"),
}
"""What a command that speaks of it finds there."""


class Shell:
    """Runs commands in the world; a server stays until the end."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch
        self._server: subprocess.Popen[str] | None = None
        self._made: set[str] = set()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    def examples(self, *verb: str) -> list[str]:
        """The commands that ``--help`` shows, what they need being there."""
        code, out, err = self._call([*verb, "--help"])
        assert code == 0, err
        return [line.strip() for line in out.splitlines() if re.match(r"  vla (?!COMMAND|data COMMAND)", line)]

    def run(self, command: str) -> None:
        """Run it, smaller; anything but success fails the test."""
        for path, make in _THINGS.items():
            if path in command and path not in self._made:
                self._made.add(path)
                make(self)
        smaller = re.split(r"\s{2,}[#(]", command)[0].replace("8000", str(self._port))
        for pattern, replacement in _SMALLER:
            smaller = re.sub(pattern, replacement, smaller)
        words = [os.path.expanduser(word) for word in shlex.split(smaller)[1:]]
        if words[0] == "serve":
            self._serve(words)
            return
        if "ws://" in smaller and self._server is None:
            self._serve(["serve", "runs/place/checkpoint", "--port", str(self._port)])
        code, out, err = self._call(words)
        assert code == 0, f"{command}\nas {smaller}\n{out[-2000:]}\n{err[-2000:]}"

    def close(self) -> None:
        """End the server as Ctrl-C does."""
        if self._server is None:
            return
        self._server.send_signal(signal.SIGINT)
        _, err = self._server.communicate(timeout=60)
        assert self._server.returncode in (0, 130), err
        self._server = None

    def _serve(self, words: Sequence[str]) -> None:
        self.close()
        ready = Path("ready.json")
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "vla.cli.main", *words, "--json", str(ready)]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 100
        while not ready.exists():
            assert self._server.poll() is None, self._server.communicate()[1]
            assert time.monotonic() < deadline, "the server was never ready"
            time.sleep(0.05)
        json.loads(ready.read_text())

    def _call(self, words: Sequence[str]) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["vla", *words])
        self._capsys.readouterr()
        try:
            code = main()
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *self._capsys.readouterr())


@pytest.fixture
def shell(world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """``vla …`` in the world."""
    shell = Shell(capsys, monkeypatch)
    yield shell
    shell.close()
