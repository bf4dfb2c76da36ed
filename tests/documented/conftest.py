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
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.datasets.formats.mcap.recordings import MS, START, joints, packed, write_ros
from tests.datasets.formats.rlds.test_source import write_bridge
from tests.deploy.serving.test_tls import certificate
from tests.tiny import TINY
from tests.typist import Typist
from vla.cli.main import main
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.core.config import load_recipe
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.frames.codecs import encode_jpeg
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.envs.tabletop.scene.mjcf import Scene, build_mjcf
from vla.training.engines import train
from vla.training.recipe import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
_MODULES = {
    "my_package.py": "from vla.deploy.robots.simulated import SimulatedRobot as MyArm\n",
    "mypackage/policies.py": """
from vla.envs.registry import env_spec
from vla.policies.random import RandomPolicy


def Mine(contract=None):
    return RandomPolicy(contract or env_spec("tabletop/place").make({}).contract)
""",
}
_SMALL_BENCH = {
    "codecs": "--fit 100 --samples 20 --sequences 5",
    "loader": "--sizes 32 --frames 4 --budget 0.01 --training-size 0 --memory-samples 0",
    "index": "--episodes 40 --per-segment 20",
    "recorder": "--size 32 --seconds 0.1",
    "crash": "--kills 1 --power-cuts 0",
    "damage": "--times 1",
    "server": "--requests 20 --seconds 0.2",
    "loop": "--rates 50 --seconds 0.5",
    "fuzz": "--frames 200 --clients 2 --seconds 0.3",
    "soak": "--minutes 0.01 --clients 2",
    "search": "--checkpoint runs/two-tower/checkpoint --sizes 1000 --queries 20",
    "findings": "",
    "policy": "--sizes default --heads bins --seconds 0.02 --threads 1 --no-generate",
}
_SMALLER: Sequence[tuple[str, Any]] = (
    (r"^vla serve(?!.*--port)(.*)", r"vla serve\1 --port PORT"),
    (r"^vla demo( --minutes \d+)?", "vla demo --minutes 0.1 --engine inline --recipe tiny.yaml"),
    (r"^vla bench (\w+)( --(?!json|strict)\S+ \d+)*", lambda found: f"vla bench {found[1]} {_SMALL_BENCH[found[1]]}"),
    (r"--episodes \d+", "--episodes 2"),
    (r"--minutes \d+(?![\d.])", "--minutes 0.05"),
    (r"--seconds \d+(?![\d.])", "--seconds 0.5"),
    (r"^vla data draw(.*)--count \d+", r"vla data draw\1--count 8"),
    (r"^vla compare(?!.*--(?:only|runs))(.*)", r"vla compare\1 --only two-tower"),
    (
        r"^vla compare(?!.*--runs)(.*)",
        r"vla compare\1 --samples 8 --episodes 1 --probes 1 --set engine=inline workers=1 batch=4",
    ),
    (r"^vla explain(.*)--episode \d+", r"vla explain\1--episode 1"),
    (r"^vla codes fit(.*)", r"vla codes fit\1 --pictures 20"),
    (r"^vla collect(?!.*metaworld)(.*)--episodes 2", r"vla collect\1--episodes 4"),
    (r"^vla eval(?!.*--(episodes|diff))(.*)", r"vla eval\2 --episodes 2"),
    (r"^vla (run|emulate)(?!.*--seconds)(.*)", r"vla \1\2 --seconds 0.5"),
    (r"^vla run(?!.*--episodes)(.*--page)", r"vla run --episodes 1\1"),  # or it would wait for a person
    (r"/tmp/|/dev/shm/", ""),
    (r"^vla data bench(.*)", r"vla data bench\1 --seconds 0.2 --batch 4"),
    (r"--env (all|'tabletop/\*')", "--env 'tabletop/p*'"),
    (r"--env 'metaworld/\*' --episodes 2", "--env 'metaworld/drawer-*' --episodes 1"),
    (r"^vla (eval|collect)(?!.*--(diff|workers))(.*)", r"vla \1\3 --workers 1"),
    (r"^vla eval(?!.*(--set|--diff))(.*)", r"vla eval\2 --set max_steps=4"),
    (r"^vla train (?!--resume)(.*)", r"vla train \1 --engine inline --workers 1 --steps 2 --batch 4"),
    (r"^vla train --resume (.*?) --steps \d+", r"vla train --resume \1 --steps 3"),
)
"""What is written, and what runs: one after the other."""


def _evaluated(policy: str, out: str) -> "Callable[[Shell], None]":
    def evaluate(shell: "Shell") -> None:
        if not Path(out).exists():
            shell.run(f"vla eval {policy} --episodes 2 --seed 7 --out {out}")

    return evaluate


def _lift(shell: "Shell") -> None:
    """Another robot, with a camera called agent."""
    source = Dataset.open("data/place")
    contract = replace(source.contract, robot="lift", cameras=(replace(source.contract.cameras[0], name="agent"),))
    create_dataset("data/lift", contract)
    with SegmentWriter("data/lift", contract, {}) as writer:
        for number in range(2):
            episode = source.read_episode(number)
            writer.append(replace(episode, images={"agent": episode.images["front"]}, image_time_ns={}))
        publish("data/lift", [writer.seal()], "test")


def _version1(name: str, target: str) -> "Callable[[Shell], None]":
    def unpack(shell: "Shell") -> None:
        shutil.rmtree(target, ignore_errors=True)
        with zipfile.ZipFile(ROOT / "tests" / "version1" / f"{name}.zip") as archive:
            archive.extractall(target)

    return unpack


def _robomimic(shell: "Shell") -> None:
    shell.run("vla data convert data/place demo.hdf5 --to robomimic")


def _pusht(shell: "Shell") -> None:
    shell.run("vla data convert data/place replay --to diffusion-policy")
    Path("replay").rename("pusht_cchi_v7_replay.zarr")


def _bridge(shell: "Shell") -> None:
    folder, _ = write_bridge(Path("written"))
    Path("bridge").mkdir()
    shutil.move(folder, "bridge/1.0.0")


def _bags(shell: "Shell") -> None:
    """An arm and a gripper with topics of their own, a leader and a camera."""
    names = ["shoulder", "elbow", "finger"]
    times = [START + step * 50 * MS for step in range(20)]
    kind = "sensor_msgs/msg/JointState"
    topics = {
        topic: (kind, [(time, joints(time, np.full(len(own), i), own)) for i, time in enumerate(times)])
        for topic, own in (("/arm/joint_states", names[:2]), ("/gripper/state", names[2:]), ("/leader/joints", names))
    }
    pixels = np.zeros((6, 8, 3), np.uint8)
    topics["/front/image"] = ("sensor_msgs/msg/CompressedImage", [(time, packed(time, pixels)) for time in times])
    topics["/instruction"] = ("std_msgs/msg/String", [(START, {"data": "put it away"})])
    write_ros(Path("bags/monday/monday_0.mcap"), topics)


def _graspings(shell: "Shell") -> None:
    """Enough of them to see the gripper by, and the robot's description."""
    collect(CollectConfig(episodes=20, workers=1, seed=100), Path("data/place"))
    shutil.copytree("data/place", "data/mine", dirs_exist_ok=True)
    Path("robot.xml").write_text(build_mjcf(Scene()))


def _labelled(shell: "Shell") -> None:
    if not Path("data/place-labelled").exists():
        shell.run("vla data label data/place data/place-labelled")


def _codes(shell: "Shell") -> None:
    if not Path("codes/place").exists():
        shell.run("vla codes fit data/place codes/place")


def _modalities(shell: "Shell") -> None:
    if not Path("runs/modalities").exists():
        shell.run("vla collect data/asked --env tabletop/place --set split=seen --episodes 2000 --questions 6")
        shell.run("vla codes fit data/asked codes/asked --side 4")
        shell.run("vla data speak data/asked --out data/asked-spoken --voices en-us")
        shell.run("vla train modalities --out runs/modalities")


def _two_tower(shell: "Shell") -> None:
    if not Path("runs/two-tower").exists():
        shell.run("vla collect data/described --env tabletop/place --episodes 2500 --captions 4 --parts 2")
        shell.run("vla train two-tower --out runs/two-tower")


def _rollouts(shell: "Shell") -> None:
    """Ends that were good and bad, and some of which nobody has said."""
    for name in ("rollouts", "logs"):
        shell.run(f"vla collect data/{name} --env tabletop/place --episodes 2500 --seed 20000")
    uids = [record.uid for record in Dataset.open("data/rollouts").episodes][::2]
    shell.run(f"vla data relabel data/rollouts --set success=false --uids {' '.join(uids)}")


def _photo(shell: "Shell") -> None:
    Path("photo.jpg").write_bytes(encode_jpeg(Dataset.open("data/place").frame("front", 0)))


def _labels(shell: "Shell") -> None:
    Path("labels.json").write_text(json.dumps({_uid(): {"instruction": "put it there", "success": True}}))


def _uid() -> str:
    return Dataset.open("data/place").episodes[0].uid


def _lab(shell: "Shell") -> None:
    """Three versions of a dataset in a bucket."""
    shell.run('vla data relabel data/place --set "instruction=put it away"')
    shell.run('vla data relabel data/place --set "instruction=put it there"')
    for file in Path("data/place").rglob("*"):
        if file.is_file():
            shell.bucket.upload_file(str(file), f"place/{file.relative_to('data/place')}")


def _demonstrate(words: Sequence[str]) -> None:
    """One episode, by hand."""
    hands = Typist(*words)
    try:
        for heard, key in (("ready", "\r"), ("recording", "\r"), ("success.*steps(.|\n)*ready", "\x04")):
            hands.wait_for(heard)
            hands.type(key)
        hands.wait_for("1 episode in data/")
        assert hands.process.wait(60) == 0
    finally:
        hands.close()


def _answer(words: Sequence[str]) -> None:
    """To the first question, and to no other."""
    hands = Typist(*words)
    try:
        hands.wait_for("> ")
        hands.type("actions\r", *("\r" for _ in range(20)))
        hands.wait_for("because")
        assert hands.process.wait(60) == 0
    finally:
        hands.close()


_THINGS: "dict[str, Callable[[Shell], None]]" = {
    r"demo\.hdf5": _robomimic,
    r"pusht": _pusht,
    r"bridge/": _bridge,
    r"bags": _bags,
    r"s3://lab/place": _lab,
    r"labels\.json": _labels,
    r"photo\.jpg": _photo,
    r"runs/two-tower(?<!--out runs/two-tower)": _two_tower,
    r"data/rollouts(?<!collect data/rollouts)(?<!relabel data/rollouts)": _rollouts,
    r"data/stack": lambda shell: shutil.copytree("data/monday", "data/stack") and None,
    r"codes show": _codes,
    r"runs/modalities(?<!--out runs/modalities)": _modalities,
    r"data label ": _graspings,
    r"place-labelled(?<!data/place data/place-labelled)": _labelled,
    r"mixture": _lift,
    r"my-mixture": lambda shell: shutil.copy("configs/mixture.yaml", "my-mixture.yaml") and None,
    r"my\.yaml": lambda shell: shutil.copy("tiny.yaml", "my.yaml") and None,
    r"runs/eval-place(?<!--out runs/eval-place)": _evaluated("runs/place/checkpoint", "runs/eval-place"),
    r"runs/eval-new": _evaluated("random", "runs/eval-new"),
    r"runs/eval-old": _evaluated("expert", "runs/eval-old"),
    r"runs/new-old(?<!--out runs/new-old)": _evaluated("expert --against random", "runs/new-old"),
    r"runs/experts(?<!--out runs/experts)": _evaluated("expert", "runs/experts"),
    r"cert\.pem": lambda shell: certificate(Path(), "cert", "key.pem") and None,
    r"key\.txt": lambda shell: Path("key.txt").write_text("a-key-of-some-length") and None,
    r"--latencies run\.json": lambda shell: Path("run.json").write_text('{"delays_ms": [40.5, 210.0]}') and None,
    r"^vla train .*--out runs/place": lambda shell: shutil.rmtree("runs/place", ignore_errors=True),
    r"^vla demo": lambda shell: shutil.rmtree("runs/demo", ignore_errors=True),
    r"^vla upgrade": _version1("checkpoint", "runs/place/checkpoint"),
    r"^vla data upgrade": _version1("dataset", "data/place"),
}
"""What a command that speaks of it finds there."""


@pytest.fixture(scope="session")
def complete_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; do not change it."""
    world = tmp_path_factory.mktemp("world")
    shutil.copytree(ROOT / "configs", world / "configs")
    for name, text in _MODULES.items():
        (world / name).parent.mkdir(exist_ok=True)
        (world / name).write_text(text)
    for name, seed in (("place", 1), ("monday", 10), ("tuesday", 20)):
        collect(CollectConfig(episodes=4 if name == "place" else 1, workers=1, seed=seed), world / "data" / name)
    (world / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"data": {"path": str(world / "data" / "place")}}))
    train(load_recipe(TrainConfig, world / "tiny.yaml"), world / "runs" / "place")
    for name in ("demo", "new", "old", "realtime"):
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
    monkeypatch.setenv("VLA_API_KEY", "")  # so that what a command hands on to its workers is taken back
    monkeypatch.delenv("VLA_API_KEY")
    return copy


def readme_blocks() -> Iterator[str]:
    """README's indented paragraphs, without the indentation."""
    for found in re.finditer(r"(?:^    .*\n)+", (ROOT / "README.md").read_text(), re.MULTILINE):
        yield textwrap.dedent(found[0]).strip("\n")


def bare(line: str) -> str:
    """A command without what is said beside it."""
    return re.split(r"\s{2,}[#(]", line)[0].strip()


class Shell:
    """Runs commands in the world; a server stays until the end."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bucket: Callable[[], Any]
    ) -> None:
        self._capsys, self._monkeypatch, self._bucket = capsys, monkeypatch, bucket
        self._server: subprocess.Popen[str] | None = None
        self._made: set[str] = set()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def bucket(self) -> Any:
        """That of ``s3://lab``."""
        return self._bucket()

    def examples(self, *verb: str) -> list[str]:
        """The commands that ``--help`` shows."""
        code, out, err = self._call([*verb, "--help"])
        assert code == 0, err
        return [bare(line) for line in out.splitlines() if re.match(r"  vla (?!COMMAND|(data|codes) COMMAND)", line)]

    def run(self, command: str) -> None:
        """Run it, smaller, where what it needs is there; anything but success fails the test."""
        if "s3://" in command:
            assert self.bucket
        for pattern, make in _THINGS.items():
            if re.search(pattern, command) and pattern not in self._made:
                self._made.add(pattern)
                make(self)
        smaller = command.replace("robot.local", "127.0.0.1")
        smaller = smaller.replace("18eb1a3f9d991638-1848b69f-000000", _uid() if "--uids" in command else "")
        for pattern, replacement in _SMALLER:
            smaller = re.sub(pattern, replacement, smaller)
        smaller = re.sub("8000|PORT", str(self.port), smaller)
        words = [os.path.expanduser(word) for word in shlex.split(smaller)[1:]]
        if words[0] == "serve" and "--replay" not in words:
            self._serve(words)
            return
        if words[0] == "teleop":
            _demonstrate(words)
            return
        if words == ["recommend"]:
            _answer(words)
            return
        if "ws://" in smaller and self._server is None:
            self._serve(["serve", "runs/place/checkpoint", "--port", str(self.port)])
        with self._monkeypatch.context() as patch:
            if words[0] == "demo":
                patch.setattr(os, "sched_getaffinity", lambda _: {0})  # one CPU: evaluations start no processes
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

    def _call(self, words: Sequence[str]) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["vla", *words])
        self._capsys.readouterr()
        try:
            code = main()
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *self._capsys.readouterr())


@pytest.fixture
def bucket(s3_service: Any) -> Any:
    """That of ``s3://lab``."""
    return s3_service.create_bucket(Bucket="lab")


@pytest.fixture
def shell(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Shell]:
    """``vla …`` in the world."""
    shell = Shell(capsys, monkeypatch, lambda: request.getfixturevalue("bucket"))
    yield shell
    shell.close()
