"""What was served is answered again, bit for bit; another policy is found out, and so is a gap."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deploy.conftest import CONTRACT, CountingPolicy
from vla.core.errors import ServeError
from vla.core.types import ActionChunk, Observation
from vla.deploy.client import PolicyClient
from vla.deploy.engines.engine import Acted
from vla.deploy.engines.policy_thread import PolicyThread
from vla.deploy.limits import Limits
from vla.deploy.recording.frames import FrameWriter
from vla.deploy.recording.record import Kept, Recorder
from vla.deploy.recording.replay import Replayed, read_about, read_batches, records_in, replay
from vla.deploy.serving.server import PolicyServer
from vla.deploy.wire import pack, unpack

Observe = Callable[..., dict[str, Any]]
SLOTS = 3


class Drawing(CountingPolicy):
    """Adds what it draws: which draw it is depends on the batches before, and on who shares this one."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def _chunk(self, slot: int, observation: Observation) -> ActionChunk:
        chunk = super()._chunk(slot, observation)
        return replace(chunk, actions=chunk.actions + self.rng.normal(size=chunk.actions.shape).astype(np.float32))


def record(folder: Path, use: Callable[[str], None], policy: Any = None) -> None:
    def watch(name: str, registry: Any) -> list[Recorder]:
        about: dict[str, Any] = {"policy": "mine", "contract": CONTRACT, "slots": SLOTS}
        return [Recorder(folder / name, most_bytes=1 << 24, **about)]

    server = PolicyServer(policy or Drawing(), port=0, limits=Limits(clients=SLOTS), watch=watch)
    with server.running() as address:
        use(address)


def again(folder: Path, policy: Any) -> Replayed:
    about = read_about(folder)
    assert (about.policy, about.slots, about.contract.digest()) == ("mine", SLOTS, CONTRACT.digest())
    engine = PolicyThread(policy)
    try:
        return asyncio.run(replay(folder, engine, about.slots))
    finally:
        engine.close()


@pytest.fixture
def folder(tmp_path: Path, observation: Observe) -> Path:
    """A busy time of serving: batches of several, an error, episodes."""

    def use(address: str) -> None:
        clients = [PolicyClient(address) for _ in range(SLOTS)]
        for turn in range(4):
            clients[0].send(observation("a little slow" if turn == 0 else "reach", value=turn))
            for client in clients[1:]:
                client.send({**observation(value=turn / 2), "reset": turn == 2})
            for client in clients:
                client.receive()
        with pytest.raises(ServeError, match="RuntimeError"):
            clients[0].infer(observation("fail"))
        clients[0].infer(observation())
        for client in clients:
            client.close()

    record(tmp_path, use)
    return records_in(tmp_path)["default"]


def test_the_same_policy_answers_the_same_bits(folder: Path) -> None:
    found = again(folder, Drawing())
    assert (found.answers, found.differing, found.unknown, found.lost) == (15, 0, 0, 0)
    assert found.digests == {CONTRACT.digest()}
    assert "15 answers of mine: all the same bits" in found.said("mine", True)


def test_another_policy_is_found_out(folder: Path) -> None:
    found = again(folder, Drawing(seed=1))
    assert found.differing == 14  # all but the one that fails in both
    assert found.first == 1
    assert set(found.largest) == {"shoulder", "elbow"}
    assert "14 differ, first in batch 1" in found.said("mine", False)
    assert "which is not the policy that answered then" in found.said("mine", False)


def test_other_batches_would_not_do(folder: Path) -> None:
    """What the replay is for: the policy asked one by one draws in another order."""
    kept = [batch for batch in read_batches(folder) if batch is not None]
    assert max(len(batch.observations) for batch in kept) > 1
    assert [batch.number for batch in kept] == list(range(1, len(kept) + 1))
    assert [batch.error != "" for batch in kept].count(True) == 1


def rewrite(batches: Sequence[Kept], to: Path) -> None:
    about = {"kind": "policy", "policy": "mine", "slots": SLOTS, "run": 1, "contract": CONTRACT.to_json()}
    writer = FrameWriter(to, 1 << 24, lambda: about)
    for batch in batches:
        writer.append(batch.to_map())
    writer.close()


def test_after_a_gap_only_new_episodes_count(tmp_path: Path, observation: Observe) -> None:
    def use(address: str) -> None:
        with PolicyClient(address) as client:
            for turn in range(6):
                client.infer({**observation(), "reset": turn == 4})

    record(tmp_path, use, CountingPolicy())
    kept = [batch for batch in read_batches(tmp_path / "default") if batch is not None]
    rewrite([batch for batch in kept if batch.number != 3], tmp_path / "gap")
    found = again(tmp_path / "gap", CountingPolicy())
    assert (found.answers, found.lost) == (6, 1)
    assert found.unknown == 2  # its count is one behind, until the next episode
    assert found.differing == 0
    assert "2 differ whose episode is not there from its beginning, which says nothing" in found.said("mine", True)


def test_what_it_died_of_is_not_asked_again(folder: Path, tmp_path: Path) -> None:
    kept = [batch for batch in read_batches(folder) if batch is not None]
    dead = replace(kept[-1], number=kept[-1].number + 1, chunks={}, error="died", died=True)
    rewrite([*kept, dead], tmp_path / "dead")
    assert again(tmp_path / "dead", Drawing()).answers == 15


def test_two_times_of_serving_follow_each_other(folder: Path, tmp_path: Path, observation: Observe) -> None:
    def use(address: str) -> None:
        with PolicyClient(address) as client:
            client.infer(observation())

    record(folder.parent, use, CountingPolicy())
    assert [batch is None for batch in read_batches(folder)].count(True) == 1
    found = again(folder, Drawing())
    assert (found.answers, found.lost) == (17, 0)
    assert found.differing == 2  # those of the other policy


def test_what_is_no_chunk_is_counted_and_nobody_waits(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, policy="mine", contract=CONTRACT, slots=1, most_bytes=1 << 20)
    seen = Observation(images={}, state=np.zeros(3, np.float32), instruction="", time_ns=0)
    recorder(Acted(digest="d", resets=(), observations=[seen], chunks=[None], seconds=0.0))
    asyncio.run(recorder.close())
    assert recorder.lost == 1


def test_what_was_said_is_kept_and_older_records_are_read() -> None:
    images = {"front": np.zeros((8, 6, 3), np.uint8), "wrist": np.zeros((4, 4, 3), np.uint8)}
    said = np.linspace(-1, 1, 4000, dtype=np.float32)
    seen = Observation(images=images, state=np.zeros(3, np.float32), instruction="", time_ns=1, speech=said)
    kept = Kept(number=1, digest="", resets=(), observations={0: seen}, chunks={}, error="no", died=False)
    value = unpack(pack(kept.to_map()))
    np.testing.assert_array_equal(Kept.from_map(value).observations[0].speech, said)
    del value["observations"][0]["speech"]
    assert Kept.from_map(value).observations[0].speech is None
