"""A policy in a child: the same answers, and whatever becomes of the child is an error of one line and a new child."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deploy.engines.conftest import Run
from tests.deploy.policies import CONTRACT, ToldPolicy, numbered, once, read, slowly, unable
from vla.core.errors import ConfigError, ContractError
from vla.core.types import ActionChunk, Observation
from vla.deploy.engines.engine import PolicyDiedError, PolicyFailedError, ask
from vla.deploy.engines.policy_process import PolicyProcess


def see(value: int, told: str = "go") -> Observation:
    images = {
        "front": np.full((8, 6, 3), value, np.uint8),
        "depth": np.full((5, 3, 1), 300 * value, np.uint16),
        "wrist": np.full((4, 4, 3), value + 1, np.uint8),
    }
    return Observation(images=images, state=np.full(2, value / 10, np.float32), instruction=told, time_ns=value)


class Child:
    """One that is asked without an event loop of the test's own."""

    def __init__(self, run: Run, make: Any = ToldPolicy, slots: int = 3) -> None:
        self.engine = PolicyProcess(make, slots=slots, start_s=60.0)
        self._run = run

    def act(self, observations: Sequence[Observation | None], resets: Sequence[int] = ()) -> list[ActionChunk | None]:
        return list(self._run(ask(self.engine, observations, resets)))

    def restart(self) -> None:
        self._run(self.engine.restart())


@pytest.fixture
def policy(run: Run) -> Iterator[Child]:
    child = Child(run)
    child.act([], resets=(0, 1, 2))
    yield child
    child.engine.close()


def test_it_answers_as_the_policy_in_it_would(policy: Child) -> None:
    assert policy.engine.contract == CONTRACT
    assert policy.engine.digest == CONTRACT.digest()
    here = ToldPolicy()
    for slot in range(3):
        here.reset(slot)
    asked = [see(1), None, see(3)]
    for theirs, ours in zip(policy.act(asked), here.act(asked), strict=True):
        assert (theirs is None) == (ours is None)
        if theirs is not None and ours is not None:
            np.testing.assert_array_equal(theirs.actions, ours.actions)
            assert theirs.time_ns == ours.time_ns
            assert theirs.signals["means"].tolist() == ours.signals["means"].tolist()
    chunks = policy.act([see(1), None, see(3)], resets=(2,))
    counts = [chunk.signals["count"].item() for chunk in chunks if chunk is not None]
    assert counts == [2, 1]


def test_what_a_policy_keeps_is_not_written_over(policy: Child) -> None:
    policy.act([see(7)])
    (chunk,) = policy.act([see(9)])
    assert chunk is not None
    assert chunk.signals["kept"].item() == 7


def test_errors_cross_as_lines_without_secrets(policy: Child) -> None:
    with pytest.raises(PolicyFailedError, match="failed in act with RuntimeError; the server's log") as caught:
        policy.act([see(1, "fail")])
    assert "secret" not in str(caught.value)
    with pytest.raises(ContractError, match=r"^the instruction is too long$"):
        policy.act([see(1, "refuse")])
    assert policy.act([see(1)])[0] is not None


@pytest.mark.parametrize(("told", "says"), [("die", "died .signal 9"), ("leave", "ended .exit code 3")])
def test_a_dead_child_is_said_and_begun_anew(policy: Child, told: str, says: str) -> None:
    (before,) = policy.act([see(1)])
    with pytest.raises(PolicyDiedError, match=says):
        policy.act([see(1, told)])
    with pytest.raises(PolicyDiedError):
        policy.act([see(1)])
    policy.restart()
    (after,) = policy.act([see(5)], resets=(0,))
    assert before is not None
    assert after is not None
    assert after.signals["process"].item() != before.signals["process"].item()
    assert after.signals["count"].item() == 1
    assert after.signals["means"].tolist() == [5, 1500, 6]


def test_one_that_hangs_is_ended_from_another_thread(policy: Child) -> None:
    threading.Timer(0.2, policy.engine.kill).start()
    start = time.monotonic()
    with pytest.raises(PolicyDiedError, match="signal 9"):
        policy.act([see(1, "hang")])
    assert time.monotonic() - start < 5


def test_one_that_cannot_be_built_says_why() -> None:
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        PolicyProcess(unable, slots=1, start_s=60.0)
    with pytest.raises(PolicyDiedError, match="did not load within 3 s"):
        PolicyProcess(partial(slowly, ToldPolicy, 60), slots=1, start_s=3.0)


def test_a_start_that_fails_later_is_said(run: Run, tmp_path: Path) -> None:
    child = Child(run, partial(once, str(tmp_path / "built")), slots=1)
    child.engine.kill()
    with pytest.raises(PolicyDiedError, match="while it loaded"):
        child.restart()
    child.engine.close()


def test_closing_leaves_nothing(run: Run) -> None:
    held = []
    for _ in range(3):
        child = Child(run, slots=2)
        child.act([see(1), None], resets=(0,))
        child.engine.close()
        child.engine.close()
        with pytest.raises(PolicyDiedError):
            child.restart()
        del child
        run(asyncio.sleep(0))
        gc.collect()  # errors hold frames, and these the children
        held.append(len(os.listdir("/proc/self/fd")))
    assert held[2] <= held[0]  # the first has begun what all share


def test_committed_commands_cross(policy: Child) -> None:
    rows = np.array([[0.5, -0.5]], np.float32)
    (chunk,) = policy.act([replace(see(1, "committed"), committed=rows)])
    assert chunk is not None
    assert chunk.signals["committed"].tolist() == [0.5, -0.5]


def test_speech_crosses(policy: Child) -> None:
    said = np.random.default_rng(0).uniform(-1, 1, 30_000).astype(np.float32)
    heard, read = policy.act([replace(see(1, ""), speech=said), see(2)])
    assert heard is not None
    assert read is not None
    np.testing.assert_array_equal(heard.signals["speech"], said)
    assert "speech" not in read.signals


def test_the_version_is_part_of_the_digest(run: Run, tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0.5")
    make, version = partial(numbered, str(tmp_path / "number")), partial(read, str(tmp_path / "number"))
    engine = PolicyProcess(make, slots=1, start_s=60.0, version=version)
    first = engine.digest
    assert engine.version == "0.5"
    (tmp_path / "number").write_text("0.25")
    engine.kill()
    run(engine.restart())
    assert engine.version == "0.25"
    assert engine.digest != first
    engine.close()
