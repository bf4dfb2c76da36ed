"""A newer version takes over while clients ask all the time: none is dropped, nothing is lost, answers say who."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deploy.policies import numbered, read
from vla.deploy.client import PolicyClient
from vla.deploy.engines.engine import Engine
from vla.deploy.engines.policy_process import PolicyProcess
from vla.deploy.limits import Limits
from vla.deploy.serving.server import PolicyServer

LIMITS = Limits(clients=6, start_s=60.0)


def see() -> dict[str, Any]:
    images = {"front": np.zeros((8, 6, 3), np.uint8), "depth": np.zeros((5, 3, 1), np.uint16)}
    images["wrist"] = np.zeros((4, 4, 3), np.uint8)
    return {"images": images, "state": np.zeros(2), "prompt": "go"}


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def serving(file: Path) -> Iterator[tuple[PolicyServer, str]]:
    file.write_text("0.25")

    def begin() -> PolicyProcess:
        make, version = partial(numbered, str(file)), partial(read, str(file))
        return PolicyProcess(make, slots=LIMITS.clients, start_s=60.0, version=version)

    def renew(name: str, now: Engine) -> PolicyProcess | None:
        assert name == "default"
        assert isinstance(now, PolicyProcess)
        return None if now.version == file.read_text() else begin()

    server = PolicyServer(begin(), port=0, limits=LIMITS, renew=renew)
    with server.running() as address:
        yield server, address


class Asker(threading.Thread):
    """A client that asks without a pause, and keeps what it was told."""

    def __init__(self, address: str, stop: threading.Event) -> None:
        super().__init__()
        self.address, self.stop = address, stop
        self.told: list[tuple[int, float]] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with PolicyClient(self.address) as client:
                while not self.stop.is_set():
                    answer = client.infer(see())
                    self.told.append((answer["policy_version"], float(answer["actions"][0, 0])))
        except Exception as error:
            self.error = error


def test_clients_that_ask_all_the_time_notice_nothing(tmp_path: Path) -> None:
    file, stop = tmp_path / "number", threading.Event()
    with serving(file) as (server, address):
        askers = [Asker(address, stop) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            wait_until(lambda: all(asker.told for asker in askers))
            file.write_text("0.5")
            server.renew()
            wait_until(lambda: all(asker.error or asker.told[-1][0] == 2 for asker in askers))
        finally:
            stop.set()
            for asker in askers:
                asker.join()
        assert [asker.error for asker in askers] == [None] * 4
        for asker in askers:
            versions = [version for version, _ in asker.told]
            assert versions == sorted(versions)
            assert set(asker.told) == {(1, 0.25), (2, 0.5)}
        with PolicyClient(address) as client:
            assert client.metadata["policy_version"] == 2


@pytest.mark.parametrize(("said", "why"), [("other", "robot: 'two-link' ≠ 'three-link'"), ("unable", "no checkpoint")])
def test_one_that_does_not_fit_or_load_is_refused_and_the_old_one_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, said: str, why: str
) -> None:
    file = tmp_path / "number"
    with serving(file) as (server, address), PolicyClient(address) as client:
        file.write_text(said)
        server.renew()
        wait_until(lambda: "not exchanged" in caplog.text)
        assert why in caplog.text
        assert "the old one goes on" in caplog.text
        answer = client.infer(see())
        assert (answer["policy_version"], answer["actions"][0, 0]) == (1, 0.25)
        file.write_text("0.5")
        server.renew()
        wait_until(lambda: client.infer(see())["policy_version"] == 2)


def test_what_is_there_already_is_not_loaded_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with serving(tmp_path / "number") as (server, address), PolicyClient(address) as client:
        server.renew()
        wait_until(lambda: "nothing newer is there" in caplog.text)
        assert client.infer(see())["policy_version"] == 1
