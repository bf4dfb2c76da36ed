import json
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from websockets.sync.server import serve

from vla.core.errors import ServeError
from vla.deploy.client import PolicyClient
from vla.deploy.serving.server import PolicyServer
from vla.deploy.wire import pack, unpack


@pytest.fixture
def talking():
    """Starts a websocket server that talks like this to each client."""
    running = []

    def start(talk) -> str:
        server = serve(talk, "127.0.0.1", 0)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return f"ws://127.0.0.1:{server.socket.getsockname()[1]}"

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()


@pytest.fixture
def odd_server(talking):
    """Starts one that sends these frames and then does nothing."""

    def start(*frames: bytes | str) -> str:
        def talk(connection):
            for frame in frames:
                connection.send(frame)
            for _ in connection:
                pass

        return talking(talk)

    return start


def test_infer_and_metadata(address, observation):
    with PolicyClient(address) as client:
        assert client.metadata["protocol"] == "openpi"
        assert client.infer(observation())["actions"].shape == (4, 2)
        assert not client.closed
    assert client.closed
    client.close()
    with pytest.raises(ServeError, match="is closed; connect again"):
        client.infer(observation())


def test_an_error_of_the_server_leaves_the_connection_usable(address, observation):
    with PolicyClient(address) as client:
        with pytest.raises(
            ServeError, match="answered with an error: the request: expected cameras front, wrist, got front"
        ):
            client.infer({k: v for k, v in observation().items() if k != "observation/wrist"})
        assert client.infer(observation())["actions"].shape == (4, 2)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    says = f"no policy server answers at ws://127.0.0.1:{port} .*vla serve CHECKPOINT --port {port}"
    with pytest.raises(ServeError, match=says):
        PolicyClient(f"ws://127.0.0.1:{port}")


def test_something_else_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ServeError, match=r"no policy server answers at .*TimeoutError"):
            PolicyClient(uri, timeout_s=0.1)


def test_no_websocket_address():
    with pytest.raises(ServeError, match="write ws://HOST:PORT"):
        PolicyClient("http://127.0.0.1:8000")


def test_a_silent_server_times_out(odd_server):
    with pytest.raises(ServeError, match=r"did not answer within 0\.5 s; connection closed"):
        PolicyClient(odd_server(), timeout_s=0.5)


def test_after_a_timeout_no_answer_can_be_taken_for_another(odd_server, observation):
    client = PolicyClient(odd_server(pack({})), timeout_s=0.5)
    with pytest.raises(ServeError, match="did not answer"):
        client.infer(observation())
    assert client.closed


@pytest.mark.parametrize(
    ("frame", "says"),
    [("oops", "error: oops"), (pack([1]), "expected a map, got list"), (b"\xc1", "expected one msgpack value")],
)
def test_a_first_frame_that_is_no_metadata(odd_server, frame, says):
    with pytest.raises(ServeError, match=says):
        PolicyClient(odd_server(frame))


def test_the_client_needs_nothing_but_numpy_msgpack_and_websockets():
    program = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "import vla.deploy.client\n"
        "new = set(sys.modules) - before\n"
        "top = {m.split('.')[0] for m in new} - set(sys.stdlib_module_names)\n"
        "top = {m for m in top if not m.startswith('_')}\n"
        "print(json.dumps([sorted(top), sorted(m for m in new if m.startswith('vla.'))]))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    others, ours = json.loads(result.stdout)
    assert set(others) - {"cython_runtime"} == {"msgpack", "numpy", "vla", "websockets"}  # msgpack is made with Cython
    assert ours == ["vla.core", "vla.core.errors", "vla.deploy", "vla.deploy.client", "vla.deploy.wire"]


@pytest.fixture
def answering(talking):
    """Starts one that publishes this, and answers each request with what ``answer`` makes of it."""

    def start(metadata, answer) -> str:
        def talk(connection):
            connection.send(pack(metadata))
            for frame in connection:
                for reply in answer(unpack(frame)):
                    connection.send(pack(reply))

        return talking(talk)

    return start


LIMITED = {"contract": {"action": [{"low": -1.0, "high": 1.0}, {"low": 0.0, "high": 0.25}]}}
HELD = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(
    ("metadata", "actions", "says"),
    [
        (LIMITED, np.full((4, 2), np.nan, np.float32), "got NaN or infinity"),
        (LIMITED, np.full((4, 2), 1e30, np.float32), r"within their limits, got 1e\+30"),
        (LIMITED, HELD + np.float32(0.26), r"within their limits, got 0\.26"),
        (LIMITED, np.zeros((0, 2), np.float32), r"at least one step, got \(0, 2\)"),
        (LIMITED, np.zeros((4, 3), np.float32), r"\(horizon, 2\) of at least one step, got \(4, 3\)"),
        (LIMITED, np.zeros(4, np.float32), r"got float32 \(4,\)"),
        (LIMITED, np.zeros((4, 2), np.int64), "got int64"),
        (LIMITED, [[0.0, 0.0]], "got list"),
        (LIMITED, None, "got NoneType"),
        ({}, np.full((4, 2), 1e30, np.float32), "within their limits"),
        ({}, np.full((4, 2), -np.inf, np.float64), "NaN or infinity"),
        ({}, np.zeros((0, 7), np.float32), "at least one step"),
    ],
)
def test_what_no_robot_should_do_is_refused(answering, metadata, actions, says):
    with PolicyClient(answering(metadata, lambda request: [{"actions": actions}])) as client:
        with pytest.raises(ServeError, match=says):
            client.infer({"state": np.zeros(2)})
        assert not client.closed


def test_what_rounding_makes_of_a_limit_is_taken(answering):
    address = answering(LIMITED, lambda request: [{"actions": HELD + np.float32(0.25)}])
    with PolicyClient(address) as client:
        assert client.infer({})["actions"].max() == 0.25
        assert client.latency.total_ms > 0


def test_a_contract_without_limits_is_no_contract(answering):
    with pytest.raises(ServeError, match="without the limits of its actions"):
        PolicyClient(answering({"contract": {"action": [{"low": "x"}]}}, lambda request: []))


def test_an_older_answer_is_refused(answering):
    earlier = []

    def answer(request):
        earlier.append(request["sequence"])
        return [{"actions": HELD, "sequence": earlier[0]}]

    client = PolicyClient(answering({**LIMITED, "sequence": True}, answer))
    client.infer({})
    with pytest.raises(ServeError, match="answered request 1 where 2 was asked; connection closed"):
        client.infer({})
    assert client.closed


def test_what_comes_unasked_is_not_the_next_answer(answering):
    client = PolicyClient(answering(LIMITED, lambda request: [{"actions": HELD}] * 2))
    client.infer({})
    time.sleep(0.2)
    with pytest.raises(ServeError, match="spoke without being asked"):
        client.infer({})
    with (
        PolicyClient(answering(LIMITED, lambda request: [])) as other,
        pytest.raises(ServeError, match="nothing was asked"),
    ):
        other.receive()


def test_plain_servers_hear_of_no_sequence(answering):
    seen = []

    def answer(request):
        seen.append(request)
        return [{"actions": HELD}]

    with PolicyClient(answering({}, answer)) as client:
        client.infer({"prompt": "go"})
    assert seen == [{"prompt": "go"}]


def test_latency_is_split_and_adds_up(address, observation):
    with PolicyClient(address) as client:
        start = time.perf_counter()
        client.infer(observation("a little slow"))
        took_ms = (time.perf_counter() - start) * 1e3
    parts = client.latency
    assert 400 <= parts.inference_ms <= parts.total_ms <= took_ms
    assert all(part >= 0 for part in (parts.encode_ms, parts.wire_ms, parts.server_ms, parts.queue_ms))


def test_times_that_a_server_invents_are_kept_in_bounds(answering):
    timing = {"infer_ms": 1e300, "queue_ms": float("nan")}
    reply = {"actions": HELD, "server_timing": timing, "policy_timing": [1]}
    with PolicyClient(answering(LIMITED, lambda request: [reply])) as client:
        client.infer({})
    assert client.latency.total_ms < 1e4
    assert client.latency.wire_ms >= 0


def test_it_reconnects_when_asked_to(policy, observation):
    with PolicyServer(policy, port=0).running() as address:
        client = PolicyClient(address, reconnect=True)
        client.infer(observation())
    with pytest.raises(ServeError, match="closed the connection"):
        client.infer(observation())
    with pytest.raises(ServeError, match="no policy server answers"):
        client.infer(observation())
    with PolicyServer(policy, port=int(address.rpartition(":")[2])).running():
        assert client.infer(observation())["signals"]["count"] == [1.0]
        client.close()
