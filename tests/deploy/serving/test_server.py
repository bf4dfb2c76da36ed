import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.running import running
from vla.core.contract import Contract
from vla.core.errors import ServeError
from vla.deploy.client import PolicyClient
from vla.deploy.limits import Limits
from vla.deploy.serving.server import PolicyServer
from vla.deploy.wire import pack, unpack

# The stock client opens its connection in a way that websockets 17 deprecates; its own code is not ours to change.
stock_client = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")


@pytest.fixture
def stock(address):
    client = WebsocketClientPolicy(address)
    yield client
    client._ws.close()


def healthz(address: str, path: str = "/healthz") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(address.replace("ws://", "http://") + path, timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connect_when_free(address: str) -> PolicyClient:
    """A place becomes free when the server has seen its client's close, a little after the client has."""
    clients: list[PolicyClient] = []

    def try_to() -> bool:
        with contextlib.suppress(ServeError):
            clients.append(PolicyClient(address))
        return bool(clients)

    wait_until(try_to)
    return clients[0]


@stock_client
def test_the_stock_client_is_served(stock, policy, observation):
    metadata = stock.get_server_metadata()
    assert metadata["action_horizon"] == 4
    assert metadata["policy"] == "CountingPolicy"
    assert Contract.from_json(metadata["contract"], where="test").digest() == policy.contract.digest()
    first = stock.infer(observation(value=0.5))
    assert first["actions"].dtype == np.float32
    np.testing.assert_array_equal(first["actions"], 0.5 + np.arange(4, dtype=np.float32)[:, None].repeat(2, 1))
    assert first["policy_timing"]["infer_ms"] >= 0
    assert "prev_total_ms" not in first["server_timing"]
    assert stock.infer(observation())["server_timing"]["prev_total_ms"] > 0
    np.testing.assert_array_equal(policy.seen[-1].images["front"], np.full((8, 6, 3), 7, np.uint8))


@stock_client
def test_the_stock_chunk_broker_steps_through_our_chunks(stock, observation):
    broker = ActionChunkBroker(stock, action_horizon=4)
    steps = [broker.infer(observation(value=1.0)) for _ in range(5)]
    assert [step["actions"].tolist() for step in steps] == [[v, v] for v in (1.0, 2.0, 3.0, 4.0, 1.0)]
    assert [step["signals"]["count"] for step in steps] == [[1.0]] * 4 + [[2.0]]


@stock_client
def test_the_stock_client_survives_an_error(stock, observation):
    with pytest.raises(RuntimeError, match="unknown camera 'top'"):
        stock.infer({**observation(), "observation/top": np.zeros((2, 2, 3), np.uint8)})
    assert stock.infer(observation())["actions"].shape == (4, 2)


def test_errors_of_the_policy_hide_its_traceback_and_are_logged(address, observation, caplog):
    with PolicyClient(address) as client:
        with pytest.raises(ServeError) as caught:
            client.infer(observation("fail"))
        assert "failed in act with RuntimeError" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "secret weights" in caplog.text
        with pytest.raises(ServeError, match=r"actions: .* NaN or infinity"):
            client.infer(observation("nan"))
        with pytest.raises(ServeError, match=r"expected float32 \(horizon, 2\)"):
            client.infer(observation("wrong shape"))
        assert client.infer(observation())["actions"].shape == (4, 2)


@pytest.mark.parametrize(
    "frame",
    ["a text frame", b"\xc1 garbage", b"", b"\x91" * 5000, pack({"state": np.zeros(2)}), pack("text")],
    ids=["text", "garbage", "empty", "deep", "incomplete", "no-map"],
)
def test_bad_frames_get_one_line_and_the_connection_stays(address, observation, frame):
    with connect(address, proxy=None) as connection:
        unpack(connection.recv())
        connection.send(frame)
        reply = connection.recv()
        assert isinstance(reply, str)
        assert "expected" in reply
        assert "\n" not in reply
        connection.send(pack(observation()))
        assert unpack(connection.recv())["actions"].shape == (4, 2)


def test_an_oversize_message_closes_the_connection_of_its_sender_only(policy, observation):
    with (
        PolicyServer(policy, port=0, limits=Limits(message_bytes=4096)).running() as address,
        PolicyClient(address) as other,
    ):
        with connect(address, proxy=None) as connection:
            connection.recv()
            connection.send(bytes(5000))
            with pytest.raises(ConnectionClosed) as caught:
                connection.recv(timeout=5)
        assert caught.value.rcvd.code == 1009
        assert other.infer(observation())["actions"].shape == (4, 2)


def test_a_reset_and_a_new_connection_begin_a_new_episode(policy, observation):
    with PolicyServer(policy, port=0, limits=Limits(clients=1)).running() as address:
        with PolicyClient(address) as client:
            assert [client.infer(observation())["signals"]["count"] for _ in range(2)] == [[1.0], [2.0]]
            assert client.infer({**observation(), "reset": True})["signals"]["count"] == [1.0]
            assert client.infer(observation())["signals"]["count"] == [2.0]
            client.reset()
            assert client.infer(observation())["signals"]["count"] == [1.0]
        with connect_when_free(address) as client:
            assert client.infer(observation())["signals"]["count"] == [1.0]


def test_a_full_server_says_so(policy):
    with (
        PolicyServer(policy, port=0, limits=Limits(clients=1)).running() as address,
        PolicyClient(address),
        pytest.raises(ServeError, match="all 1 places are taken"),
    ):
        PolicyClient(address)


def test_clients_get_the_answers_to_their_own_observations(address, policy, observation):
    def work(value: float) -> None:
        with PolicyClient(address) as client:
            for i in range(20):
                actions = client.infer(observation(value=value + i))["actions"]
                np.testing.assert_array_equal(actions[0], np.float32([value + i] * 2))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [0.0, 100.0, 200.0, 300.0]))
    assert sum(policy.batch_sizes) == 81  # and the warm-up


def test_requests_that_wait_are_batched(address, policy, observation):
    clients = [PolicyClient(address) for _ in range(4)]
    clients[0].send(observation("a little slow"))
    wait_until(lambda: len(policy.batch_sizes) == 2)  # the warm-up and the slow one
    for client in clients[1:]:
        client.send(observation())
    assert [client.receive()["policy_timing"]["batch_size"] for client in clients] == [1, 3, 3, 3]
    assert policy.batch_sizes == [1, 1, 3]
    for client in clients:
        client.close()


def test_a_slow_policy_blocks_neither_health_nor_newcomers(address, observation):
    with PolicyClient(address) as client:
        client.send(observation("slow"))
        time.sleep(0.1)
        start = time.monotonic()
        assert healthz(address) == (200, b"OK\n")
        PolicyClient(address).close()
        assert time.monotonic() - start < 1.0
        assert client.receive()["policy_timing"]["infer_ms"] > 1900


def test_not_healthy_until_warm(policy):
    policy.warm_up_s = 0.5
    with PolicyServer(policy, port=0).running(wait_until_ready=False) as address:
        assert healthz(address)[0] == 503
        with pytest.raises(ServeError, match="503 warming up"):
            PolicyClient(address)
        wait_until(lambda: healthz(address) == (200, b"OK\n"))


def test_a_failed_warm_up_is_reported(policy):
    policy.warm_up_error = RuntimeError("no memory")
    with pytest.raises(ServeError, match=r"the warm-up failed: .*RuntimeError"), PolicyServer(policy, port=0).running():
        pass


@stock_client
def test_the_api_key_is_checked(policy, observation):
    with PolicyServer(policy, port=0, api_key="open sesame").running() as address:
        assert healthz(address) == (200, b"OK\n")
        for wrong in ("wrong", None):
            with pytest.raises(ServeError, match="401 wrong or missing API key"):
                PolicyClient(address, api_key=wrong)
        with pytest.raises(InvalidStatus):
            WebsocketClientPolicy(address, api_key="wrong")
        stock = WebsocketClientPolicy(address, api_key="open sesame")
        assert stock.infer(observation())["actions"].shape == (4, 2)
        stock._ws.close()


def test_web_pages_are_refused(address):
    with pytest.raises(InvalidStatus) as caught:
        connect(address, origin="http://example.com", proxy=None)
    assert caught.value.response.status_code == 403


def test_wrong_settings_are_refused(policy):
    with pytest.raises(ServeError, match=r"port: expected 0 .* to 65535, got 70000"):
        PolicyServer(policy, port=70000)
    with pytest.raises(ServeError, match=r"no API key .* and no TLS"):
        PolicyServer(policy, host="0.0.0.0")
    with pytest.raises(ServeError, match=r"and there is no TLS .* or say --insecure"):
        PolicyServer(policy, host="0.0.0.0", api_key="k")
    with pytest.raises(ServeError, match="API key is empty"):
        PolicyServer(policy, api_key="")
    with pytest.raises(ServeError, match="images of one observation have 192"):
        PolicyServer(policy, limits=Limits(message_bytes=100))
    PolicyServer(policy, host="localhost")


def test_a_busy_port_is_named(policy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                ServeError, match=f"^port {port} on 127.0.0.1 is in use; choose another with --port, or stop"
            ),
            PolicyServer(policy, port=port).running(),
        ):
            pass


def test_an_address_that_is_not_ours_is_refused(policy):
    with (
        pytest.raises(ServeError, match=r"cannot listen on 203\.0\.113\.1"),
        PolicyServer(policy, host="203.0.113.1", port=0, insecure=True).running(),
    ):
        pass


def test_a_client_that_leaves_during_inference_frees_its_place(policy, observation):
    with PolicyServer(policy, port=0, limits=Limits(clients=1)).running() as address:
        client = PolicyClient(address)
        client.send(observation("a little slow"))
        client.close()
        with connect_when_free(address) as other:
            assert other.infer(observation())["signals"]["count"] == [1.0]


def test_stopping_ends_connections_and_threads(policy, observation):
    before = set(threading.enumerate())
    with PolicyServer(policy, port=0).running() as address:
        client = PolicyClient(address)
        client.infer(observation())
    with pytest.raises(ServeError, match="code 1001: the server stops"):
        client.infer(observation())
    wait_until(lambda: set(threading.enumerate()) <= before)  # the client's own ends when it has heard of it


def test_stopping_waits_for_the_inference_in_flight(policy, observation):
    with PolicyServer(policy, port=0).running() as address:
        client = PolicyClient(address)
        client.send(observation("a little slow"))
        wait_until(lambda: len(policy.batch_sizes) == 2)
    with pytest.raises(ServeError, match="code 1001"):
        client.receive()


PROGRAM = """
import sys
from vla.core.contract import Camera, Contract, Dimension
from vla.deploy.serving.server import PolicyServer
from vla.policies.random import RandomPolicy
joint = (Dimension(name="joint", unit="rad", low=-1.0, high=1.0),)
contract = Contract(robot="r", cameras=(), state=joint, action=joint, control_hz=20.0)
server = PolicyServer(RandomPolicy(contract, 4, 0), port=0)
server.serve_forever(on_ready=lambda address: (sys.stdout.write(address + chr(10)), sys.stdout.flush()))
sys.stdout.write("stopped")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_the_server_cleanly(number):
    with running([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        address = process.stdout.readline().decode().strip()
        try:
            with PolicyClient(address) as client:
                message = {"state": np.zeros(1, np.float32), "prompt": ""}
                assert client.infer(message)["actions"].shape == (4, 1)
                process.send_signal(number)
                out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, b"stopped", b"")


def test_a_policy_that_reads_history_is_refused(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(policy.contract.policy, history=2)
    monkeypatch.setattr(type(policy), "contract", replace(policy.contract, policy=spec))
    with pytest.raises(ServeError, match="reads 2 observations, and a request of this protocol holds one"):
        PolicyServer(policy)


def test_metrics_count_what_was_asked_and_need_the_key(policy: Any, observation: Any) -> None:
    with PolicyServer(policy, port=0, api_key="sesame").running() as address:
        url = address.replace("ws://", "http://") + "/metrics"
        with PolicyClient(address, api_key="sesame") as client:
            client.infer(observation())
            for wrong in ({}, observation("fail")):
                with pytest.raises(ServeError):
                    client.infer(wrong)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(url, timeout=5)
            refused.value.close()
            assert refused.value.code == 401
            request = urllib.request.Request(url, headers={"Authorization": "Api-Key sesame"})
            with urllib.request.urlopen(request, timeout=5) as response:
                assert response.headers["Content-Type"].startswith("text/plain; version=")
                found = {family.name: family for family in text_string_to_metric_families(response.read().decode())}
    samples = {(s.name, *s.labels.values()): s.value for family in found.values() for s in family.samples}
    assert samples["vla_requests_total", "default"] == 3
    assert samples["vla_errors_total", "request", "default"] == samples["vla_errors_total", "policy", "default"] == 1
    assert samples["vla_clients", "default"] == samples["vla_ready", "default"] == 1
    assert samples["vla_queue", "default"] == 0
    assert (
        samples["vla_batch_size_count", "default"] == samples["vla_inference_seconds_count", "default"] == 2
    )  # with the warm-up
    assert samples["vla_request_seconds_count", "default"] == 3


def test_ready_is_not_the_same_as_healthy(policy: Any) -> None:
    with PolicyServer(policy, port=0, limits=Limits(clients=1)).running() as address:
        assert healthz(address, "/readyz") == (200, b"OK\n")
        with PolicyClient(address):
            assert healthz(address, "/readyz") == (503, b"all places are taken\n")
            assert healthz(address) == (200, b"OK\n")
        wait_until(lambda: healthz(address, "/readyz")[0] == 200)
