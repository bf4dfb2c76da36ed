"""A policy in a child: the same answers, and whatever becomes of the child is an error of one line and a new child."""

import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.policies import CONTRACT, ToldPolicy, once, slow_to_build, unable
from vla.core.errors import ConfigError, ContractError
from vla.core.types import Observation, Policy
from vla.deploy.engines.batcher import PolicyDiedError, PolicyFailedError, RestartablePolicy
from vla.deploy.engines.policy_process import PolicyProcess


def see(value: int, told: str = "go") -> Observation:
    images = {
        "front": np.full((8, 6, 3), value, np.uint8),
        "depth": np.full((5, 3, 1), 300 * value, np.uint16),
        "wrist": np.full((4, 4, 3), value + 1, np.uint8),
    }
    return Observation(images=images, state=np.full(2, value / 10, np.float32), instruction=told, time_ns=value)


@pytest.fixture
def policy() -> Iterator[PolicyProcess]:
    child = PolicyProcess(ToldPolicy, slots=3, start_s=60.0)
    for slot in range(3):
        child.reset(slot)
    yield child
    child.close()


def test_it_answers_as_the_policy_in_it_would(policy: PolicyProcess) -> None:
    assert isinstance(policy, Policy)
    assert isinstance(policy, RestartablePolicy)
    assert policy.contract == CONTRACT
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
    policy.reset(2)
    counts = [chunk.signals["count"].item() for chunk in policy.act([see(1), None, see(3)]) if chunk is not None]
    assert counts == [2, 1]


def test_what_a_policy_keeps_is_not_written_over(policy: PolicyProcess) -> None:
    policy.act([see(7)])
    (chunk,) = policy.act([see(9)])
    assert chunk is not None
    assert chunk.signals["kept"].item() == 7


def test_errors_cross_as_lines_without_secrets(policy: PolicyProcess) -> None:
    with pytest.raises(PolicyFailedError, match="failed in act with RuntimeError; the server's log") as caught:
        policy.act([see(1, "fail")])
    assert "secret" not in str(caught.value)
    with pytest.raises(ContractError, match=r"^the instruction is too long$"):
        policy.act([see(1, "refuse")])
    assert policy.act([see(1)])[0] is not None


@pytest.mark.parametrize(("told", "says"), [("die", "died .signal 9"), ("leave", "ended .exit code 3")])
def test_a_dead_child_is_said_and_begun_anew(policy: PolicyProcess, told: str, says: str) -> None:
    (before,) = policy.act([see(1)])
    with pytest.raises(PolicyDiedError, match=says):
        policy.act([see(1, told)])
    with pytest.raises(PolicyDiedError):
        policy.act([see(1)])
    policy.restart()
    policy.reset(0)
    (after,) = policy.act([see(5)])
    assert before is not None
    assert after is not None
    assert after.signals["process"].item() != before.signals["process"].item()
    assert after.signals["count"].item() == 1
    assert after.signals["means"].tolist() == [5, 1500, 6]


def test_one_that_hangs_is_ended_from_another_thread(policy: PolicyProcess) -> None:
    threading.Timer(0.2, policy.kill).start()
    start = time.monotonic()
    with pytest.raises(PolicyDiedError, match="signal 9"):
        policy.act([see(1, "hang")])
    assert time.monotonic() - start < 5


def test_one_that_cannot_be_built_says_why() -> None:
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        PolicyProcess(unable, slots=1, start_s=60.0)
    with pytest.raises(PolicyDiedError, match="did not load within 3 s"):
        PolicyProcess(slow_to_build, slots=1, start_s=3.0)


def test_a_start_that_fails_later_is_said(tmp_path: Path) -> None:
    child = PolicyProcess(partial(once, str(tmp_path / "built")), slots=1, start_s=60.0)
    child.kill()
    with pytest.raises(PolicyDiedError, match="while it loaded"):
        child.restart()
    child.close()


def test_closing_leaves_nothing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        child = PolicyProcess(ToldPolicy, slots=2, start_s=60.0)
        child.reset(0)
        child.act([see(1), None])
        child.close()
        child.close()
        with pytest.raises(PolicyDiedError):
            child.restart()
        del child
    assert len(os.listdir("/proc/self/fd")) <= before + 1
