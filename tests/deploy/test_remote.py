import dataclasses
import threading

import numpy as np
import pytest
from websockets.sync.server import serve

from vla.core.errors import ServeError
from vla.core.types import Observation, Policy
from vla.deploy.remote import RemotePolicy
from vla.deploy.serving.server import PolicyServer
from vla.deploy.wire import pack


@pytest.fixture
def remote(address):
    policy = RemotePolicy(address)
    yield policy
    policy.close()


def see(value: float, prompt: str = "reach") -> Observation:
    images = {"front": np.zeros((8, 6, 3), np.uint8), "wrist": np.zeros((4, 4, 3), np.uint8)}
    return Observation(images=images, state=np.full(3, value, np.float32), instruction=prompt, time_ns=int(value))


def test_it_is_a_policy_with_the_contract_of_the_server(remote, policy):
    assert isinstance(remote, Policy)
    assert remote.contract.digest() == policy.contract.digest()


def test_slots_have_their_own_episodes(remote):
    for slot in range(3):
        remote.reset(slot)
    first = remote.act([see(1), None, see(3)])
    assert first[1] is None
    assert [c.actions[0, 0] for c in first if c is not None] == [1, 3]
    assert [c.time_ns for c in first if c is not None] == [1, 3]
    second = remote.act([see(1), see(2), see(3)])
    assert [c.signals["count"].tolist() for c in second] == [[2], [1], [2]]
    remote.reset(2)
    assert [c.signals["count"].tolist() for c in remote.act([see(1), see(2), see(3)])] == [[3], [2], [1]]


def test_the_observation_arrives_with_its_time(remote, policy):
    remote.act([see(5)])
    assert policy.seen[-1].time_ns == 5


def test_an_error_on_one_slot_does_not_mix_up_the_others(remote, policy):
    with pytest.raises(ServeError, match="NaN"):
        remote.act([see(1), see(2, "nan"), see(3)])
    assert [c.actions[0, 0] for c in remote.act([see(4), see(5), see(6)])] == [4, 5, 6]


def test_the_next_episode_reconnects(policy):
    with PolicyServer(policy, port=0).running() as address:
        remote = RemotePolicy(address)
        remote.act([see(1)])
    port = int(address.rpartition(":")[2])
    with pytest.raises(ServeError, match="closed the connection"):
        remote.act([see(1)])
    with pytest.raises(ServeError, match="is closed; connect again"):
        remote.act([see(1)])
    with PolicyServer(policy, port=port).running():
        remote.reset(0)
        assert remote.act([see(2)])[0].actions[0, 0] == 2
        remote.close()


def test_another_contract_behind_the_same_address_is_refused(policy):
    with PolicyServer(policy, port=0).running() as address:
        remote = RemotePolicy(address)
    policy.__class__ = type("Other", (type(policy),), {})
    type(policy).contract = property(lambda _: dataclasses.replace(remote.contract, robot="another"))
    with PolicyServer(policy, port=int(address.rpartition(":")[2])).running():
        remote.close()
        with pytest.raises(ServeError, match="now serves a policy with another contract"):
            remote.act([see(1)])


def test_a_server_without_contract_is_refused():
    def talk(connection):
        connection.send(pack({}))
        for _ in connection:
            pass

    with serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(ServeError, match="publishes no contract"):
            RemotePolicy(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        server.shutdown()
        thread.join()
