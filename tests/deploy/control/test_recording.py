"""A drive as an episode: the label is what was asked for, what was sent is kept beside it, and no failure is lost."""

import gc
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deploy.control.arms import Arm, spec
from vla.core.contract import Dimension
from vla.core.errors import DatasetError
from vla.core.types import Observation
from vla.datasets.care.repair import repair
from vla.datasets.dataset import Dataset
from vla.deploy.control import recording
from vla.deploy.control.drive import Step
from vla.deploy.control.recording import DriveRecorder
from vla.deploy.robots.gate import Verdict

CONTRACT = Arm().contract


def step(number: int, *, told: str = "wave", mode: str = "policy") -> Step:
    """Asks for its number, and sends half of it."""
    place = np.array([number, -number], np.float32) / 10
    seen = Observation(images={}, state=place + 1, instruction=told, time_ns=number)
    return Step(
        seen=seen, asked=place if mode in ("policy", "hold", "travel") else None, verdict=Verdict(command=place / 2),
        looked_ns=10_000 * number, sent_ns=10_000 * number + 7, mode=mode, late_s=0.0, inference_s=None, unsure=None,
    )  # fmt: skip


def recorder_of(root: Path, **other: Any) -> DriveRecorder:
    return DriveRecorder(root, replace(CONTRACT, **other), {}, task="wave")


def test_the_label_is_what_was_asked_for_and_what_was_sent_stands_beside_it(tmp_path: Path) -> None:
    modes = ("policy", "policy", "hold", "travel", "pause", "policy")
    with recorder_of(tmp_path / "d") as recorder:
        for number, mode in enumerate(modes, 1):
            recorder(step(number, mode=mode))
        recorder.finish(True)
        recorder.wait()
        assert recorder.episodes == 1
    episode = Dataset.open(tmp_path / "d").read_episode(0)
    numbers = np.arange(1, 7)
    asked = np.where(numbers == 5, numbers / 2, numbers)  # of whom nothing was asked, what was sent
    np.testing.assert_allclose(episode.action[:, 0], asked / 10)
    np.testing.assert_allclose(episode.action_executed[:, 0], numbers / 20)
    np.testing.assert_allclose(episode.state[:, 0], numbers / 10 + 1)
    assert episode.valid.tolist() == [mode == "policy" for mode in modes]
    assert episode.time_ns.tolist() == (10_000 * numbers).tolist()
    assert episode.command_time_ns.tolist() == (10_000 * numbers + 7).tolist()
    assert (episode.success, episode.instruction, episode.task) == (True, "wave", "wave")


def test_a_new_instruction_is_a_new_episode_and_none_is_none(tmp_path: Path) -> None:
    with recorder_of(tmp_path / "d") as recorder:
        for number, told in enumerate(("", "wave", "wave", "", "", "nod", "wave"), 1):
            recorder(step(number, told=told))
    episodes = Dataset.open(tmp_path / "d").episodes
    assert [(e.instruction, e.success) for e in episodes] == [("wave", None), ("nod", None), ("wave", None)]
    assert recorder.episodes == 3


def test_what_is_thrown_away_is_not_published_and_the_next_one_is(tmp_path: Path) -> None:
    with recorder_of(tmp_path / "d") as recorder:
        recorder(step(1))
        recorder.discard()
        recorder(step(2))
        recorder.finish(False)
        recorder.finish(True)  # of none that is open
    (episode,) = Dataset.open(tmp_path / "d").episodes
    assert episode.success is False


def test_a_policys_part_and_signals_are_no_robots(tmp_path: Path) -> None:
    signals = {"hint": (Dimension(name="x", unit="m", low=0.0, high=1.0),)}
    with recorder_of(tmp_path / "d", policy=spec(4, execute=2), signals=signals) as recorder:
        recorder(step(1))
    contract = Dataset.open(tmp_path / "d").contract
    assert contract.policy is None
    assert not contract.signals


def test_what_fails_on_the_thread_is_raised_with_the_next_step_and_spoils_nothing_more(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="time"), recorder_of(tmp_path / "d") as recorder:  # noqa: PT012
        recorder(step(5))
        recorder(step(5))  # time stands still
        recorder(step(6))  # handed over before anybody knows
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            recorder(step(7))
            time.sleep(0.01)
    for how in ("wait", "leave"):
        root = tmp_path / how
        with pytest.raises(DatasetError, match="time"), recorder_of(root) as recorder:  # noqa: PT012
            recorder(step(5))
            recorder(step(5))
            if how == "wait":
                recorder.wait()
                pytest.fail("it was not told")


def test_what_a_failure_has_cut_short_is_left_for_repair(tmp_path: Path) -> None:
    """And nobody is left behind who would still write."""
    threads = threading.active_count()
    with pytest.raises(DatasetError, match="time"), recorder_of(tmp_path / "d") as recorder:  # noqa: PT012
        for number in (1, 2, 3, 3):
            recorder(step(number))
    assert threading.active_count() == threads
    assert repair(tmp_path / "d").done
    assert len(Dataset.open(tmp_path / "d").read_episode(0)) == 3


def test_episodes_that_are_published_are_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session may have thousands."""
    writers = weakref.WeakSet[recording.EpisodeWriter]()

    class Known(recording.EpisodeWriter):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            writers.add(self)

    monkeypatch.setattr(recording, "EpisodeWriter", Known)
    with recorder_of(tmp_path / "d") as recorder:
        for number in range(1, 5):
            recorder(step(number))
            recorder.finish(None)
        recorder(step(9))
        recorder.wait()
        gc.collect()
        assert len(writers) == 1


class Slow(recording.EpisodeWriter):
    """Waits for a word before each step."""

    writing, go_on = threading.Event(), threading.Event()

    def add(self, **row: Any) -> None:
        self.writing.set()
        assert self.go_on.wait(30)
        super().add(**row)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> type[Slow]:
    Slow.writing.clear()
    Slow.go_on.clear()
    monkeypatch.setattr(recording, "EpisodeWriter", Slow)
    return Slow


def test_an_episode_with_a_hole_is_not_published(tmp_path: Path, slow: type[Slow]) -> None:
    with pytest.raises(DatasetError, match="time"), recorder_of(tmp_path / "d") as recorder:  # noqa: PT012
        for number in (5, 5, 6):
            recorder(step(number))
        recorder.finish(True)  # handed over before anybody knows
        slow.go_on.set()
    assert recorder.episodes == 0
    with pytest.raises(DatasetError, match="nothing has been published"):
        Dataset.open(tmp_path / "d")


def test_a_disk_that_is_too_slow_is_an_error_and_holds_up_nobody(
    tmp_path: Path, slow: type[Slow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_MOST_WAITING", 8)
    with recorder_of(tmp_path / "d") as recorder:
        recorder(step(1))
        assert slow.writing.wait(10)
        for number in range(2, 10):
            recorder(step(number))
        threading.Timer(5.0, slow.go_on.set).start()  # so that who waits for it is seen to
        began = time.monotonic()
        with pytest.raises(DatasetError, match="8 steps behind the robot; use a faster disk"):
            recorder(step(10))
        assert time.monotonic() - began < 2
        slow.go_on.set()
    assert Dataset.open(tmp_path / "d").episodes[0].length == 9
