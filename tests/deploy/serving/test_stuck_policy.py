"""A policy that hangs, dies or is slow: its clients hear of it in time, health says so, and places come back."""

import contextlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.deploy.policies import ToldPolicy, once
from tests.running import running
from vla.core.errors import ServeError
from vla.deploy.client import PolicyClient
from vla.deploy.engines.policy_process import PolicyProcess
from vla.deploy.limits import Limits
from vla.deploy.serving.server import PolicyServer


def see(told: str = "go") -> dict[str, Any]:
    images = {"front": np.zeros((8, 6, 3), np.uint8), "depth": np.zeros((5, 3, 1), np.uint16)}
    images["wrist"] = np.zeros((4, 4, 3), np.uint8)
    return {"images": images, "state": np.zeros(2), "prompt": told}


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address.replace("ws://", "http://") + path, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def in_a_process(make: Any = ToldPolicy, **limits: Any) -> Iterator[str]:
    kept = Limits(clients=3, start_s=60.0, **{"inference_s": 1.0, **limits})
    with (
        contextlib.closing(PolicyProcess(make, slots=3, start_s=60.0)) as policy,
        PolicyServer(policy, port=0, limits=kept).running() as address,
    ):
        yield address


@pytest.fixture
def address() -> Iterator[str]:
    with in_a_process() as address:
        yield address


def test_one_that_hangs_is_begun_anew(address: str) -> None:
    with PolicyClient(address) as client, PolicyClient(address) as other:
        assert client.infer(see())["signals"]["count"] == [1.0]
        assert client.infer(see())["signals"]["count"] == [2.0]
        start = time.monotonic()
        client.send(see("hang"))
        time.sleep(0.2)
        other.send(see())  # waits behind it
        for asked in (client, other):
            with pytest.raises(ServeError, match="did not answer within 1 s; try again soon"):
                asked.receive()
        assert time.monotonic() - start < 4
        for path in ("/healthz", "/readyz"):
            assert get(address, path)[0] == 503
        with pytest.raises(ServeError, match=r"503|anew"):
            PolicyClient(address)
        wait_until(lambda: get(address, "/readyz")[0] == 200)
        assert client.infer(see())["signals"]["count"] == [1.0]
        assert other.infer(see())["signals"]["count"] == [1.0]
        with PolicyClient(address) as third:
            assert third.infer(see())["signals"]["count"] == [1.0]
            assert get(address, "/readyz") == (503, "all places are taken\n")
            assert get(address, "/healthz") == (200, "OK\n")
        metrics = get(address, "/metrics")[1]
        assert 'vla_errors_total{kind="late",policy="default"} 2.0' in metrics
        assert 'vla_policy_restarts_total{policy="default"} 1.0' in metrics


def test_one_that_dies_is_begun_anew(address: str) -> None:
    with PolicyClient(address) as client:
        for told in ("die", "leave"):
            with pytest.raises(ServeError, match="is being started anew; try again soon"):
                client.infer(see(told))
            with contextlib.suppress(ServeError):
                client.infer(see())
            wait_until(lambda: get(address, "/healthz")[0] == 200)
            assert client.infer(see())["actions"].shape == (3, 2)


def test_answers_are_brought_within_limits_and_said(address: str) -> None:
    with PolicyClient(address) as client:
        answer = client.infer({**see(), "state": np.array([5.0, -0.5])})
        np.testing.assert_array_equal(answer["actions"], np.float32([[1.0, -0.5]] * 3))
        assert answer["clipped"] == [0, 1, 2]


def test_a_client_that_leaves_a_hanging_policy_behind_frees_its_place(address: str) -> None:
    for _ in range(3):
        client = PolicyClient(address)
        client.send(see("hang"))
        client.close()
    wait_until(lambda: 'vla_policy_restarts_total{policy="default"} 1.0' in get(address, "/metrics")[1])
    free = 'vla_clients{policy="default"} 0.0'
    wait_until(lambda: get(address, "/readyz")[0] == 200 and free in get(address, "/metrics")[1])
    with PolicyClient(address) as client:
        assert client.infer(see())["actions"].shape == (3, 2)


def test_one_that_cannot_be_begun_anew_ends_the_server(tmp_path: Any) -> None:
    make = partial(once, str(tmp_path / "built"))
    with in_a_process(make, restarts=2) as address, PolicyClient(address) as client:
        with pytest.raises(ServeError, match="anew"):
            client.infer(see("die"))
        wait_until(lambda: _is_gone(address))


def _is_gone(address: str) -> bool:
    try:
        get(address, "/healthz")
    except OSError:
        return True
    return False


def test_on_a_thread_a_slow_answer_is_late_and_the_next_is_served() -> None:
    kept = Limits(clients=2, inference_s=0.3, start_s=60.0)
    with PolicyServer(ToldPolicy(), port=0, limits=kept).running() as address, PolicyClient(address) as client:
        with pytest.raises(ServeError, match=r"did not answer within 0\.3 s"):
            client.infer(see("wait"))
        assert get(address, "/healthz")[0] == 503
        with pytest.raises(ServeError, match="did not answer within"):
            client.infer(see())
        wait_until(lambda: get(address, "/healthz")[0] == 200)
        assert client.infer(see())["actions"].shape == (3, 2)


PROGRAM = """
import sys
from tests.deploy.policies import ToldPolicy
from vla.deploy.limits import Limits
from vla.deploy.serving.server import PolicyServer
server = PolicyServer(ToldPolicy(), port=0, limits=Limits(inference_s=0.5))
server.serve_forever(on_ready=lambda address: (sys.stdout.write(address + chr(10)), sys.stdout.flush()))
"""


def test_on_a_thread_one_that_hangs_ends_the_server_with_an_error() -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([sys.executable, "-c", PROGRAM], **pipes) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            with PolicyClient(address) as client:
                with pytest.raises(ServeError, match="did not answer within"):
                    client.infer(see("hang"))
                _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode != 0
    assert b"the policy hangs, and cannot be ended" in said
