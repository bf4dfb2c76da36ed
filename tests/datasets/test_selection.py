"""Which episodes a selection means, and what it says when it means none that exist."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.contract import Contract
from vla.core.errors import DatasetError, VlaError
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.selection import Selection, select_episodes
from vla.datasets.store.manifest import publish
from vla.datasets.store.records import EpisodeIndex, EpisodeRecord, encode_records
from vla.datasets.store.segment import SegmentWriter

ABOUT: list[dict[str, Any]] = [
    {"task": "pick", "split": "train", "success": True, "instruction": "nimm den größten Würfel"},
    {"task": "pick", "split": "val", "success": False, "instruction": "Take The Cube"},
    {"task": "place", "split": "train", "success": None, "instruction": "put it on the plate"},
    {"task": "pour", "split": "train", "success": True, "instruction": "pour"},
]


@pytest.fixture
def index(tmp_path: Path, contract: Contract, make_episode: Callable[..., Episode]) -> EpisodeIndex:
    create_dataset(tmp_path, contract)
    with SegmentWriter(tmp_path, contract, {}) as writer:
        for number, about in enumerate(ABOUT):
            writer.append(make_episode(number + 1, number, **about))
        publish(tmp_path, [writer.seal()], "test")
    return Dataset.open(tmp_path).episodes


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [0, 1, 2, 3]),
        (Selection(success=True), [0, 3]),
        (Selection(success=False), [1]),
        (Selection(tasks=("pick", "pour")), [0, 1, 3]),
        (Selection(splits=("train",)), [0, 2, 3]),
        (Selection(instruction="GRÖSSTEN w"), [0]),
        (Selection(instruction="the"), [1, 2]),
        (Selection(instruction="nowhere"), []),
        (Selection(min_length=2, max_length=3), [1, 2]),
        (Selection(tasks=("pick",), success=True, splits=("train",)), [0]),
        (Selection(tasks=("pick",), splits=("train",), min_length=4), []),
    ],
)
def test_masks(index: EpisodeIndex, selection: Selection, expected: list[int]) -> None:
    assert np.flatnonzero(selection.mask(index)).tolist() == expected
    assert selection.is_everything == (selection == Selection())


def test_uids(index: EpisodeIndex) -> None:
    uids = [record.uid for record in index]
    assert np.flatnonzero(Selection(uids=(uids[2], uids[0])).mask(index)).tolist() == [0, 2]
    for wrong in ("no such", uids[0][:-1], f"{uids[0]}0", "größe"):
        with pytest.raises(DatasetError, match=f"no episode '{wrong}'; vla data info lists them"):
            Selection(uids=(uids[0], wrong)).mask(index)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(tasks=("plaze",)), "'plaze'.*'place'"),
        (Selection(tasks=("pick", "fold")), "'fold'.*pick.*place.*pour"),
        (Selection(splits=("trian",)), "'trian'.*'train'"),
    ],
)
def test_names_that_nobody_has_get_a_suggestion(index: EpisodeIndex, selection: Selection, message: str) -> None:
    with pytest.raises(VlaError, match=message):
        selection.mask(index)


def test_a_name_whose_episodes_are_gone_is_unknown(index: EpisodeIndex) -> None:
    rest = index.take(np.array([0, 1, 2], np.int64))
    with pytest.raises(VlaError, match="pour"):
        Selection(tasks=("pour",)).mask(rest)
    assert np.flatnonzero(Selection(instruction="pour").mask(rest)).tolist() == []


def test_text(index: EpisodeIndex) -> None:
    assert str(Selection()) == "all"
    assert str(Selection(success=False, tasks=("a", "b"))) == "success=False, tasks=('a', 'b')"


def test_an_empty_index(index: EpisodeIndex) -> None:
    nothing = index.take(np.array([], np.int64))
    assert Selection(success=True, instruction="x").mask(nothing).tolist() == []


def test_any_function_of_a_record(index: EpisodeIndex) -> None:
    found = select_episodes(index, lambda record: record.seed % 2 == 1)
    assert (found.dtype, found.tolist()) == (np.dtype(np.int64), [1, 3])
    assert select_episodes(index, lambda record: False).tolist() == []


# Not `st.builds`: what checks types in tests draws random numbers, which strategies may not.
abouts = st.lists(
    st.fixed_dictionaries(
        {
            "length": st.integers(1, 9),
            "instruction": st.text("abç ", min_size=1),
            "task": st.sampled_from("xyz"),
            "success": st.sampled_from([True, False, None]),
            "split": st.sampled_from(["train", "val"]),
        }
    ),
    min_size=1,
    max_size=8,
)


@given(
    abouts=abouts,
    success=st.sampled_from([True, False, None]),
    lengths=st.tuples(st.integers(1, 9), st.none() | st.integers(1, 9)),
    instruction=st.text("abç ", max_size=2),
    data=st.data(),
)
def test_masks_are_what_a_loop_would_find(
    abouts: list[dict[str, Any]],
    success: bool | None,
    lengths: tuple[int, int | None],
    instruction: str,
    data: st.DataObject,
) -> None:
    fixed: dict[str, Any] = {"start": 0, "instruction_alternatives": (), "seed": 0, "content_hash": "0" * 32}
    records = [EpisodeRecord(uid=str(number), **about, **fixed) for number, about in enumerate(abouts)]
    present = sorted({record.task for record in records})
    tasks = tuple(data.draw(st.lists(st.sampled_from(present), unique=True)))
    selection = Selection(
        success=success, tasks=tasks, min_length=lengths[0], max_length=lengths[1], instruction=instruction
    )
    expected = [
        (success is None or record.success is success)
        and (not tasks or record.task in tasks)
        and lengths[0] <= record.length <= (lengths[1] or 100)
        and instruction in record.instruction
        for record in records
    ]
    index = EpisodeIndex.build([("here", encode_records(records))])
    assert selection.mask(index).tolist() == expected
