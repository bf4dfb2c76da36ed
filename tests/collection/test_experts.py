"""Collecting: the seeds say what is recorded, not the processes; failures are dropped and counted."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from vla.collection import experts as collection
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.core.errors import ContractError, DatasetError
from vla.core.types import Episode
from vla.datasets.dataset import Dataset
from vla.datasets.store.manifest import latest_number


def _episodes(root: Path, manifest: int | None = None) -> list[Episode]:
    dataset = Dataset.open(root, manifest)
    return [dataset.read_episode(i) for i in range(len(dataset.episodes))]


def _assert_equal(ours: Episode, theirs: Episode) -> None:
    for field in fields(Episode):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name in ("images", "signals"):
            assert a.keys() == b.keys()
            assert all(np.array_equal(a[name], b[name]) for name in a)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


def test_two_processes_record_what_one_does(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "_SEGMENT_EPISODES", 6)
    heard: list[bool] = []
    config = CollectConfig(episodes=12, workers=2, settings={"image_size": 32})
    collected = collect(config, tmp_path, lambda success, steps: heard.append(success))
    alone = _episodes(dataset)
    together = sorted(_episodes(tmp_path), key=lambda episode: episode.seed)
    assert len(Dataset.open(tmp_path).manifest.segments) == 2
    assert (collected.manifest, collected.episodes + collected.failed) == (1, 12)
    assert (heard.count(True), heard.count(False)) == (collected.episodes, collected.failed)
    assert len(alone) == len(together) == collected.episodes
    assert sum(len(episode) for episode in together) == collected.steps
    for ours, theirs in zip(alone, together, strict=True):
        _assert_equal(ours, theirs)


def test_failures_are_dropped_and_a_second_collection_is_a_new_version(tmp_path: Path) -> None:
    # A gentle push now and then, and little time: some episodes run out of it.
    first = collect(CollectConfig(episodes=6, workers=1, settings={"image_size": 16, "max_steps": 33}), tmp_path)
    assert first.failed > 0
    assert first.episodes + first.failed == 6
    assert all(episode.success for episode in _episodes(tmp_path))
    second = collect(CollectConfig(episodes=2, seed=100, workers=1, settings={"image_size": 16}), tmp_path)
    assert (first.manifest, second.manifest) == (1, 2)
    seeds = [episode.seed for episode in _episodes(tmp_path)]
    assert seeds[: first.episodes] == [episode.seed for episode in _episodes(tmp_path, manifest=1)]
    assert min(seeds[first.episodes :]) >= 100
    with pytest.raises(ContractError, match="another folder"):
        collect(CollectConfig(episodes=2, workers=1, settings={"image_size": 32}), tmp_path)
    assert latest_number(tmp_path) == 2


def test_an_expert_that_always_fails_publishes_nothing(tmp_path: Path) -> None:
    config = CollectConfig(episodes=2, workers=1, settings={"image_size": 16, "max_steps": 2})
    with pytest.raises(DatasetError, match="failed in all 2 episodes"):
        collect(config, tmp_path)
    assert latest_number(tmp_path) is None
    assert not list((tmp_path / "segments").glob("*"))
