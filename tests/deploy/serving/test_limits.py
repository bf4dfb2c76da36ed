"""Clients that cost too much, over real sockets: the others are served meanwhile, and nothing stays behind."""

import asyncio
import contextlib
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from websockets.frames import Opcode
from websockets.sync.client import connect

from tests.running import running
from vla.bench.serving.raw import dial, frame, is_open, raw_client
from vla.core.errors import ServeError
from vla.deploy.client import PolicyClient
from vla.deploy.limits import Limits, image_bytes
from vla.deploy.serving.places import Pace
from vla.deploy.serving.server import PolicyServer
from vla.deploy.wire import pack, unpack

Observe = Callable[..., dict[str, Any]]
PING = frame(Opcode.PING, bytes(125))


@contextlib.contextmanager
def serving(policy: Any, **limits: Any) -> Iterator[str]:
    with PolicyServer(policy, port=0, limits=Limits(**limits)).running() as address:
        yield address


def metric(address: str, name: str) -> float:
    with urllib.request.urlopen(address.replace("ws://", "http://") + "/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_limit_is_a_number_above_zero(policy: Any) -> None:
    for name in ("clients", "inference_s", "requests_per_s", "write_bytes"):
        with pytest.raises(ServeError, match=f"limits.{name}: expected a number above 0"):
            Limits(**{name: type(getattr(Limits(), name))(0)})
    with pytest.raises(ServeError, match=r"limits\.sockets: expected at least one"):
        Limits(clients=10, sockets=9)
    assert image_bytes(policy.contract) == 192
    assert Limits().most_message_bytes(policy.contract) > 2 << 20


def test_a_long_instruction_is_refused_before_the_policy_sees_it(policy: Any, observation: Observe) -> None:
    with serving(policy, message_bytes=16 << 20) as address, PolicyClient(address) as other:
        with PolicyClient(address) as client:
            with pytest.raises(ServeError, match="prompt: expected at most 1000 characters, got 8388608"):
                client.infer(observation("x" * (8 << 20)))
            assert client.infer(observation("x" * 1000))["actions"].shape == (4, 2)
        assert other.infer(observation())["actions"].shape == (4, 2)
    assert max(len(seen.instruction) for seen in policy.seen) == 1000


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"state": [[[[[[[[1]]]]]]]]}, "at most 8 lists and maps within each other"),
        ({"state": np.zeros((1,) * 5)}, "at most 4 dimensions, got 5"),
        ({"state": [0] * 100}, "exceeds max_array_len|at most 50 elements"),
    ],
)
def test_the_form_of_messages_has_its_limits(policy: Any, message: Any, says: str) -> None:
    with serving(policy, rank=4, items=50) as address, connect(address, proxy=None) as connection:
        unpack(connection.recv())
        connection.send(pack(message))
        reply = connection.recv()
        assert isinstance(reply, str)
        assert re.search(says, reply)


def test_idle_clients_give_their_places_to_newcomers(policy: Any, observation: Observe) -> None:
    with serving(policy, clients=3, idle_s=1.0) as address:
        idle = [PolicyClient(address) for _ in range(2)]  # they answer pings
        with PolicyClient(address) as busy:
            busy.infer(observation())
            with pytest.raises(ServeError, match="all 3 places are taken"):
                PolicyClient(address)
            deadline = time.monotonic() + 1.2
            while time.monotonic() < deadline:
                busy.infer(observation())
            newcomers = [PolicyClient(address) for _ in range(2)]
            for client in (busy, *newcomers):
                assert client.infer(observation())["actions"].shape == (4, 2)
            with pytest.raises(ServeError, match="idle: a newcomer needed the place"):
                idle[0].infer(observation())
            assert metric(address, 'vla_clients{policy="default"} ') == 3
            assert metric(address, 'vla_dropped_total{reason="idle"}') == 2
            for client in (*idle, *newcomers):
                client.close()


def test_an_idle_client_stays_while_nobody_needs_its_place(policy: Any, observation: Observe) -> None:
    with serving(policy, clients=2, idle_s=0.05) as address, PolicyClient(address) as idle, PolicyClient(address):
        time.sleep(0.3)
        assert idle.infer(observation())["actions"].shape == (4, 2)


def test_who_pings_and_never_reads_is_dropped(policy: Any, observation: Observe) -> None:
    with serving(policy, write_bytes=1 << 16, frames_per_s=1e9) as address, PolicyClient(address) as other:
        with raw_client(address) as connection, contextlib.suppress(OSError):
            for _ in range(2000):
                connection.sendall(PING * 100)
        wait_until(lambda: metric(address, 'vla_dropped_total{reason="answers"}') == 1)
        assert other.infer(observation())["actions"].shape == (4, 2)


def test_who_does_not_read_answers_is_dropped(policy: Any, observation: Observe) -> None:
    """However much may wait for it: the time of a write is bounded too."""
    policy.long = 1 << 18  # steps: an answer has 2 MB, more than the kernel keeps of a few
    with serving(policy, write_bytes=1 << 30, write_s=0.3) as address:
        with raw_client(address) as connection, contextlib.suppress(OSError):
            for _ in range(20):
                connection.sendall(frame(Opcode.BINARY, pack(observation("long"))))
            wait_until(lambda: metric(address, 'vla_dropped_total{reason="answers"}') == 1)
        wait_until(lambda: metric(address, 'vla_clients{policy="default"} ') == 0)


def test_who_sends_more_than_a_few_messages_that_nobody_takes_is_dropped(policy: Any) -> None:
    """Pings are answered, and no message among them."""
    with serving(policy, message_bytes=1000, frames_per_s=1e9) as address, raw_client(address) as connection:
        connection.sendall(PING * 25)
        assert is_open(connection, 0.2)
        connection.sendall(PING * 10)
        assert not is_open(connection, 5.0)
        assert metric(address, 'vla_dropped_total{reason="bytes"}') == 1


@pytest.mark.parametrize("piece", [frame(Opcode.PING, b""), frame(Opcode.CONT, b"", last=False)], ids=["ping", "empty"])
def test_a_flood_of_small_frames_is_ended(policy: Any, observation: Observe, piece: bytes) -> None:
    with serving(policy, frames_per_s=500.0) as address, PolicyClient(address) as other:
        with raw_client(address) as connection:
            connection.sendall(frame(Opcode.BINARY, b"x", last=False))
            reader = threading.Thread(target=is_open, args=(connection, 20.0))
            reader.start()
            with pytest.raises(OSError):  # noqa: PT012
                for _ in range(20000):
                    connection.sendall(piece * 1000)
            reader.join()
        assert metric(address, 'vla_dropped_total{reason="frames"}') == 1
        assert other.infer(observation())["actions"].shape == (4, 2)


def test_who_is_too_fast_waits(policy: Any, observation: Observe) -> None:
    with serving(policy, requests_per_s=20.0) as address, PolicyClient(address) as client:
        start = time.monotonic()
        for _ in range(40):
            client.infer(observation())
        assert 0.8 < time.monotonic() - start < 5


def test_large_messages_count_by_their_size() -> None:
    pace = Pace(1000.0, 100.0)

    async def three() -> None:
        for _ in range(3):
            await pace.wait(50)

    start = time.monotonic()
    asyncio.run(three())
    assert 0.4 < time.monotonic() - start < 5


def test_a_handshake_that_does_not_end_is_ended(policy: Any) -> None:
    with serving(policy, handshake_s=0.3) as address, dial(address) as silent, dial(address) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost")
        assert not is_open(silent, 5.0)
        assert not is_open(slow, 5.0)


def test_no_more_sockets_than_allowed(policy: Any, observation: Observe) -> None:
    with serving(policy, clients=2, sockets=4, handshake_s=1.0) as address:
        with PolicyClient(address) as client, contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(dial(address))
            one_more = stack.enter_context(dial(address))
            assert not is_open(one_more, 0.5)
            assert client.infer(observation())["actions"].shape == (4, 2)
        wait_until(lambda: _connects(address))


def _connects(address: str) -> bool:
    try:
        PolicyClient(address).close()
    except ServeError:
        return False
    return True


def test_a_message_without_an_end_does_not_keep_its_place(policy: Any, observation: Observe) -> None:
    with serving(policy, clients=1, idle_s=0.3) as address, raw_client(address) as slow:
        for _ in range(5):
            slow.sendall(frame(Opcode.BINARY, b"\x81", last=False)[:3])
            time.sleep(0.1)
        with PolicyClient(address) as client:
            assert client.infer(observation())["actions"].shape == (4, 2)


PROGRAM = """
import sys
from tests.deploy.policies import ToldPolicy
from vla.deploy.serving.server import PolicyServer
server = PolicyServer(ToldPolicy(), port=0)
server.serve_forever(on_ready=lambda address: (sys.stdout.write(address + chr(10)), sys.stdout.flush()))
"""


def test_a_stop_under_load_takes_a_moment() -> None:
    images = {"front": np.zeros((8, 6, 3), np.uint8), "wrist": np.zeros((4, 4, 3), np.uint8)}
    message = {"images": {**images, "depth": np.zeros((5, 3, 1), np.uint16)}, "state": np.zeros(2), "prompt": "wait"}
    with running([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            with contextlib.ExitStack() as stack:
                for _ in range(8):
                    stack.enter_context(connect(address, proxy=None)).send(pack(message))
                mute = stack.enter_context(raw_client(address))
                mute.sendall(PING * 1000)
                stack.enter_context(dial(address))
                start = time.monotonic()
                process.terminate()
                assert process.wait(timeout=20) == 0
                assert time.monotonic() - start < 4
        finally:
            process.kill()
