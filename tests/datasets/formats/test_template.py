"""A template shows what was found, and changes nothing as it stands."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from vla.core.contract import Contract, Dimension
from vla.datasets.formats.described import describe
from vla.datasets.formats.description import load_description
from vla.datasets.formats.source import Hints
from vla.datasets.formats.table import open_source
from vla.datasets.formats.template import WORDLESS, guess_gripper, unnamed, write_template


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    path = tmp_path / "recordings.hdf5"
    with h5py.File(path, "w") as file:
        for number in range(3):
            group = file.create_group(f"data/demo_{number}")
            group.attrs["num_samples"] = 4
            group["actions"] = np.array([[-0.5, 0], [0.25, 0], [0.5, 1], [1.5 + number / 10, 1]])
            group["obs/joints"] = np.full((4, 1), number, np.float32)
            group["obs/top_image"] = np.full((4, 6, 8, 3), number + 1, np.uint8)
        file["data/demo_1/actions"][2, 0] = np.nan
    return path


def template(recordings: Path, hints: Hints) -> str:
    opened = Hints(**{**vars(hints), "instruction": hints.instruction or WORDLESS})
    return write_template(open_source(recordings, opened), format_name="robomimic", options={}, hints=hints)


def test_it_shows_what_was_found(recordings: Path) -> None:
    text = template(recordings, Hints(robot="panda"))
    assert 'robot: "panda"' in text
    assert "instruction: null  # needed: 2 of 2 episodes looked at have no words of their own" in text
    assert '{was: "actions.0", name: "actions.0", unit: "1", low: null, high: null}  # seen -0.5 to 1.7' in text
    assert '{was: "top", name: "top", height: 6, width: 8}  # rgb at 20 Hz' in text
    assert "A guess, its numbers stay near two values" in text
    assert '{action: "actions.1", opens: larger}\ngripper: null' in text
    assert "An episode that could not be read: " in text
    assert "expected finite numbers, got nan" in text
    assert WORDLESS not in text
    assert 'found: "lift it"' in template(recordings, Hints(instruction="lift it"))


def test_as_it_stands_it_changes_nothing(recordings: Path, tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(template(recordings, Hints(instruction='say "hé" 🍽: go', control_hz=12.5)))
    description = load_description(path)
    source = describe(open_source(recordings, description.hints(Hints())), description, path)
    plain = open_source(recordings, Hints(instruction='say "hé" 🍽: go', control_hz=12.5))
    assert source.contract == plain.contract
    assert source.read(0).instruction == plain.read(0).instruction
    np.testing.assert_array_equal(source.read(2).action, plain.read(2).action)


def contract_of(*action: tuple[str, str], state: tuple[str, ...] = ()) -> Contract:
    return Contract(
        robot="r",
        cameras=(),
        state=tuple(Dimension(name=name, unit="1", low=0.0, high=1.0) for name in state),
        action=tuple(Dimension(name=name, unit=unit, low=0.0, high=1.0) for name, unit in action),
        control_hz=10.0,
    )


def test_a_warning_where_nothing_has_a_name() -> None:
    assert "neither names nor units (actions.0, unit 1)" in unnamed(contract_of(("actions.0", "1"), ("actions.1", "1")))
    assert "no units (elbow, unit 1)" in unnamed(contract_of(("elbow", "1"), state=("elbow",)))
    assert unnamed(contract_of(("elbow", "rad"), ("1", "1"))) == ""
    assert unnamed(contract_of(("dx", "1"), state=("x",))) == ""
    assert unnamed(contract_of()) == ""


def test_a_gripper_is_guessed_by_name_or_by_its_numbers() -> None:
    contract = contract_of(("a", "1"), ("b", "1"))
    ramp, ends = np.linspace(0, 1, 20), np.repeat([0.0, 1.0], 10)
    assert guess_gripper(contract, np.stack([ramp, ends], 1)) == ("b", "its numbers stay near two values")
    assert guess_gripper(contract, np.stack([ends, ends], 1)) == ("", "")
    assert guess_gripper(contract, np.stack([ramp, np.ones(20)], 1)) == ("", "")
    assert guess_gripper(contract, np.empty((0, 2))) == ("", "")
    assert guess_gripper(contract_of(("a", "1"), ("left_jaw", "1")), np.stack([ends, ramp], 1))[0] == "left_jaw"
