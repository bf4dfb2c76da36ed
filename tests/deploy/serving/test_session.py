"""Optional keys of a request, which stock clients never send: what supersedes, what is committed, what is told once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vla.core.errors import ServeError
from vla.core.types import Observation
from vla.deploy.client import PolicyClient
from vla.deploy.remote import RemotePolicy
from vla.deploy.serving.server import PolicyServer

Observe = Callable[..., dict[str, Any]]


def test_the_latest_observation_wins(address: str, policy: Any, observation: Observe) -> None:
    with PolicyClient(address) as busy, PolicyClient(address) as client:
        busy.send(observation("a little slow"))
        for value in (1.0, 2.0, 3.0):
            client.send({**observation(value=value), "supersede": True})
        told = [client.receive() for _ in range(3)]
        assert [answer.get("superseded") for answer in told] == [True, True, None]
        assert [answer["sequence"] for answer in told] == [1, 2, 3]
        assert told[2]["actions"][0, 0] == 3.0
        assert busy.receive()["actions"].shape == (4, 2)
        assert client.infer(observation(value=4.0))["actions"][0, 0] == 4.0
    assert [seen.state[0] for seen in policy.seen if seen.state[0] >= 1] == [3.0, 4.0]


def test_one_that_the_policy_works_on_is_superseded_too(address: str, policy: Any, observation: Observe) -> None:
    with PolicyClient(address) as client:
        client.send({**observation("slow", value=1.0), "supersede": True})
        client.send({**observation("reach", value=2.0), "supersede": True, "reset": True})
        assert client.receive() == {"superseded": True, "sequence": 1}
        assert not [seen for seen in policy.seen if seen.state[0] == 2.0]  # answered while the policy is busy
        answer = client.receive()
        assert (answer["actions"][0, 0], answer["signals"]["count"]) == (2.0, [1.0])


def test_the_reset_of_a_superseded_request_is_not_lost(address: str, policy: Any, observation: Observe) -> None:
    with PolicyClient(address) as busy, PolicyClient(address) as client:
        assert [client.infer(observation())["signals"]["count"] for _ in range(2)] == [[1.0], [2.0]]
        busy.send(observation("a little slow"))
        client.send({**observation(), "supersede": True, "reset": True})
        client.send(observation())
        assert client.receive()["superseded"]
        assert client.receive()["signals"]["count"] == [1.0]
        busy.receive()


def test_without_the_key_every_request_is_answered_in_order(address: str, observation: Observe) -> None:
    with PolicyClient(address) as busy, PolicyClient(address) as client:
        busy.send(observation("a little slow"))
        for value in (1.0, 2.0):
            client.send(observation(value=value))
        assert [client.receive()["actions"][0, 0] for _ in range(2)] == [1.0, 2.0]
        busy.receive()


def test_who_leaves_after_superseding_frees_the_place(address: str, observation: Observe) -> None:
    client = PolicyClient(address)
    client.send({**observation("a little slow"), "supersede": True})
    client.close()
    with PolicyClient(address) as other:
        assert other.infer(observation())["actions"].shape == (4, 2)


def test_an_episode_keeps_the_instruction_that_it_was_told(address: str, policy: Any, observation: Observe) -> None:
    silent = {key: value for key, value in observation().items() if key != "prompt"}
    with PolicyClient(address) as client:
        with pytest.raises(ServeError, match=r"expected prompt, .* the episode has none"):
            client.infer(silent)
        client.reset("put it there")
        client.infer(silent)
        client.infer(silent)
        client.infer(observation("now here"))
        client.infer(silent)
        client.reset()
        with pytest.raises(ServeError, match="the episode has none"):
            client.infer(silent)
    assert [seen.instruction for seen in policy.seen[1:]] == ["put it there"] * 2 + ["now here"] * 2


@pytest.fixture
def committing(policy: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    contract = policy.contract
    monkeypatch.setattr(
        type(policy), "contract", replace(contract, policy=replace(contract.policy, committed=2)), raising=True
    )
    return policy


def test_committed_commands_reach_the_policy(committing: Any, observation: Observe) -> None:
    rows = np.array([[1.0, 2.0], [3.0, 4.0]])
    with PolicyServer(committing, port=0).running() as address:
        with PolicyClient(address) as client:
            assert "committed" in client.metadata["optional"]
            client.infer({**observation(), "committed": rows})
            client.infer(observation())
            with pytest.raises(ServeError, match=r"committed: expected at most 2 steps.* got 3"):
                client.infer({**observation(), "committed": np.zeros((3, 2), np.float32)})
            with pytest.raises(ServeError, match=r"committed: actions: expected float32 \(horizon, 2\)"):
                client.infer({**observation(), "committed": np.zeros((1, 3), np.float32)})
        remote = RemotePolicy(address)
        images = {"front": np.zeros((8, 6, 3), np.uint8), "wrist": np.zeros((4, 4, 3), np.uint8)}
        seen = Observation(images=images, state=np.zeros(3, np.float32), instruction="reach", time_ns=1)
        remote.act([replace(seen, committed=rows.astype(np.float32)[:1])])
        remote.close()
    first, second, third = (seen.committed for seen in committing.seen[1:])
    np.testing.assert_array_equal(first, rows.astype(np.float32))
    assert second is None
    np.testing.assert_array_equal(third, rows[:1])


def test_a_policy_that_was_not_trained_for_it_is_sent_nothing(address: str, observation: Observe) -> None:
    with PolicyClient(address) as client, pytest.raises(ServeError, match="at most 0 steps"):
        client.infer({**observation(), "committed": np.zeros((1, 2), np.float32)})


@pytest.fixture
def listening(policy: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    contract = policy.contract
    monkeypatch.setattr(
        type(policy), "contract", replace(contract, policy=replace(contract.policy, speech=True)), raising=True
    )
    return policy


def test_an_episode_keeps_what_it_was_told_written_or_spoken(listening: Any, observation: Observe) -> None:
    one, other = (np.full(4000, value, np.float32) for value in (0.25, 0.5))
    silent = {key: value for key, value in observation().items() if key != "prompt"}
    with PolicyServer(listening, port=0).running() as address, PolicyClient(address) as client:
        client.reset(speech=one)
        client.infer(silent)
        client.infer({**silent, "speech": other.astype(np.float64)})
        client.infer(silent)
        client.infer(observation("now here"))  # what is written takes back what was said
        client.infer(silent)
        client.infer({**observation("both"), "speech": one})
        client.infer(silent)
        client.reset()
        with pytest.raises(ServeError, match="the episode has none"):
            client.infer(silent)
    seen = [(o.instruction, None if o.speech is None else float(o.speech[0])) for o in listening.seen[1:]]
    assert seen == [("", 0.25), ("", 0.5), ("", 0.5), ("now here", None), ("now here", None)] + [("both", 0.25)] * 2
    assert listening.seen[1].speech.dtype == np.float32


def test_speech_of_a_policy_elsewhere_arrives(listening: Any) -> None:
    said = np.linspace(-1, 1, 5000, dtype=np.float32)
    images = {"front": np.zeros((8, 6, 3), np.uint8), "wrist": np.zeros((4, 4, 3), np.uint8)}
    seen = Observation(images=images, state=np.zeros(3, np.float32), instruction="", time_ns=1, speech=said)
    with PolicyServer(listening, port=0).running() as address:
        remote = RemotePolicy(address)
        assert remote.contract.policy is not None
        assert remote.contract.policy.speech
        remote.act([seen])
        remote.act([replace(seen, speech=None)])
        remote.close()
    np.testing.assert_array_equal(listening.seen[-2].speech, said)
    assert listening.seen[-1].speech is None


@pytest.mark.parametrize(
    ("speech", "says"),
    [
        (
            np.zeros((2, 4000), np.float32),
            r"speech: expected mono float32 \(samples,\) at .* got float32 \(2, 4000\)",
        ),
        (np.zeros(200, np.float32), "speech: expected 0.1 to 8 s, got 200 samples"),
        (np.full(4000, 300.0), "from -1 to 1, got 300; divide int16 by 32768"),
        ([0.0] * 4000, "got list"),
    ],
)
def test_what_is_no_speech_is_refused(listening: Any, observation: Observe, speech: Any, says: str) -> None:
    with PolicyServer(listening, port=0).running() as address, PolicyClient(address) as client:
        with pytest.raises(ServeError, match=says):
            client.infer({**observation(), "speech": speech})
        assert client.infer(observation())["actions"].shape == (4, 2)


def test_who_does_not_listen_says_so_and_plain_clients_notice_nothing(address: str, observation: Observe) -> None:
    with PolicyClient(address) as client:
        assert "speech" not in client.metadata["contract"]["policy"]
        with pytest.raises(ServeError, match="speech: the policy reads instructions and was not trained to listen"):
            client.infer({**observation(), "speech": np.zeros(4000, np.float32)})
