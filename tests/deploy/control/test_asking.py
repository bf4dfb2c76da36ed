"""Whoever asks hears each answer once; a policy in a process of its own that hangs or dies is begun anew."""

import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.engines.test_policy_process import see
from tests.deploy.policies import ToldPolicy, once, slowly
from vla.core.errors import RobotError
from vla.deploy.control.asking import Answer, Asking, Question
from vla.deploy.control.realtime import real_time
from vla.deploy.engines.engine import PolicyDiedError
from vla.deploy.engines.policy_process import PolicyProcess


class Watched(ToldPolicy):
    """Remembers which processors it may run on."""

    places: set[int]

    def reset(self, slot: int) -> None:
        super().reset(slot)
        self.places = os.sched_getaffinity(0)


@pytest.fixture
def engine() -> Iterator[PolicyProcess]:
    engine = PolicyProcess(ToldPolicy, slots=1, start_s=60.0)
    yield engine
    engine.close()


def put(asking: Asking, told: str, *, reset: bool = False) -> None:
    asking.ask(Question(observation=see(1, told), step=0, looked_s=time.monotonic()), reset=reset)


def hear(asking: Asking) -> Answer:
    deadline = time.monotonic() + 60
    while (answer := asking.poll(0.02)) is None:
        assert time.monotonic() < deadline
        assert asking.busy
    return answer


def count(answer: Answer) -> int:
    assert answer.chunk is not None, answer.error
    return int(answer.chunk.signals["count"][0])


def watch_kills(engine: PolicyProcess, asking: Asking, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each time that the engine is ended, whether it was being begun anew."""
    kills, kill = list[bool](), engine.kill

    def killed() -> bool:
        kills.append(asking.reviving)
        return kill()

    monkeypatch.setattr(engine, "kill", killed)
    return kills


def test_each_answer_is_given_once_and_to_its_own_question() -> None:
    asking = Asking(ToldPolicy())
    assert asking.poll() is None
    put(asking, "wait", reset=True)
    assert asking.poll() is None
    first = hear(asking)
    assert first.took_s >= 0.5
    assert first.answered_s >= first.question.looked_s + 0.5
    assert not asking.busy
    assert asking.poll() is None
    put(asking, "wait")
    assert asking.poll() is None  # and not the one of before
    assert asking.busy
    assert hear(asking).question is not first.question
    asking.close()


@pytest.mark.parametrize("apart", [False, True], ids=["beside", "in a process"])
def test_an_episode_begins_where_it_is_said_and_nowhere_else(apart: bool, engine: PolicyProcess) -> None:
    asking, counts = Asking(engine if apart else ToldPolicy()), []
    for reset in (True, False, False, True):
        put(asking, "go", reset=reset)
        counts.append(count(hear(asking)))
    assert counts == [1, 2, 3, 1]
    asking.close()


def test_a_policy_that_hangs_is_ended_once_and_begun_anew(
    engine: PolicyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(engine, patience_s=0.3)
    kills = watch_kills(engine, asking, monkeypatch)
    put(asking, "hang", reset=True)
    answer = hear(asking)
    assert isinstance(answer.error, PolicyDiedError)
    assert answer.took_s > 0.3
    assert kills == [False]
    assert not asking.reviving
    put(asking, "go", reset=True)
    assert count(hear(asking)) == 1
    asking.close()


def test_a_policy_that_died_is_not_ended_while_it_is_begun_anew_nor_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which takes longer than an answer may."""
    engine = PolicyProcess(partial(slowly, ToldPolicy, 0.6), slots=1, start_s=60.0)
    asking = Asking(engine, patience_s=0.3)
    kills = watch_kills(engine, asking, monkeypatch)
    put(asking, "die", reset=True)
    began_s, revived = time.monotonic(), False
    while (answer := asking.poll()) is None:
        revived |= asking.reviving
        time.sleep(0.02)
    assert isinstance(answer.error, PolicyDiedError)
    assert revived
    assert time.monotonic() - began_s > 0.3
    assert True not in kills
    assert not asking.reviving
    put(asking, "go", reset=True)
    assert count(hear(asking)) == 1
    asking.close()
    engine.close()


def test_an_answer_that_is_there_is_not_too_late(engine: PolicyProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever somebody comes to take it."""
    asking = Asking(engine, patience_s=0.3)
    kills = watch_kills(engine, asking, monkeypatch)
    put(asking, "go", reset=True)
    time.sleep(0.5)
    assert count(hear(asking)) == 1
    assert not kills
    asking.close()


def test_who_waits_longer_than_patience_lasts_is_given_the_answer(
    engine: PolicyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a first answer, which may take minutes."""
    asking = Asking(engine, patience_s=0.1)
    kills = watch_kills(engine, asking, monkeypatch)
    put(asking, "wait", reset=True)
    time.sleep(0.15)
    answer = asking.poll(30.0)
    assert answer is not None
    assert count(answer) == 1
    assert not kills
    asking.close()


def test_one_that_does_not_come_back_says_so(tmp_path: Path) -> None:
    engine = PolicyProcess(partial(once, str(tmp_path / "built")), slots=1, start_s=60.0)
    asking = Asking(engine)
    put(asking, "die", reset=True)
    error = hear(asking).error
    assert isinstance(error, PolicyDiedError)
    assert "while it loaded" in str(error)
    asking.close()
    engine.close()


def test_a_thread_that_is_begun_from_a_bound_one_does_not_stay_with_it() -> None:
    everywhere, policy = os.sched_getaffinity(0), Watched()
    with real_time(priority=0, core=min(everywhere)):
        asking = Asking(policy)
        put(asking, "go", reset=True)
        hear(asking)
        asking.close()
    assert policy.places == everywhere


def test_nobody_is_left_behind_when_it_is_closed() -> None:
    before = threading.active_count()
    asking = Asking(ToldPolicy())
    put(asking, "go", reset=True)
    assert np.array_equal(hear(asking).question.observation.state, see(1).state)
    asking.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_dies_at_each_question_is_not_begun_anew_for_ever(engine: PolicyProcess) -> None:
    asking = Asking(engine)
    errors = []
    for told in ("die", "go", "die", "die", "die", "die"):
        put(asking, told, reset=True)
        errors.append(hear(asking).error)
    kinds = [PolicyDiedError, type(None), *[PolicyDiedError] * 3, RobotError]
    assert [type(error) for error in errors] == kinds
    assert "ended 4 times without an answer" in str(errors[-1])
    asking.close()
