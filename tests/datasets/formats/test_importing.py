"""An import brings every episode once, with any engine, whatever fails or dies in between."""

import multiprocessing
import os
import resource
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from vla.core.errors import ContractError, DatasetError
from vla.core.types import Episode
from vla.datasets.care.repair import Repaired, repair
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.datasets.formats.importing import Imported, ImportSettings, import_source
from vla.datasets.formats.source import Hints, Source
from vla.datasets.formats.table import open_source
from vla.datasets.frames.shard_writer import OWNER_BYTES
from vla.datasets.store.content import motion_hash
from vla.datasets.store.manifest import latest_number
from vla.datasets.store.staging import host_name

Same = Callable[[Episode, Episode], None]
HINTS = Hints(robot="arm", control_hz=20.0, instruction="räume das Geschirr 🍽 weg", task="tidy")
LENGTHS = (3, 1, 4, 2, 5)


def demo(steps: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "actions": rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        "obs/robot0_eef_pos": rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        "obs/agentview_image": rng.integers(0, 256, (steps, 6, 8, 3), np.uint8),
    }


def write(path: Path, demos: Mapping[int, Mapping[str, np.ndarray]]) -> Path:
    """Robomimic demonstrations by number; those that are in the file already are replaced."""
    with h5py.File(path, "a") as file:
        data = file.require_group("data")
        for number, arrays in demos.items():
            if f"demo_{number}" in data:
                del data[f"demo_{number}"]
            group = data.create_group(f"demo_{number}")
            group.attrs["num_samples"] = len(arrays["actions"])
            for key, array in arrays.items():
                group[key] = array
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "démos of today.hdf5", {n: demo(steps, n) for n, steps in enumerate(LENGTHS)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "my données"


def run(path: Path, root: Path, where: str = "today", **settings: Any) -> Imported:
    known: dict[str, Any] = {"codecs": {}, "engine": "inline", "segment_episodes": 2, **settings}
    return import_source(
        open_source(path, HINTS), root, where=where, settings=ImportSettings(**known), provenance={"git": "abc"}
    )


def expected(source: Source, number: int, where: str = "today") -> Episode:
    episode = source.read(number)
    origin = {"path": where, "episode": number, "motion": motion_hash(episode)}
    return replace(episode, provenance={**episode.provenance, "source": origin})


def numbers(root: Path) -> list[int]:
    """Which episodes of the source are there, in order."""
    return [record.provenance["source"]["episode"] for record in Dataset.open(root).episodes]


@pytest.mark.parametrize("engine", ["inline", "processes", "ray"])
def test_engines(path: Path, root: Path, assert_same: Same, engine: str, request: pytest.FixtureRequest) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_cluster")
    source, seen = open_source(path, HINTS), []
    settings = ImportSettings(codecs={}, engine=engine, workers=2, segment_episodes=2)  # type: ignore[arg-type]
    result = import_source(
        source, root, where="today", settings=settings, provenance={"git": "abc"}, on_episode=seen.append
    )
    assert result == Imported(manifest=1, episodes=5, steps=15, duplicates=0, invalid=())
    assert sorted(seen) == sorted(LENGTHS)
    dataset = Dataset.open(root)
    assert len(dataset.manifest.segments) == 3
    assert dataset.manifest.reason == "import of today"
    assert numbers(root) == [0, 1, 2, 3, 4]
    for number in range(5):
        assert_same(dataset.read_episode(number), expected(source, number))
    assert dataset.episodes[0].instruction == HINTS.instruction
    assert dataset.provenance(0) == {"git": "abc", "notes": list(source.notes)}
    assert [finding for finding in validate(root, "deep") if finding.severity == "error"] == []
    again = run(path, root)
    assert again == Imported(manifest=None, episodes=0, steps=0, duplicates=5, invalid=())
    assert latest_number(root) == 1


def test_frames_may_be_packed_otherwise(path: Path, root: Path) -> None:
    (camera,) = open_source(path, HINTS).contract.cameras
    run(path, root, codecs={camera.name: "raw"})
    dataset = Dataset.open(root)
    assert dataset.codecs == {camera.name: "raw"}
    segment = root / "segments" / dataset.manifest.segments[0]
    shard = segment / f"data.zarr/images/{camera.name}/000000/c/0/0/0/0"
    assert shard.stat().st_size == 3 * (6 * 8 * 3 + 4) + OWNER_BYTES + 3 * 16 + 4


def spoiled(number: int) -> dict[str, np.ndarray]:
    """A demonstration with a number that is none."""
    arrays = demo(LENGTHS[number], number)
    arrays["actions"][0, 1] = np.nan
    return arrays


@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_what_a_failing_share_leaves_is_continued(path: Path, root: Path, assert_same: Same, engine: str) -> None:
    good = open_source(path, HINTS)
    truth = [expected(good, number) for number in range(5)]
    write(path, {3: spoiled(3)})
    with pytest.raises(DatasetError, match=r"today, episode 3: .*demo_3: actions: expected finite numbers, got nan"):
        run(path, root, engine=engine, workers=2)
    assert numbers(root) == [0, 1, 4]  # its whole share is to be done again
    assert list(root.glob("segments/.*")) == []
    write(path, {3: demo(LENGTHS[3], 3)})
    assert run(path, root) == Imported(manifest=2, episodes=2, steps=6, duplicates=3, invalid=())
    dataset = Dataset.open(root)
    assert numbers(root) == [0, 1, 4, 2, 3]
    for place, number in enumerate([0, 1, 4, 2, 3]):
        assert_same(dataset.read_episode(place), truth[number])


def test_all_shares_fail(path: Path, root: Path) -> None:
    source, settings = open_source(path, HINTS), ImportSettings(codecs={}, engine="inline", segment_episodes=2)
    write(path, {number: spoiled(number) for number in range(5)})
    with pytest.raises(DatasetError, match="episode 0: "):
        import_source(source, root, where="today", settings=settings, provenance={})
    assert latest_number(root) is None
    assert repair(root) == Repaired()


def test_invalid_episodes_can_be_left_out(path: Path, root: Path) -> None:
    write(path, {1: spoiled(1), 2: spoiled(2), 3: spoiled(3)})
    seen: list[int] = []
    settings = ImportSettings(codecs={}, engine="inline", segment_episodes=2, skip_invalid=True)
    result = import_source(
        open_source(path, HINTS), root, where="today", settings=settings, provenance={}, on_episode=seen.append
    )
    assert (result.manifest, result.episodes, result.steps) == (1, 2, 8)
    assert [line.split(":")[0] for line in result.invalid] == ["episode 1", "episode 2", "episode 3"]
    assert "expected finite numbers, got nan at step 0, column 1" in result.invalid[0]
    assert numbers(root) == [0, 4]
    assert sorted(seen) == [0, 0, 0, 3, 5]
    assert len(Dataset.open(root).manifest.segments) == 2  # no segment of nothing
    again = run(path, root, skip_invalid=True)
    assert (again.manifest, again.duplicates, len(again.invalid)) == (None, 2, 3)


def test_an_episode_without_steps_is_noted(path: Path, root: Path) -> None:
    write(path, {2: demo(0, 2)})
    assert run(path, root).episodes == 4
    dataset = Dataset.open(root)
    assert [record.length for record in dataset.episodes] == [3, 1, 2, 5]
    assert any("demo_2" in note for note in dataset.provenance(0)["notes"])


def test_duplicates(path: Path, root: Path, tmp_path: Path) -> None:
    """By content, whatever the file is called; twice only if that is wanted."""
    run(path, root)
    other = write(tmp_path / "copy.hdf5", {0: demo(4, 2), 1: demo(2, 77), 2: demo(3, 0)})
    assert run(other, root, where="copy") == Imported(manifest=2, episodes=1, steps=2, duplicates=2, invalid=())
    assert numbers(root) == [0, 1, 2, 3, 4, 1]
    result = run(other, root, where="copy", allow_duplicates=True)
    assert (result.episodes, result.duplicates) == (2, 1)  # what this source has brought is not brought again
    assert len(Dataset.open(root).episodes) == 8


def test_a_run_that_died_before_it_published(path: Path, root: Path, assert_same: Same) -> None:
    """One segment was sealed, of one only the commit record was written, one was begun."""
    run(path, root)
    segments = Dataset.open(root).manifest.segments
    for published in ("manifests", "witness"):
        (root / published / "000001.json").unlink()
    folder = root / "segments"
    os.rename(folder / segments[1], folder / f".tmp-{segments[1]}-{host_name()}-999999")
    os.rename(folder / segments[2], folder / f".tmp-{segments[2]}-{host_name()}-999998")
    (folder / f".tmp-{segments[2]}-{host_name()}-999998" / "COMMIT.json").unlink()
    assert run(path, root) == Imported(manifest=2, episodes=1, steps=5, duplicates=4, invalid=())
    dataset, source = Dataset.open(root), open_source(path, HINTS)
    assert numbers(root) == [0, 1, 2, 3, 4]
    for number in range(5):
        assert_same(dataset.read_episode(number), expected(source, number))
    repair(root)
    assert numbers(root) == [0, 1, 2, 3, 4]
    assert len(list(folder.iterdir())) == 3


def test_a_full_disk_keeps_what_was_sealed(tmp_path: Path, root: Path, assert_same: Same) -> None:
    """The files of the second share are too large; the first is published, and the next run does the rest."""
    path = write(tmp_path / "long.hdf5", {n: demo(steps, n) for n, steps in enumerate([5, 5, 90, 5])})

    def attempt(queue: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
        try:
            run(path, root, codecs={"agentview": "raw"})
        except DatasetError as error:
            queue.put(str(error))
        else:
            queue.put("")

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=attempt, args=(queue,))
    process.start()
    process.join()
    message = queue.get()
    assert "disk full while writing segment" in message
    assert "2 episodes sealed before are safe; free space and run again" in message
    assert numbers(root) == [0, 1]
    assert repair(root) == Repaired()
    assert run(path, root).episodes == 2
    assert numbers(root) == [0, 1, 2, 3]
    assert_same(Dataset.open(root).read_episode(2), expected(open_source(path, HINTS), 2))


def test_another_robot(path: Path, root: Path) -> None:
    run(path, root)
    other = open_source(path, replace(HINTS, robot="leg"))
    settings = ImportSettings(codecs={}, engine="inline")
    with pytest.raises(ContractError, match="robot: 'leg' ≠ 'arm'"):
        import_source(other, root, where="other", settings=settings, provenance={})
    assert latest_number(root) == 1
