"""The command line on machines that lack something: it works, or one line says what to do. Never a traceback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_LOOK = ("eval", "random", "--episodes", "1", "--workers", "1", "--set", "image_size=16", "max_steps=3")
_RAY = ("--engine", "ray", "--workers", "1", "--steps", "2")
_MOUNTS = ["unshare", "-m", "sh", "-c"]
_BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())  # in processes that are spawned too
if __name__ == "__main__":
    from vla.cli.main import main
    sys.argv = ["vla", *sys.argv[1:]]
    sys.exit(main())
"""


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Any]:
    """``vla ARGUMENTS`` with other variables, behind a command, and without some packages; in a folder of its own."""

    def run(
        *arguments: object, behind: list[str] | None = None, without: str = "", **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        ours = ("VLA_GL", "MUJOCO_GL", "PYOPENGL_PLATFORM", "XDG_CACHE_HOME", "RAY_AUTH_TOKEN")
        environment = {key: value for key, value in os.environ.items() if key not in ours} | variables
        script = tmp_path / "without.py"
        script.write_text(_BLOCKED.format(blocked=without.split()))
        start = [sys.executable, str(script)] if without else [sys.executable, "-m", "vla.cli.main"]
        command = [*(behind or []), *start, *map(str, arguments)]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False
        )

    return run


def _mounting(script: str) -> list[str]:
    """Run what follows after ``script`` has changed the file systems that it alone sees."""
    if subprocess.run([*_MOUNTS, script], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount file systems of its own")
    return [*_MOUNTS, f'{script} && exec "$@"', "sh"]


def _works(done: Any) -> None:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def _refused(done: Any, *words: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.startswith("vla ")]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert all(word in lines[0] for word in words), lines[0]


def test_no_egl(machine: Callable) -> None:
    found = subprocess.run(["sh", "-c", "ldconfig -p | grep -o '/.*libEGL.so.1$'"], capture_output=True, text=True)
    if not found.stdout.strip():
        pytest.skip("has no EGL anyway")
    done = machine(*_LOOK, behind=_mounting(f"mount --bind /dev/null $(readlink -f {found.stdout.split()[0]})"))
    if done.returncode:
        _refused(done, "no OpenGL to render cameras with", "egl: its library is not installed", "apt-get install")
    else:  # OSMesa is installed
        _works(done)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"MUJOCO_GL": "wrong"}, ("MUJOCO_GL=wrong is none of egl, osmesa or glfw", "works; unset MUJOCO_GL")),
        ({"MUJOCO_EGL_DEVICE_ID": "99"}, ("MUJOCO_EGL_DEVICE_ID=99 is no device", "unset it")),
    ],
)
def test_a_wrong_choice_of_opengl(machine: Callable, variables: dict[str, str], words: tuple[str, ...]) -> None:
    done = machine(*_LOOK, **variables)
    _refused(done, *words)
    assert "apt-get" not in done.stderr


@pytest.mark.parametrize(
    ("without", "arguments", "words"),
    [
        ("ray", ("train", "demo", "--data.path", "DATA"), ("engine ray", "pip install 'vla[ray]'")),
        ("ray", ("demo", "--out", "out"), ("engine ray", "pip install 'vla[ray]'")),
        (
            "robosuite",
            ("eval", "random", "--env", "robosuite/lift"),
            ("robosuite/lift", "vla[robosuite]"),
        ),
        ("pyarrow", ("data", "convert", "DATA", "out", "--to", "lerobot"), ("lerobot", "pip install 'vla[formats]'")),
        ("av", ("data", "convert", "DATA", "out", "--to", "lerobot"), ("lerobot", "pip install 'vla[formats]'")),
        ("mujoco", _LOOK, ("the package mujoco", "pip install 'vla[sim]'")),
        ("OpenGL", _LOOK, ("the package OpenGL", "pip install 'vla[sim]'")),
        ("websockets", ("eval", "--server", "ws://127.0.0.1:9"), ("websockets", "pip install 'vla[serve]'")),
        ("matplotlib jinja2", ("data", "view", "DATA", "--out", "page.html"), ("pip install 'vla[sim]'",)),
    ],
)
def test_packages_that_are_not_there(
    machine: Callable, dataset: Path, without: str, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = machine(*(str(dataset) if a == "DATA" else a for a in arguments), without=without)
    _refused(done, *words)


def test_suites_that_are_not_there_are_listed_as_such(machine: Callable) -> None:
    done = machine("envs", without="robosuite metaworld")
    _works(done)
    assert "no: pip install 'vla[robosuite]'" in done.stdout
    assert "no: pip install 'vla[metaworld]'" in done.stdout


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", ("no Ray at 127.0.0.1:1", "Connection refused", "--address local")),
        ("http://127.0.0.1:8265", ("expected HOST:PORT",)),
    ],
)
def test_a_ray_that_is_not_there(
    machine: Callable, recipe: Path, dataset: Path, address: str, words: tuple[str, ...]
) -> None:
    train = ("train", recipe, "--data.path", dataset, *_RAY)
    _refused(machine(*train, RAY_ADDRESS=address), *words)
    _refused(machine(*train, "--address", address), *words)


def test_a_container_with_no_home_little_shared_memory_and_a_long_temporary_folder(
    machine: Callable, recipe: Path, dataset: Path, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 84)
    long.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    behind = _mounting(f"mount -t tmpfs -o size=64m tmpfs /dev/shm && mount -t tmpfs -o ro tmpfs {home}")
    done = machine(
        *("train", recipe, "--data.path", dataset, *_RAY, "--out", tmp_path / "run"),
        behind=behind,
        TMPDIR=str(long),
        HOME=str(home),
    )
    _works(done)
    assert f"TMPDIR={long} has" in done.stderr


def test_robosuite_without_a_home(machine: Callable) -> None:
    pytest.importorskip("robosuite", reason="robosuite is not installed")
    _works(machine("envs", "--check", "robosuite/lift", "--set", "image_size=16", HOME="/proc/none"))


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A Ray that somebody else has started on this machine; its address."""
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | secret
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    port = "6397"
    options = [
        "--head",
        "--port",
        port,
        "--num-cpus",
        "2",
        "--include-dashboard=false",
        "--object-store-memory=100000000",
    ]
    process = subprocess.Popen(
        [*ray, "start", *options, "--block"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not _listens(int(port)):
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < deadline, "it has not begun"
        time.sleep(0.2)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=60)


@pytest.mark.long
@pytest.mark.parametrize("joined", [False, True])
def test_a_ray_that_is_running_is_left_alone_or_joined(
    machine: Callable, recipe: Path, dataset: Path, tmp_path: Path, cluster: str, joined: bool
) -> None:
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4} if joined else {}
    address = ("--address", cluster) if joined else ()
    _works(machine("train", recipe, "--data.path", dataset, *_RAY, *address, "--out", tmp_path / "run", **secret))
