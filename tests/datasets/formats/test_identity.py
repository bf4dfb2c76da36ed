"""A recording is known again by all that it holds, whatever file and number it has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ContractError, DatasetError
from vla.core.types import Episode
from vla.datasets.care.episode_findings import Finding
from vla.datasets.care.pack import merge, pack
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.datasets.edit import relabel
from vla.datasets.formats.importing import Imported, ImportSettings, import_source
from vla.datasets.formats.source import Unreadable, attempt, noted

JOINT = Dimension(name="j", unit="rad", low=-3.0, high=3.0)
CONTRACT = Contract(
    robot="arm", cameras=(Camera(name="top", height=4, width=5),), state=(JOINT,), action=(JOINT,), control_hz=10.0
)


def episode(seed: int, steps: int = 3, *, scene: int = 0, **said: Any) -> Episode:
    """Motion by ``seed``, pictures by ``scene``."""
    rng, pixels = np.random.default_rng(seed), np.random.default_rng(scene)
    action = rng.uniform(-1, 1, (steps, 1)).astype(np.float32)
    time_ns = np.arange(steps, dtype=np.int64) * 100_000_000
    known: dict[str, Any] = {"instruction": "push", "task": "push", "split": "train", "success": None, **said}
    return Episode(
        images={"top": pixels.integers(0, 256, (steps, 4, 5, 3), np.uint8)},
        state=action + 1,
        action=action,
        action_executed=action,
        reward=np.zeros(steps, np.float32),
        done=np.arange(steps) == steps - 1,
        valid=np.ones(steps, bool),
        time_ns=time_ns,
        command_time_ns=time_ns,
        seed=0,
        **known,
    )


@dataclass(frozen=True)
class Listed:
    """A source of given episodes."""

    episodes: Sequence[Episode | Unreadable]
    contract: Contract = CONTRACT
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.episodes)

    def read(self, number: int) -> Episode:
        found = self.episodes[number]
        if isinstance(found, Unreadable):
            raise found.error
        return found


def bring(root: Path, *episodes: Episode | Unreadable, where: str = "day", **settings: Any) -> Imported:
    known: dict[str, Any] = {"codecs": {}, "engine": "inline", "segment_episodes": 2, **settings}
    contract = known.pop("contract", CONTRACT)
    return import_source(Listed(episodes, contract), root, where=where, settings=ImportSettings(**known), provenance={})


def counts(result: Imported) -> tuple[int, int, int]:
    """New or replacing, the same, changed."""
    return result.episodes, result.duplicates, len(result.changed)


def held(root: Path) -> list[tuple[float, int, str]]:
    """First action, first pixel and words of each episode."""
    dataset = Dataset.open(root)
    read = [dataset.read_episode(number) for number in range(len(dataset.episodes))]
    return [(float(e.action[0, 0]), int(e.images["top"].flat[0]), e.instruction) for e in read]


def expected(*episodes: Episode) -> list[tuple[float, int, str]]:
    return [(float(e.action[0, 0]), int(e.images["top"].flat[0]), e.instruction) for e in episodes]


def test_new_recordings_at_the_same_path_are_all_imported(tmp_path: Path) -> None:
    monday, tuesday = [episode(n) for n in range(3)], [episode(10 + n) for n in range(5)]
    assert counts(bring(tmp_path / "d", *monday)) == (3, 0, 0)
    assert counts(bring(tmp_path / "d", *tuesday)) == (5, 0, 0)
    assert held(tmp_path / "d") == expected(*monday, *tuesday)
    assert counts(bring(tmp_path / "d", *tuesday)) == (0, 5, 0)
    assert counts(bring(tmp_path / "d", *monday, where="elsewhere")) == (0, 3, 0)


def test_recordings_that_differ_in_their_pictures_alone_are_two(tmp_path: Path) -> None:
    """A replayed motion in another scene: within one source, and from another one."""
    twins = [episode(0, scene=0), episode(0, scene=1)]
    assert counts(bring(tmp_path / "d", *twins)) == (2, 0, 0)
    assert counts(bring(tmp_path / "d", episode(0, scene=2), where="other")) == (1, 0, 0)
    assert held(tmp_path / "d") == expected(*twins, episode(0, scene=2))


@pytest.mark.parametrize(
    "said",
    [
        {"instruction": "push the red block"},
        {"instruction_alternatives": ("shove",)},
        {"task": "other"},
        {"split": "test"},
        {"success": False},
    ],
    ids=lambda said: next(iter(said)),
)
def test_what_a_source_says_anew_is_an_edit(tmp_path: Path, said: Mapping[str, Any]) -> None:
    bring(tmp_path / "d", episode(0), episode(1))
    result = bring(tmp_path / "d", episode(0), episode(1, **said))
    assert (counts(result), result.manifest) == ((0, 1, 1), 2)
    (name,) = said
    assert result.changed[0].startswith(f"episode 1 relabelled: {name} ")
    dataset = Dataset.open(tmp_path / "d")
    assert [getattr(record, name) for record in dataset.episodes] == [getattr(episode(0), name), said[name]]
    again = bring(tmp_path / "d", episode(0), episode(1, **said))
    assert (counts(again), again.manifest) == ((0, 2, 0), None)


def test_a_users_own_words_stay(tmp_path: Path) -> None:
    """An import of what has not changed does not undo an edit; what the source says anew is taken."""
    bring(tmp_path / "d", episode(0))
    dataset = Dataset.open(tmp_path / "d")
    relabel(dataset, {dataset.episodes[0].uid: {"instruction": "mine", "split": "test"}}, "by hand")
    assert counts(bring(tmp_path / "d", episode(0))) == (0, 1, 0)
    assert held(tmp_path / "d")[0][2] == "mine"
    result = bring(tmp_path / "d", episode(0, instruction="theirs"))
    assert result.changed == ("episode 0 relabelled: instruction 'mine' → 'theirs'",)
    record = Dataset.open(tmp_path / "d").episodes[0]
    assert (record.instruction, record.split) == ("theirs", "test")


def test_corrected_pictures_take_the_place_of_the_old(tmp_path: Path) -> None:
    bring(tmp_path / "d", episode(0), episode(1))
    dataset = Dataset.open(tmp_path / "d")
    uid = dataset.episodes[1].uid
    relabel(dataset, {uid: {"instruction": "mine"}}, "by hand")
    result = bring(tmp_path / "d", episode(0), episode(1, scene=9, split="test"))
    assert (counts(result), result.manifest) == ((1, 1, 1), 3)
    assert result.changed[0].startswith(f"episode 1 replaces {uid}: the same motion")
    assert held(tmp_path / "d") == expected(episode(0), episode(1, scene=9, instruction="mine"))
    assert Dataset.open(tmp_path / "d").episodes[1].split == "test"
    assert len(Dataset.open(tmp_path / "d", 1).episodes) == 2  # nothing is gone from older versions
    assert counts(bring(tmp_path / "d", episode(0), episode(1, scene=9, split="test"))) == (0, 2, 0)


def test_nothing_is_replaced_that_the_source_still_has(tmp_path: Path) -> None:
    """A scene was recorded in between, so that the old one has another number."""
    bring(tmp_path / "d", episode(0, scene=0))
    assert counts(bring(tmp_path / "d", episode(0, scene=1), episode(0, scene=0))) == (1, 1, 0)
    assert held(tmp_path / "d") == expected(episode(0, scene=0), episode(0, scene=1))


def test_copies_within_a_source_are_one_unless_they_are_wanted(tmp_path: Path) -> None:
    several = [episode(0), episode(1), episode(2), episode(0)]  # in two segments
    assert counts(bring(tmp_path / "d", *several)) == (3, 1, 0)
    assert held(tmp_path / "d") == expected(*several[:3])
    assert counts(bring(tmp_path / "d", *several)) == (0, 4, 0)
    assert counts(bring(tmp_path / "e", *several, allow_duplicates=True)) == (4, 0, 0)
    assert counts(bring(tmp_path / "e", *several, allow_duplicates=True)) == (0, 4, 0)
    assert counts(bring(tmp_path / "e", *several, where="copy", allow_duplicates=True)) == (4, 0, 0)


def test_one_recording_with_two_instructions_is_two_episodes(tmp_path: Path) -> None:
    """And a correction of one of them, or a third, does not touch the others."""
    said = [episode(0, instruction=text) for text in ("push", "shove")]
    assert counts(bring(tmp_path / "d", *said)) == (2, 0, 0)
    said[0] = episode(0, instruction="push it")
    assert counts(bring(tmp_path / "d", *said)) == (0, 1, 1)
    said.append(episode(0, instruction="nudge"))
    assert counts(bring(tmp_path / "d", *said)) == (1, 2, 0)
    assert sorted(row[2] for row in held(tmp_path / "d")) == ["nudge", "push it", "shove"]
    assert counts(bring(tmp_path / "d", *said)) == (0, 3, 0)


def test_episodes_of_older_datasets_are_known_by_their_motion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vla.datasets.formats.identity.content_hash", lambda episode: motion(episode))
        from vla.datasets.store.content import motion_hash as motion

        bring(tmp_path / "d", episode(0), episode(1))
    assert counts(bring(tmp_path / "d", episode(0), episode(1), episode(2))) == (1, 2, 0)


def test_what_planning_found_damaged_is_skipped_alone(tmp_path: Path) -> None:
    def broken() -> Episode:
        raise DatasetError("row 7 is torn")

    planned = [episode(0), attempt(broken), episode(2)]
    with pytest.raises(DatasetError, match=r"^day, episode 1: row 7 is torn$"):
        bring(tmp_path / "d", *planned)
    result = bring(tmp_path / "e", *planned, skip_invalid=True)
    assert (counts(result), result.invalid) == ((2, 0, 0), ("episode 1: row 7 is torn",))


def test_what_was_assumed_of_an_episode_is_said_and_kept(tmp_path: Path) -> None:
    doubtful = replace(episode(1), provenance=noted({"x": 1}, ["its clock says 3 s, its rows 2 s: rows are taken"]))
    result = bring(tmp_path / "d", episode(0), doubtful)
    assert result.notes == ("episode 1: its clock says 3 s, its rows 2 s: rows are taken",)
    assert Dataset.open(tmp_path / "d").episodes[1].provenance["notes"] == list(doubtful.provenance["notes"])
    assert noted({"x": 1}, []) == {"x": 1}


def test_limits_of_a_dataset_stay(tmp_path: Path) -> None:
    """Those of the second day's data are others; what leaves the dataset's own is counted."""
    bring(tmp_path / "d", episode(0))
    wider = replace(CONTRACT, state=(replace(JOINT, high=9.0),))
    far = replace(episode(1), state=np.full((3, 1), 3.2, np.float32))
    result = bring(tmp_path / "d", far, contract=wider)
    assert counts(result) == (1, 0, 0)
    assert Dataset.open(tmp_path / "d").contract == CONTRACT
    assert result.notes == (
        "The dataset keeps the limits and cameras' rates that it was made with: those of this source are others. "
        "Episodes beyond them are refused; limits that hold what comes later are given with the first (--describe).",
        "episode 0: state j leaves [-3, 3] rad at 3 steps, to 3.2",
    )
    farther = replace(episode(2), state=np.full((3, 1), 8.0, np.float32))
    refused = bring(tmp_path / "d", far, farther, contract=wider, skip_invalid=True)
    assert (counts(refused), len(refused.invalid)) == ((0, 1, 0), 1)
    with pytest.raises(ContractError, match="robot: 'leg' ≠ 'arm'"):
        bring(tmp_path / "d", far, contract=replace(wider, robot="leg"))


def test_notes_are_said_again_by_validate_whatever_was_packed_or_merged(tmp_path: Path) -> None:
    doubtful = replace(episode(1), provenance=noted({}, ["its clock stands still"]))
    source = Listed([episode(0), doubtful], notes=("units are given as 1",))
    import_source(
        source, tmp_path / "d", where="day", settings=ImportSettings(codecs={}, engine="inline"), provenance={}
    )
    bring(tmp_path / "d", episode(2))
    pack(tmp_path / "d", 64.0)
    merge([tmp_path / "d"], tmp_path / "e")
    for root in (tmp_path / "d", tmp_path / "e"):
        uid = Dataset.open(root).episodes[1].uid
        assert validate(root) == [
            Finding.warning(f"episode 1 ({uid})", "its clock stands still"),
            Finding.note("import", "units are given as 1"),
        ]


def test_a_merge_keeps_recordings_that_differ_in_their_pictures(tmp_path: Path) -> None:
    bring(tmp_path / "a", episode(0, scene=0))
    bring(tmp_path / "b", episode(0, scene=1), episode(0, scene=0))
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all") == (1, 1)
    assert held(tmp_path / "all") == expected(episode(0, scene=0), episode(0, scene=1))


def test_the_measured_rate_of_a_camera_may_be_another_on_another_day(tmp_path: Path) -> None:
    def clocked(seed: int) -> Episode:
        one = episode(seed)
        return replace(one, image_time_ns={"top": one.time_ns})

    def rated(hz: float) -> Contract:
        return replace(CONTRACT, cameras=(replace(CONTRACT.cameras[0], hz=hz),))

    assert counts(bring(tmp_path / "d", clocked(0), contract=rated(29.7))) == (1, 0, 0)
    assert counts(bring(tmp_path / "d", clocked(1), contract=rated(30.1))) == (1, 0, 0)
    with pytest.raises(ContractError, match=r"cameras\.top"):
        bring(tmp_path / "d", clocked(2), contract=rated(15.0))


def test_little_work_is_done_in_this_process(tmp_path: Path) -> None:
    """A source that no other process could be given is imported in three segments all the same."""
    source = Listed([episode(number) for number in range(5)])
    object.__setattr__(source, "only_here", lambda: None)
    settings = ImportSettings(codecs={}, workers=2, segment_episodes=2)
    assert settings.engine == "auto"
    result = import_source(source, tmp_path / "d", where="day", settings=settings, provenance={})
    assert (result.episodes, len(Dataset.open(tmp_path / "d").manifest.segments)) == (5, 3)
