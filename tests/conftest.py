"""For all tests: seeded hypothesis, reasons for what is not run, and what several folders share."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import typechecks

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the suite in the background ignores Ctrl-C, and so would all that the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
gc.disable()  # while all tests are imported: of that nothing is garbage
# Compiling the checked modules and the rewritten tests takes each process of the suite ten seconds: once is enough.
sys.dont_write_bytecode = False
os.register_at_fork(after_in_child=partial(setattr, sys, "dont_write_bytecode", True))  # its disk may be full
typechecks.install()
settings.register_profile("seeded", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("seeded")


_LONGEST = ("documented", "cli/test_machines.py", "cli/test_demo.py", "training/test_parallel.py")
"""Files and folders whose tests take tens of seconds: last of all, one would be waited for alone."""


def pytest_collection_finish() -> None:
    """What is imported by now stays: looking through it takes half a second, and each `give_back` would."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def what_stays() -> Iterator[None]:
    """What a module has imported and left stays too."""
    yield
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray's tests begin, one after the other, then the longest; and skip what wants a GPU where there is none."""
    longest = tuple(str(Path(__file__).parent / name) for name in _LONGEST)
    items.sort(key=lambda item: (not _wants_ray(item), not str(item.path).startswith(longest)))
    for item in items:
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """One Ray for all tests of this process that want one: starting it takes seconds."""
    import ray

    from vla.core.machine.ray_cluster import start_ray

    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # how soon an ended or a dead worker is seen
    if not ray.is_initialized():
        start_ray()


def _wants_ray(item: pytest.Item) -> bool:
    return "ray_cluster" in getattr(item, "fixturenames", ()) or item.name.endswith("[ray]")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Ray ends with the last test that wants it: its services take memory, and time of everybody."""
    ray = sys.modules.get("ray")
    if ray and ray.is_initialized() and not (nextitem and _wants_ray(nextitem)):
        ray.shutdown()
        gc.collect()  # here, where its leftovers are expected, and not in somebody else's test


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    """One tabletop for the tests of a module: building it is quick, its GL context is not."""
    from vla.envs.tabletop.env import TabletopEnv
    from vla.envs.tabletop.tasks.place import PlaceConfig
    from vla.envs.tabletop.tasks.table import FAMILIES

    env = TabletopEnv(FAMILIES["tabletop/place"], PlaceConfig())
    yield env
    env.close()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve episodes of ``tabletop/place``, recorded once."""
    from vla.collection.experts import collect
    from vla.collection.settings import CollectConfig

    root = tmp_path_factory.mktemp("demonstrations") / "place"
    collect(CollectConfig(episodes=12, workers=1, settings={"image_size": 32}), root)
    return root


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def s3_service(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An S3 service through another client; the environment is such that obstore finds it."""
    variables = {
        "AWS_ENDPOINT": s3_server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    import boto3

    return boto3.resource("s3", endpoint_url=s3_server, region_name="us-east-1")
