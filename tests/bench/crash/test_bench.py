"""The crash test would notice: each kind of fault is made, and counted."""

import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from vla.bench.crash.bench import SCENARIOS, STAGES, _plan
from vla.bench.crash.episodes import CODECS, CONTRACT, SeedTruth, cut, digest, make
from vla.bench.crash.ledger import FAULTS, Ledger
from vla.bench.crash.processes import Child, Children
from vla.bench.crash.roles import record_episodes, say, write_segments
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_dataset(tmp_path / "data", CONTRACT, CODECS)
    return tmp_path / "data"


def write(root: Path, *seeds: int) -> dict[str, str]:
    """Publish episodes; their digests by uid."""
    with SegmentWriter(root, CONTRACT, {}) as writer:
        found = {writer.append(make(seed)): digest(make(seed)) for seed in seeds}
        publish(root, [writer.seal()], "test")
    return found


def dead(root: Path, **said: Any) -> Child:
    """A process that was killed a second ago, and what it had said."""
    ours, _ = multiprocessing.Pipe()
    killed_ns = time.monotonic_ns() - 10**9
    return Child(process=None, pipe=ours, root=root, role="writer", killed_ns=killed_ns, ended=True, **said)


@pytest.fixture
def settle(root: Path) -> Callable[[Child], dict[str, float]]:
    """Judges what one process had promised; the values of the rows."""

    def run(child: Child) -> dict[str, float]:
        ledger = Ledger(lambda text: None)
        ledger.open(root, None)
        ledger.settle([child])
        return {row.name: row.value for row in ledger.rows()}

    return run


def faults(values: dict[str, float]) -> dict[str, float]:
    return {name: values[what] for name, (what, _) in FAULTS.items() if values[what]}


def test_all_is_well(root: Path, settle: Callable[[Child], dict[str, float]]) -> None:
    values = settle(dead(root, sealed=write(root, 1, 2), published={}))
    assert faults(values) == {}
    assert values["committed episodes"] == values["episodes compared after kills"] == 2


def test_a_lost_episode(root: Path, settle: Callable[[Child], dict[str, float]]) -> None:
    promised = write(root, 1) | {"somewhere-000000": digest(make(2))}
    assert faults(settle(dead(root, sealed=promised))) == {"lost": 1}


def test_all_is_lost(root: Path, settle: Callable[[Child], dict[str, float]]) -> None:
    assert faults(settle(dead(root, sealed={"somewhere-000000": digest(make(2))}))) == {"lost": 1}


def test_another_episode_than_was_promised(root: Path, settle: Callable[[Child], dict[str, float]]) -> None:
    (uid,) = write(root, 1)
    assert faults(settle(dead(root, sealed={uid: digest(make(2))}))) == {"wrong": 1}


def test_an_episode_that_nobody_made(root: Path, settle: Callable[[Child], dict[str, float]]) -> None:
    with SegmentWriter(root, CONTRACT, {}) as writer:
        writer.append(dataclasses.replace(make(3), seed=4))
        publish(root, [writer.seal()], "test")
    assert faults(settle(dead(root))) == {"wrong": 1}


def test_an_episode_that_is_there_twice(root: Path, settle: Callable[[Child], dict[str, float]]) -> None:
    promised = write(root, 1) | write(root, 1)
    assert faults(settle(dead(root, sealed=promised))) == {"twice": 1}


def test_damage(root: Path, settle: Callable[[Child], dict[str, float]]) -> None:
    promised = write(root, 1)
    shard = next(root.glob("segments/*/data.zarr/images/front/000000/c/0/0/0/0"))
    shard.write_bytes(b"?" + shard.read_bytes()[1:])
    found = faults(settle(dead(root, sealed=promised)))
    assert found.keys() == {"damage", "lost"}


def test_steps_that_a_recorder_lost(root: Path, settle: Callable[[Child], dict[str, float]]) -> None:
    write(root, 1)
    steps = len(make(1))
    child = dead(root)
    kept = [child.killed_ns - 5 * 10**9] * steps
    child.handed_over = {1: [*kept, child.killed_ns - 3 * 10**8, child.killed_ns - 10**8], 7: [child.killed_ns - 10**8]}
    assert settle(child)["worst loss of a recorder"] == pytest.approx(0.3)
    child.handed_over = {7: [child.killed_ns - 2 * 10**9]}
    assert settle(child)["worst loss of a recorder"] == pytest.approx(2)


def test_an_import_that_is_not_complete(root: Path) -> None:
    with SegmentWriter(root, CONTRACT, {}) as writer:
        for number in (0, 0):
            source = {"path": "file", "episode": number}
            writer.append(dataclasses.replace(make(number), provenance={"source": source}))
        publish(root, [writer.seal()], "test")
    ledger = Ledger(lambda text: None)
    ledger.open(root, None)
    ledger.settle([])
    ledger.expect_imported(["file"], 1)
    ledger.expect_imported(["file"], 2)
    ledger.expect_imported(["other"], 1)
    ledger.close(dead(root, read=(1, 2, ["half an episode"])))
    found = faults({row.name: row.value for row in ledger.rows()})
    assert (found["twice"], found["unfinished"], found["reader"]) == (1, 2, 1)


def test_recovered_episodes_are_prefixes(root: Path) -> None:
    whole = make(5)
    frames = {"range": 1}
    part = cut(whole, 2, frames)
    assert (len(part), len(part.images["front"]), len(part.images["range"])) == (2, 2, 1)
    with SegmentWriter(root, CONTRACT, {}) as writer:
        writer.append(part)
        publish(root, [writer.seal()], "test")
    dataset = Dataset.open(root)
    assert digest(dataset.read_episode(0)) == SeedTruth().digest(dataset.episodes[0])
    assert digest(part) != digest(cut(whole, 3, frames))


def _spawn_and_sleep(pipe: Connection, root: Path) -> None:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    say(pipe, "stage", "sleeping")
    time.sleep(60)


def test_processes_are_heard_killed_and_missed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla.bench.crash.processes._ORPHANS_S", 0.2)
    monkeypatch.setattr("vla.bench.crash.processes._PRELOAD", [])
    monkeypatch.setenv("PYTHONWARNINGS", os.environ.get("PYTHONWARNINGS", ""))
    with Children() as children:
        children._context = multiprocessing.get_context("fork")  # type: ignore[assignment]
        child = children.start(_spawn_and_sleep, root)
        children.listen(20.0, lambda: child.stage == "sleeping")
        assert (child.stage, children.of(root)) == ("sleeping", [child])
        assert children.kill(child) == 1  # its fork outlives it
        assert children.kill(child) == 0
        assert children.stages == {"sleeping": 1}
        assert child.ended


def test_every_scenario_gets_its_kills() -> None:
    for kills in (1, 7, 30, 200):
        plan = _plan(kills)
        assert sum(share for _, share in plan) == kills
    assert {name for name, _ in _plan(30)} == set(SCENARIOS)
    assert {write_segments.__name__, record_episodes.__name__} <= set(STAGES)
