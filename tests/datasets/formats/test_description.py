"""What a user says of recordings: strictly read, laid over any source, and held against the data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from vla.core.action_transform import ActionTransform
from vla.core.errors import ConfigError, DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.formats.described import DescribedSource, describe
from vla.datasets.formats.description import (
    Description,
    as_provenance,
    load_description,
    origin_of_limits,
)
from vla.datasets.formats.importing import ImportSettings, import_source
from vla.datasets.formats.source import Hints
from vla.datasets.formats.table import open_source

Write = Callable[..., Path]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two episodes of two joints in degrees, a gripper in percent, and a camera."""
    path = tmp_path / "recordings.hdf5"
    with h5py.File(path, "w") as file:
        for number in range(2):
            group = file.create_group(f"data/demo_{number}")
            rows = np.stack([np.linspace(-90, 90 + 200 * number, 6), np.arange(6.0), np.linspace(0, 100, 6)], axis=1)
            group.attrs["num_samples"] = 6
            group["actions"] = rows
            group["obs/joints"] = rows[::-1].copy()
            group["obs/top_image"] = np.full((6, 4, 5, 3), number + 1, np.uint8)
    return path


def joints(part: str) -> list[dict[str, Any]]:
    was = {"state": "joints", "action": "actions"}[part]
    return [
        {"was": f"{was}.0", "name": "shoulder", "unit": "deg", "low": -180, "high": 180},
        {"was": f"{was}.1", "name": "elbow", "unit": "deg"},
        {"was": f"{was}.2", "name": "gripper", "unit": "%", "low": 0, "high": 100},
    ]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A description with some keys changed; None takes one out."""

    def run(**changes: Any) -> Path:
        whole = {
            "robot": "arm",
            "control_hz": 30,
            "instruction": "close the jaw",
            "gripper": {"action": "gripper", "opens": "larger"},
            "state": joints("state"),
            "action": joints("action"),
            "cameras": [{"was": "top", "name": "front", "height": 4, "width": 5}],
            **changes,
        }
        path = tmp_path / "arm.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in whole.items() if value is not None}))
        return path

    return run


def opened(recordings: Path, path: Path, hints: Hints | None = None) -> DescribedSource:
    description = load_description(path)
    return describe(open_source(recordings, description.hints(hints or Hints())), description, path)


def test_names_units_limits_gripper_and_cameras(recordings: Path, write: Write) -> None:
    source = opened(recordings, write())
    plain = open_source(recordings, Hints(instruction="x"))
    contract, episode, before = source.contract, source.read(0), plain.read(0)
    assert (contract.robot, contract.control_hz, contract.gripper) == ("arm", 30.0, "gripper")
    for part in (contract.state, contract.action):
        assert [(d.name, d.unit) for d in part] == [("shoulder", "rad"), ("elbow", "rad"), ("gripper", "1")]
        assert (part[0].low, part[0].high) == pytest.approx((-np.pi, np.pi))
        assert (part[2].low, part[2].high) == (0.0, 1.0)
    assert contract.action[1].high == pytest.approx(np.radians(plain.contract.action[1].high))
    factors = np.array([np.pi / 180, np.pi / 180, 0.01])
    for name in ("state", "action", "action_executed"):
        np.testing.assert_allclose(getattr(episode, name), getattr(before, name) * factors, rtol=1e-6)
        assert getattr(episode, name).dtype == np.float32
    assert [camera.name for camera in contract.cameras] == ["front"]
    np.testing.assert_array_equal(episode.images["front"], before.images["top"])
    assert episode.instruction == "close the jaw"
    assert ActionTransform.of(contract).relative_to == (0, 1, None)
    assert ActionTransform.of(plain.contract).relative_to == (None, None, None)


def test_hints_of_the_command_line_win(recordings: Path, write: Write) -> None:
    source = opened(recordings, write(), Hints(robot="other", instruction="open it"))
    assert (source.contract.robot, source.contract.control_hz) == ("other", 30.0)
    assert source.read(0).instruction == "open it"


def test_a_gripper_that_opens_with_smaller_numbers_is_mirrored(recordings: Path, write: Write) -> None:
    source = opened(recordings, write(gripper={"action": "gripper", "opens": "smaller"}))
    other = opened(recordings, write())
    for name in ("state", "action"):
        np.testing.assert_allclose(getattr(source.read(0), name)[:, 2], 1 - getattr(other.read(0), name)[:, 2])
        np.testing.assert_array_equal(getattr(source.read(0), name)[:, :2], getattr(other.read(0), name)[:, :2])
    assert source.contract == other.contract


def test_cameras_can_be_left_out(recordings: Path, write: Write) -> None:
    source = opened(recordings, write(cameras=[{"was": "top", "name": None}]))
    assert (source.contract.cameras, dict(source.read(0).images)) == ((), {})
    assert "Cameras left out, as arm.yaml says: top." in source.notes


def test_what_is_not_said_stays(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "little.yaml").write_text("instruction: do it\n")
    source = opened(recordings, tmp_path / "little.yaml")
    plain = open_source(recordings, Hints(instruction="do it"))
    assert source.contract == plain.contract
    np.testing.assert_array_equal(source.read(1).action, plain.read(1).action)


def test_data_outside_the_limits_is_refused_with_counts(recordings: Path, write: Write, tmp_path: Path) -> None:
    path = write()
    source = opened(recordings, path)
    said = (
        r"state shoulder: 2 of 6 steps lie outside \[-3.14159, 3.14159\] rad as .*arm.yaml says, the farthest is "
        r"5.06145 at step 0; correct low, high or unit there, or leave the episode out with --skip-invalid"
    )
    with pytest.raises(DatasetError, match=said):
        source.read(1)
    settings = ImportSettings(codecs={}, engine="inline", skip_invalid=True)
    provenance = {"description": as_provenance(load_description(path), path)}
    result = import_source(source, tmp_path / "data", where="x", settings=settings, provenance=provenance)
    assert (result.episodes, len(result.invalid)) == (1, 1)
    dataset = Dataset.open(tmp_path / "data")
    kept = dataset.provenance(0)["description"]
    assert kept["action"][0] == {"was": "actions.0", "name": "shoulder", "unit": "deg", "low": -180.0, "high": 180.0}
    assert origin_of_limits(dataset.provenance(0)) == (
        f"known: described in {path} for 4 of 6 numbers, the others of the data"
    )


def test_degrees_taken_for_radians_are_said(recordings: Path, write: Write) -> None:
    dimensions = joints("state")
    dimensions[0] |= {"unit": "rad", "low": -3.14, "high": 3.14}
    with pytest.raises(DatasetError, match=r"farthest is 90 at step 0; .*\(unit: deg, if these are degrees\)"):
        opened(recordings, write(state=dimensions)).read(0)


def changed(part: str, place: int, **values: Any) -> dict[str, Any]:
    dimensions = joints(part)
    dimensions[place] |= values
    return {part: dimensions}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"robots": "arm"}, r"arm.yaml: unknown key 'robots': did you mean 'robot'\?"),
        (changed("state", 1, lower=1), r"arm.yaml: state\[1\]: unknown key 'lower': did you mean 'low'"),
        (changed("state", 1, unit="degrees"), r"state\[1\].unit: expected one of rad, m, 1, .*, got 'degrees'"),
        (
            changed("action", 2, low=3.0, high=3.0),
            r"action\[2\]: low must be below high, got \[3, 3\] of gripper",
        ),
        (
            changed("action", 1, low=1e9),
            r"action\[1\]: low must be below high, .* one of them from the data",
        ),
        (changed("action", 0, low="-180"), r"action\[0\].low must be float, got '-180'"),
        (changed("action", 0, low=float("nan")), r"action\[0\].low: expected a finite number, got nan; null keeps"),
        (changed("action", 0, name=""), r"action\[0\].name: expected a name, got ''"),
        (changed("action", 1, name="shoulder"), r"action: expected names of their own, got shoulder more than once"),
        (
            changed("action", 1, was="actions.7"),
            r"action\[1\].was: expected 'actions.1' as in .*, got 'actions.7",
        ),
        (
            {"state": joints("state")[:2]},
            r"state: expected 3 entries as in the source \(joints.0, .*\), got 2",
        ),
        ({"cameras": []}, r"cameras: expected 1 entries as in the source \(top\), got 0"),
        (
            {"cameras": [{"was": "top", "name": "top", "height": 9}]},
            r"cameras\[0\].height: expected 4 as in the",
        ),
        ({"cameras": [{"was": "top", "name": "../top"}]}, r"camera '../top': expected at most 200 letters, digits"),
        ({"gripper": {"action": "jaw", "opens": "larger"}}, r"gripper.action: expected one of .*, got 'jaw'; name one"),
        (
            {"gripper": {"action": "elbow", "opens": "smaller"}},
            r"gripper.opens: .*limits of action elbow, which",
        ),
        ({"gripper": {"action": "gripper"}}, r"gripper: .*'opens'"),
        (
            {"gripper": {"action": "gripper", "opens": "wide"}},
            r"gripper.opens must be one of larger, smaller",
        ),
        ({"control_hz": 0}, r"control_hz: expected steps a second, got 0"),
        ({"state": "joints"}, r"state must be a list, got 'joints'"),
    ],
)
def test_mistakes(recordings: Path, write: Write, changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, DatasetError), match=said) as caught:
        opened(recordings, write(**changes))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_description(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    with pytest.raises(ConfigError, match=r"description .*d.yaml does not exist"):
        load_description(path)
    for text, said in (
        ("robot: [", "is not valid YAML"),
        ("robot: a\nrobot: b\n", "the key 'robot' stands twice, the second time in line 2"),
        ("- a\n", "must be a mapping"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_description(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_description(path)
    path.write_text("")
    assert load_description(path) == Description()


def test_where_limits_come_from() -> None:
    assert origin_of_limits({"env": "tabletop/place"}).startswith("known: those of the robot")
    assert origin_of_limits({"notes": []}).startswith("not known")
    assert origin_of_limits({"packed_from": {"a": {"notes": []}}}).startswith("not known")
    assert origin_of_limits({"merged_from": "there"}) == "not said here: the episodes were copied from there"
