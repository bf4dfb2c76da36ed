"""Several policies behind one address: each by its name, with its own contract, clients and health."""

import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy

from tests.deploy.policies import ToldPolicy
from vla.core.errors import ServeError
from vla.deploy.client import PolicyClient
from vla.deploy.remote import RemotePolicy
from vla.deploy.serving.server import PolicyServer, is_name

Observe = Callable[..., dict[str, Any]]


def metrics(address: str) -> str:
    with urllib.request.urlopen(address.replace("ws://", "http://") + "/metrics", timeout=5) as response:
        text: str = response.read().decode()
    return text


@pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")
def test_the_path_names_the_policy_and_the_first_needs_no_name(policy: Any, observation: Observe) -> None:
    with PolicyServer({"place": policy, "other": ToldPolicy()}, port=0).running() as address:
        with PolicyClient(address) as first, PolicyClient(f"{address}/place") as same:
            assert first.metadata["policy"] == same.metadata["policy"] == "CountingPolicy"
            for client in (first, same):
                assert client.infer(observation())["actions"].shape == (4, 2)
        stock = WebsocketClientPolicy(f"{address}/other")
        assert stock.get_server_metadata()["action_horizon"] == 3
        with pytest.raises(RuntimeError, match=r"unknown camera 'front'|expected cameras front, depth, wrist"):
            stock.infer(observation())
        stock._ws.close()
        remote = RemotePolicy(f"{address}/other")
        assert [camera.name for camera in remote.contract.cameras] == ["front", "depth", "wrist"]
        remote.close()
        with pytest.raises(ServeError, match=r"404 no policy of that name; there is /place, /other"):
            PolicyClient(f"{address}/push")
        said = metrics(address)
        assert 'vla_requests_total{policy="place"} 2.0' in said
        assert 'vla_requests_total{policy="other"} 1.0' in said
        assert 'vla_errors_total{kind="request",policy="other"} 1.0' in said


def test_health_says_which_is_not_well(policy: Any) -> None:
    policy.warm_up_s = 1.0
    with PolicyServer({"a": ToldPolicy(), "b": policy}, port=0).running(wait_until_ready=False) as address:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address.replace("ws://", "http://") + "/healthz", timeout=5)
        with caught.value as refused:
            assert refused.code == 503
            assert "b: warming up" in refused.read().decode()


def test_names_are_paths_and_not_the_server_s_own() -> None:
    assert is_name("place_2")
    for name in ("", "a/b", "metrics", "healthz", "..", "a b"):
        assert not is_name(name)
    with pytest.raises(ServeError, match="policies: expected names"):
        PolicyServer({"readyz": ToldPolicy()})


def test_each_has_its_own_slots(policy: Any, observation: Observe) -> None:
    with (
        PolicyServer({"a": policy, "b": ToldPolicy()}, port=0).running() as address,
        PolicyClient(f"{address}/a") as a,
        PolicyClient(f"{address}/b") as b,
    ):
        images = {"front": np.zeros((8, 6, 3), np.uint8), "depth": np.zeros((5, 3, 1), np.uint16)}
        seen = {"images": {**images, "wrist": np.zeros((4, 4, 3), np.uint8)}, "state": np.zeros(2), "prompt": "go"}
        assert [b.infer(seen)["signals"]["count"] for _ in range(2)] == [[1.0], [2.0]]
        assert a.infer(observation())["signals"]["count"] == [1.0]
