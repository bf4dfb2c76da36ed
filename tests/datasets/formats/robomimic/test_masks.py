"""Lists of demonstrations as splits: what is held out stays out, and what lists say against each other is said."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from vla.datasets.formats.robomimic.source import open_robomimic
from vla.datasets.formats.source import Hints

Recording = Callable[..., Path]


def splits(recording: Recording, masks: Mapping[str, Any], lengths: tuple[int, ...] = (4, 4, 4, 4)) -> tuple[Any, str]:
    def change(file: h5py.File) -> None:
        for key, listed in masks.items():
            value = np.array([f"demo_{n}" for n in listed], "S") if isinstance(listed, list) else listed
            file[f"mask/{key}"] = value

    source = open_robomimic(recording(lengths, change), Hints())
    return [source.read(number).split for number in range(len(lengths))], " ".join(source.notes)


@pytest.mark.parametrize(
    ("masks", "expected", "said"),
    [
        (
            {"train": [0, 1], "valid": [2], "test": [3]},
            ["train", "train", "valid", "test"],
            "test (1), valid (1), train (2)",
        ),
        (
            {"train": [0, 1, 2], "valid": [2, 3]},
            ["train", "train", "valid", "valid"],
            "Masks train and valid overlap: 1",
        ),
        ({"train": [0, 1, 3], "test": [3]}, ["train", "train", "unlisted", "test"], "1 demonstrations are in no split"),
        ({"valid": [0]}, ["valid", "train", "train", "train"], "valid (1), train (3)"),
        ({"human": [0, 1], "robot": [2, 3]}, ["human", "human", "robot", "robot"], "human (2), robot (2)"),
        ({"train": [0, 1, 2, 3], "20_percent": [2]}, ["train"] * 4, "Mask 20_percent overlaps train"),
        ({"20_percent": [0], "50_percent": [0, 1]}, ["train"] * 4, "Mask 50_percent overlaps 20_percent"),
        (
            {"train": [0, 1, 2, 3, 7, 8]},
            ["train"] * 4,
            "Mask train names 2 demonstrations that do not exist: demo_7, demo_8",
        ),
        (
            {"train": np.arange(4)},
            ["train"] * 4,
            "Mask train is left out: expected names of demonstrations, got numbers",
        ),
        ({}, ["train"] * 4, ""),
    ],
)
def test_splits(recording: Recording, masks: Mapping[str, Any], expected: list[str], said: str) -> None:
    found, notes = splits(recording, masks)
    assert found == expected
    assert said in notes


def test_names_as_text_of_any_length_and_through_links(recording: Recording) -> None:
    def change(file: h5py.File) -> None:
        file["lists/test"] = ["demo_1"]  # text of any length, where masks of robomimic have a fixed one
        file["mask/test"] = h5py.SoftLink("/lists/test")
        file["mask/lost"] = h5py.SoftLink("/lists/none")

    source = open_robomimic(recording((4, 4), change), Hints())
    assert [source.read(number).split for number in (0, 1)] == ["train", "test"]
    assert any("Mask lost is left out: a link to /lists/none" in note for note in source.notes)


def test_a_mask_that_is_no_group(recording: Recording) -> None:
    def change(file: h5py.File) -> None:
        file["mask"] = np.array([True, False])

    source = open_robomimic(recording((4, 4), change), Hints())
    assert source.read(1).split == "train"
    assert any("/mask is an array" in note for note in source.notes)


def test_the_users_split_wins(recording: Recording) -> None:
    path = recording((4,), lambda file: file.create_dataset("mask/test", data=np.array(["demo_0"], "S")))
    assert open_robomimic(path, Hints(split="mine")).read(0).split == "mine"
