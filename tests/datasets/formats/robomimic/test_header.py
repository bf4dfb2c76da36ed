"""Attributes that are missing or odd leave their question open, and are named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.datasets.formats.robomimic.header import described, plain, read_header
from vla.datasets.formats.robomimic.source import open_robomimic
from vla.datasets.formats.source import Hints

Recording = Callable[..., Path]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{'type': 1}", "expected JSON"),
        ("[1]", "expected a JSON object"),
        (7, "expected a JSON object"),
        (b"\xff\xfe", "expected JSON"),
        (np.array([1.0, np.nan]), "expected a JSON object"),
    ],
)
def test_env_args_that_are_none(recording: Recording, value: Any, said: str) -> None:
    path = recording((3,), lambda file: file["data"].attrs.__setitem__("env_args", value))
    source = open_robomimic(path, Hints())
    assert (source.contract.robot, source.contract.control_hz) == ("unknown", 20.0)
    assert any(f"Attribute env_args: {said}" in note for note in source.notes)
    source.read(0)


def test_empty_attributes_are_missing_ones(recording: Recording) -> None:
    path = recording((3,), lambda file: file["data"].attrs.__setitem__("env_args", h5py.Empty("S1")))
    source = open_robomimic(path, Hints())
    assert not any("env_args" in note for note in source.notes)
    assert source.read(0).provenance["env_args"] == {}


def test_attributes_of_the_file_itself_and_in_an_array_of_one(recording: Recording) -> None:
    env_args = {
        "type": 1,
        "env_name": "Stack",
        "env_kwargs": {"robots": "Sawyer", "control_freq": 10, "limit": float("inf")},
    }

    def change(file: h5py.File) -> None:
        file.attrs["env_args"] = np.array([json.dumps(env_args)], h5py.string_dtype())

    source = open_robomimic(recording((3,), change, env_args=None), Hints())
    assert (source.contract.robot, source.contract.control_hz) == ("Sawyer", 10.0)
    assert source.read(0).provenance["env_args"]["env_kwargs"]["limit"] == "Infinity"  # JSON has no such number


def test_isaac_lab_says_its_rate_by_its_physics(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        sim_args = {"dt": 0.01, "decimation": 5, "render_interval": 5, "num_envs": 1}
        file.create_group("data").attrs["env_args"] = json.dumps(
            {"env_name": "Isaac-X", "type": 2, "sim_args": sim_args}
        )
        header = read_header(file)
    assert (header.control_hz, header.is_robosuite) == (20.0, False)


@pytest.mark.parametrize("rate", [0, -20, True, "20", None, {"hz": 20}])
def test_a_rate_that_is_none(recording: Recording, rate: Any) -> None:
    env_args = {"type": 1, "env_name": "Lift", "env_kwargs": {"robots": ["Panda"], "control_freq": rate}}
    source = open_robomimic(recording((3,), env_args=env_args), Hints())
    assert any("does not say its rate" in note for note in source.notes)


@pytest.mark.parametrize("total", [11, 12, "11", 3])
def test_a_total_that_disagrees_is_said(recording: Recording, total: Any) -> None:
    path = recording((5, 6), lambda file: file["data"].attrs.__setitem__("total", total))
    said = [note for note in open_robomimic(path, Hints()).notes if "total says" in note]
    assert bool(said) is (int(total) != 11)
    if said:
        assert f"total says {total} steps, its 2 demonstrations hold 11" in said[0]


def test_language_lies_in_many_places(recording: Recording) -> None:
    def change(file: h5py.File) -> None:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "open the door"})
        file["data/demo_1/language_instruction"] = "close the door"
        file["data/demo_2"].attrs["lang"] = np.bytes_(b"push it")

    source = open_robomimic(recording((3, 3, 3, 3), change), Hints())
    words = [source.read(number).instruction for number in range(4)]
    assert words == ["open the door", "close the door", "push it", "lift the cube"]
    assert any("there is no language: the instruction is 'lift the cube'" in note for note in source.notes)


def test_words_that_cannot_be_read_are_not_replaced(recording: Recording) -> None:
    path = recording((3, 3), lambda file: file["data/demo_1"].attrs.__setitem__("ep_meta", "{"))
    source = open_robomimic(path, Hints())
    source.read(0)
    with pytest.raises(DatasetError, match=r"demo_1: Attribute ep_meta: expected JSON"):
        source.read(1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pick_up_the_black_bowl_demo.hdf5", "pick up the black bowl"),
        ("KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", "turn on the stove"),
        ("low_dim_v141.hdf5", "do the task"),
        ("demo.hdf5", "do the task"),
    ],
)
def test_a_file_without_an_environment_is_described_by_its_name(recording: Recording, name: str, words: str) -> None:
    path = recording((3,), name=name, env_args=None)
    with h5py.File(path) as file:
        assert described(read_header(file), path) == words
    assert open_robomimic(path, Hints()).read(0).instruction == words


def test_plain_values() -> None:
    values = [np.bool_(True), b"a", np.float32(np.nan), h5py.Empty("f4"), np.array([1, 2]), "a\udcff", (1, b"x")]
    assert [plain(value) for value in values] == [True, "a", "nan", None, [1, 2], "a\ufffd", [1, "x"]]
