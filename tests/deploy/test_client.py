import json
import socket
import subprocess
import sys
import threading

import pytest
from websockets.sync.server import serve

from vla.core.errors import ServeError
from vla.deploy.client import PolicyClient
from vla.deploy.wire import pack


@pytest.fixture
def odd_server():
    """Starts a websocket server that sends these frames and then does nothing."""
    running = []

    def start(*frames: bytes | str) -> str:
        def talk(connection):
            for frame in frames:
                connection.send(frame)
            for _ in connection:
                pass

        server = serve(talk, "127.0.0.1", 0)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return f"ws://127.0.0.1:{server.socket.getsockname()[1]}"

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()


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
