"""A policy as replicas of Ray Serve, behind the same front: an episode stays where it began."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.deploy.policies import CONTRACT, ToldPolicy, unable
from vla.core.errors import ConfigError, ServeError
from vla.deploy.client import PolicyClient
from vla.deploy.engines.ray_serve import RayReplica, start_serve
from vla.deploy.limits import Limits
from vla.deploy.serving.server import PolicyServer


def see(told: str = "go", value: int = 0) -> dict[str, Any]:
    images = {"front": np.full((8, 6, 3), value, np.uint8), "depth": np.zeros((5, 3, 1), np.uint16)}
    images["wrist"] = np.zeros((4, 4, 3), np.uint8)
    return {"images": images, "state": np.zeros(2), "prompt": told}


@pytest.mark.usefixtures("ray_cluster")
def test_replicas_of_ray_serve_behind_our_front() -> None:
    pytest.importorskip("starlette", reason="Ray Serve is not installed")
    start_serve()
    from ray import serve

    limits = Limits(clients=3, inference_s=2.0, start_s=100.0, restarts=2)
    with contextlib.ExitStack() as stack:
        stack.callback(serve.shutdown)
        with pytest.raises(ConfigError, match="there is no checkpoint"):
            RayReplica("vla-unable", unable, start_s=100.0)
        replicas = [RayReplica(f"vla-{number}", ToldPolicy, start_s=100.0) for number in range(2)]
        assert replicas[0].contract == CONTRACT
        address = stack.enter_context(PolicyServer(replicas, port=0, limits=limits).running())
        clients = [stack.enter_context(PolicyClient(address)) for _ in range(3)]
        first, second, third = (client.infer(see(value=n))["signals"] for n, client in enumerate(clients))
        assert first["means"] == [0.0, 0.0, 0.0]
        assert second["means"] == [1.0, 0.0, 0.0]
        assert first["process"] == third["process"] != second["process"]  # slots 0 and 2 share a replica
        assert [clients[1].infer(see())["signals"]["count"] for _ in range(2)] == [[2.0], [3.0]]
        with pytest.raises(ServeError, match="the instruction is too long"):
            clients[0].infer(see("refuse"))
        with pytest.raises(ServeError, match=r"try again soon"):
            clients[1].infer(see("hang"))
        assert clients[0].infer(see())["actions"].shape == (3, 2)  # the other replica
        assert _until(lambda: clients[1].infer(see())["signals"]["count"]) == [1.0]


def _until(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 100
    while True:
        try:
            return ask()
        except ServeError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
