"""Each kind of finding is found, at the price that is said, and a clean dataset has none."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Contract
from vla.core.types import Episode
from vla.datasets.care.episode_findings import Finding, check_numbers
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.edit import keep_only
from vla.datasets.selection import Selection
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store import episode_check
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.staging import StagedSegment

MakeDataset = Callable[..., Dataset]
MakeEpisode = Callable[..., Episode]
STEPS = 30


@pytest.fixture
def tame(contract: Contract, make_episode: MakeEpisode) -> MakeEpisode:
    """Builds episodes of 1.5 s in which nothing is wrong."""

    def make(seed: int = 0, **changes: Any) -> Episode:
        rng = np.random.default_rng(seed)
        action, state = (rng.uniform(-3, 3, (STEPS, n)).astype(np.float32) for n in (4, 5))
        return make_episode(STEPS, seed, **{"action": action, "action_executed": action, "state": state, **changes})

    return make


@pytest.fixture
def write(tmp_path: Path, contract: Contract) -> Callable[..., Path]:
    """Writes episodes into one dataset, a segment for each call."""
    root = tmp_path / "data"

    def add(*episodes: Episode) -> Path:
        create_dataset(root, contract)
        with SegmentWriter(root, contract, {}) as writer:
            for episode in episodes:
                writer.append(episode)
            publish(root, [writer.seal()], "test")
        return root

    return add


def texts(findings: list[Finding]) -> list[str]:
    return [f"{finding.severity}: {finding.where}: {finding.what}" for finding in findings]


def test_a_clean_dataset_has_no_findings(write: Callable[..., Path], tame: MakeEpisode) -> None:
    root = write(tame(0), tame(1))
    write(tame(2))
    seen: list[tuple[str, int, int]] = []
    for level in ("quick", "full", "deep"):
        assert validate(root, level, progress=lambda *now: seen.append(now)) == []
    assert seen[-2:] == [("episodes", 2, 3), ("episodes", 3, 3)]
    assert ("files", 2, 2) in seen
    assert validate(root, "deep", manifest=1) == []


def test_rich_episodes_have_no_errors(make_rich_dataset: MakeDataset) -> None:
    dataset = make_rich_dataset([[4, 1], [3]])
    findings = validate(dataset.url, "deep")
    assert [finding for finding in findings if finding.severity == "error"] == []


def spoiled(column: int, step: int, value: float, like: np.ndarray) -> np.ndarray:
    array = like.copy()
    array[step, column] = value
    return array


def frozen(images: np.ndarray, first: int, last: int) -> np.ndarray:
    array = images.copy()
    array[first:last] = array[first]
    return array


def late(time_ns: np.ndarray, step: int, by: int) -> np.ndarray:
    array = time_ns.copy()
    array[step:] += by
    return array


CASES: dict[str, tuple[Callable[[Episode], dict[str, Any]], str]] = {
    "backwards": (
        lambda e: {"time_ns": late(e.time_ns, 5, -(10**8)), "command_time_ns": late(e.time_ns, 5, -(10**8))},
        "error: episode 0 (UID): time runs backwards or stands still at 1 steps",
    ),
    "still": (
        lambda e: {"time_ns": late(e.time_ns, 7, -50_000_000)},
        "error: episode 0 (UID): time runs backwards or stands still at 1 steps",
    ),
    "jitter": (
        lambda e: {"time_ns": late(e.time_ns, 9, 31_000_000), "command_time_ns": e.time_ns + 10**9},
        "warning: episode 0 (UID): 1 of 29 steps are not 50.0 ms apart; the worst: 81.0 ms after step 8",
    ),
    "early command": (
        lambda e: {"command_time_ns": e.time_ns - 1},
        "warning: episode 0 (UID): commands left before their observation was captured",
    ),
    "action": (
        lambda e: {"action": spoiled(2, 4, -3.5, e.action)},
        "warning: episode 0 (UID): action a2 leaves [-3, 3] rad at 1 steps, to -3.5",
    ),
    "state": (
        lambda e: {"state": spoiled(1, 4, 4, spoiled(1, 5, 3.5, e.state))},
        "warning: episode 0 (UID): state s1 leaves [-3, 3] rad at 2 steps, to 4",
    ),
    "black": (
        lambda e: {"images": {**e.images, "wrist": np.zeros_like(e.images["wrist"])}},
        "error: episode 0 (UID): camera wrist is black in all 30 frames",
    ),
    "frozen": (
        lambda e: {"images": {**e.images, "front": frozen(e.images["front"], 4, 25)}},
        "warning: episode 0 (UID): camera front is frozen for 21 frames from frame 4 on, while the robot moves",
    ),
    "nothing valid": (
        lambda e: {"valid": np.zeros(STEPS, bool)},
        "warning: episode 0 (UID): no step may be learned from",
    ),
    "recovered": (
        lambda e: {"provenance": {"recovered": True}},
        "warning: episode 0 (UID): recovered from a recorder that died: success is unknown",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_numbers_say(case: str, write: Callable[..., Path], tame: MakeEpisode) -> None:
    change, message = CASES[case]
    good = tame(0)
    root = write(replace(good, **change(good)))
    uid = Dataset.open(root).episodes[0].uid
    assert texts(validate(root, "deep")) == [message.replace("UID", uid)]
    assert validate(root, "full") == []


def test_just_within_the_limits(write: Callable[..., Path], tame: MakeEpisode) -> None:
    """A slightly late step, an action a little outside, a camera that pauses, one that rests with the robot."""
    good = tame(0)
    fine = replace(
        good,
        action=spoiled(0, 0, 3.1, good.action),
        time_ns=late(good.time_ns, 9, 24_000_000),
        command_time_ns=good.time_ns + 10**9,
        images={**good.images, "front": frozen(good.images["front"], 0, 20)},
    )
    still = replace(tame(1), state=np.zeros((STEPS, 5), np.float32))
    still = replace(still, images={**still.images, "front": frozen(still.images["front"], 0, STEPS)})
    assert texts(validate(write(fine, still), "deep")) == []


@pytest.mark.parametrize("name", ["state", "action", "action_executed"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(name: str, value: float, tame: MakeEpisode, contract: Contract) -> None:
    """They cannot be written; what somebody else wrote may hold them."""
    good = tame(0)
    bad = replace(good, **{name: spoiled(1, 3, value, spoiled(0, 7, value, getattr(good, name)))})
    errors = [finding for finding in check_numbers(bad, contract) if finding.severity == "error"]
    assert texts(errors) == [f"error: : {name} holds numbers that are not finite at 2 steps"]
    bad = replace(good, signals={**good.signals, "force": spoiled(1, 1, value, good.signals["force"])})
    errors = [finding for finding in check_numbers(bad, contract) if finding.severity == "error"]
    wrong = ["error: : signals/force holds numbers that are not finite at 1 steps"]
    assert texts(errors) == ([] if np.isnan(value) else wrong)  # of a signal, NaN says that it is not known there


def test_a_camera_without_frames_whose_steps_are_learned_from(
    make_rich_episode: MakeEpisode, rich_contract: Contract
) -> None:
    """Fifty frames a second, but none from 0.3 s to 1 s."""
    good = make_rich_episode(STEPS, 0)
    start, period = int(good.time_ns[0]), 20_000_000
    times = start + np.array([step for step in range(75) if not 15 < step < 50], np.int64) * period
    frames = np.random.default_rng(0).integers(1, 255, (len(times), 3, 4, 3), np.uint8)
    even = start + np.arange(STEPS, dtype=np.int64) * 50_000_000
    episode = replace(
        good,
        time_ns=even,
        command_time_ns=even,
        images={**good.images, "fast": frames},
        image_time_ns={**good.image_time_ns, "fast": times},
    )
    said = (
        "camera fast has no frame from 0.300 s to 1.000 s, and 13 steps there count as valid: they show an old picture"
    )
    found = [finding.what for finding in check_numbers(replace(episode, valid=np.ones(STEPS, bool)), rich_contract)]
    assert any(line.startswith(said) for line in found)
    hole = (even >= start + 16 * period) & (even < start + 50 * period)
    found = [finding.what for finding in check_numbers(replace(episode, valid=~hole), rich_contract)]
    assert not any("no frame" in line for line in found)


def test_duplicates_balance_and_success(write: Callable[..., Path], tame: MakeEpisode) -> None:
    twin = tame(0, success=False)
    root = write(twin, *(tame(seed, success=False) for seed in range(1, 12)))
    assert texts(validate(root, "deep")) == ["warning: success: no episode succeeded"]
    write(twin, tame(99, task="pull", success=False))
    assert texts(validate(root, "deep")) == [
        "warning: episodes 0, 12: are the same recording",
        "warning: tasks: unbalanced: 13 episodes of 'put', 1 of 'pull'",
        "warning: success: no episode succeeded",
    ]
    keep_only(Dataset.open(root), Selection(tasks=("put",)), "only put")
    assert texts(validate(root, "deep"))[0] == "warning: episodes 0, 12: are the same recording"
    assert not any("unbalanced" in line for line in texts(validate(root, "deep")))


def test_levels(write: Callable[..., Path], tame: MakeEpisode) -> None:
    """Sizes are looked at by all, checksums by the others, pixels by the last; damage ends the search."""
    root = write(tame(0), tame(1))
    segment = Dataset.open(root).manifest.segments[0]
    name = "data.zarr/images/front/000001/c/0/0/0/0"
    shard = root / "segments" / segment / name
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert validate(root, "quick") == []
    for level in ("full", "deep"):
        assert texts(validate(root, level)) == [f"error: segment {segment}: {name} fails its checksum"]
    shard.write_bytes(data[:-1])
    (finding,) = validate(root, "quick")
    assert f"{name}: expected {len(data)} bytes, got {len(data) - 1}" in finding.what
    shard.unlink()
    (finding,) = validate(root, "quick")
    assert f"{name} is missing" in finding.what
    shard.write_bytes(data)
    (root / "segments" / segment / "extra").touch()
    assert texts(validate(root, "full")) == [f"warning: segment {segment}: extra is not in its commit record"]


def test_what_crashes_left(write: Callable[..., Path], tame: MakeEpisode, contract: Contract) -> None:
    root = write(tame(0))
    dead = StagedSegment.begin(LocalStorage(root))
    dead.leave()
    elsewhere = root / "segments" / ".tmp-0123456789abcdef-01234567-elsewhere-12"
    elsewhere.mkdir()
    with SegmentWriter(root, contract, {}) as writer:
        writer.append(tame(1))
        assert texts(validate(root, "full")) == [
            f"warning: {dead.folder.name}: left by a writer that died; run vla data repair"
        ]
        orphan = writer.seal()
        assert not any(orphan in line for line in texts(validate(root, "full")))  # its writer is about to publish it
    lines = texts(validate(root, "full"))
    assert lines[1:] == [f"warning: segment {orphan}: sealed and in no version; run vla data repair"]
    os.remove(root / "segments" / orphan / "episodes.json")
    assert "not whole" in texts(validate(root, "full"))[1]
    publish_count = len(list((root / "manifests").iterdir()))
    assert publish_count == 1  # nothing was changed


def test_damaged_documents(write: Callable[..., Path], tame: MakeEpisode) -> None:
    root = write(tame(0))
    write(tame(1))
    first = root / "manifests" / "000001.json"
    data = first.read_bytes()
    first.write_bytes(data.replace(b"test", b"tent"))
    (finding,) = validate(root)
    assert (finding.severity, finding.where) == ("error", "version 1")
    assert "fails its checksum" in finding.what
    first.unlink()
    (finding,) = validate(root)
    assert (finding.severity, finding.where) == ("error", "version 1")
    (finding,) = validate(root, manifest=1)
    assert "does not exist" in finding.what
    (root / "quarantine").mkdir()
    (root / "quarantine" / first.name).write_bytes(data)  # as repair moves damaged ones away
    assert validate(root) == []
    (root / "dataset.json").write_bytes(b"{")
    (finding,) = validate(root, "deep")
    assert (finding.severity, finding.where) == ("error", "dataset")
    (finding,) = validate(root / "nothing")
    assert "is no dataset" in finding.what


def test_every_segment_is_looked_at(write: Callable[..., Path], tame: MakeEpisode) -> None:
    root = write(tame(0))
    write(tame(1))
    segments = Dataset.open(root).manifest.segments
    for segment in segments:
        (root / "segments" / segment / "COMMIT.json").write_bytes(b"")
    assert [finding.where for finding in validate(root)] == [f"segment {segment}" for segment in segments]


def test_a_segment_that_drifted_is_named(write: Callable[..., Path], tame: MakeEpisode) -> None:
    def half(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).uniform(-0.2, 0.2, (STEPS, 5)).astype(np.float32)

    for first in (0, 10):
        root = write(*(tame(seed, state=half(seed)) for seed in range(first, first + 8)))
    assert validate(root, "deep") == []
    write(*(tame(seed, state=half(seed) + 2) for seed in range(20, 28)))
    drifted = Dataset.open(root).manifest.segments[2]
    found = [finding for finding in validate(root, "deep") if "its mean" in finding.what]
    assert {finding.where for finding in found} >= {f"segment {drifted}"}
    assert {finding.severity for finding in found} == {"warning"}
    assert any("state s0" in finding.what for finding in found)


def test_what_an_older_version_let_through_is_an_error_at_every_level(
    write: Callable[..., Path], tame: MakeEpisode, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tame(1)
    bad.state[4, 2] = 57.3  # degrees
    with monkeypatch.context() as patch:
        patch.setattr(episode_check, "check_within_limits", lambda rows, contract: None)
        root = write(tame(0), bad)
    for level in ("quick", "full", "deep"):
        found = [finding for finding in validate(root, level) if finding.severity == "error"]
        assert [finding.where.split(" (")[0] for finding in found] == ["episode 1"]
        assert "state s2: expected -3 to 3 rad" in found[0].what
        assert "got 57.3 at step 4 of 30" in found[0].what
