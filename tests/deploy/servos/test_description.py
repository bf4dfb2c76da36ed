"""Descriptions fit their servos, and ticks and units belong together."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.contract import Camera
from vla.core.errors import ConfigError, UnknownNameError
from vla.deploy.servos.description import DESCRIPTIONS, TICKS, Description, Joint, Scale, read_description


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_every_description_of_ours(name: str) -> None:
    found = read_description(name)
    scale = Scale.of(found)
    low, high = (np.array([getattr(j, end) for j in found.joints.values()], np.float32) for end in ("low", "high"))
    ends = np.stack([scale.to_ticks(low), scale.to_ticks(high)])
    assert (ends >= -0.5).all()
    assert (ends <= TICKS - 0.5).all()
    contract = found.contract((Camera(name="front", height=8, width=8),))
    assert [d.name for d in contract.action] == [d.name for d in contract.state] == list(found.joints)


@given(st.lists(st.floats(-1.0, 1.0, width=32), min_size=2, max_size=2), st.sampled_from([1, -1]))
def test_units_and_back(values: list[float], sign: int) -> None:
    joints = {"a": Joint(id=1, low=-1.0, high=1.0, sign=sign), "b": Joint(id=2, low=-1.0, high=1.0, zero=1500.0)}
    scale = Scale.of(Description(robot="two", bus="feetech", joints=joints))
    there = scale.to_ticks(np.array(values, np.float32))
    assert (there[0] - TICKS / 2) * sign * values[0] >= 0
    np.testing.assert_allclose(scale.to_units(there), np.array(values, np.float32), atol=1e-6)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("robot: mine\nbus: dynamixel\njoints: {arm: {id: 5, low: -1, high: 1}}\n")
    assert read_description(str(path)).joints["arm"].id == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joints: {a: {id: 1, low: -9, high: 9}}", "a servo takes 0 to 4095"),
        ("joints: {a: {id: 1, low: -1, high: 1}, b: {id: 1, low: -1, high: 1}}", "different ids"),
        ("joints: {a: {id: 300, low: -1, high: 1}}", "id=300"),
        ("joints: {a: {id: 1, low: 1, high: -1}}", "below high"),
        ("joints: {a: {id: 1, low: -1, high: 1}}\ngripper: hand", "gripper 'hand' must be one of a"),
        ("joints: {a: {id: 1, low: -1, high: 1, colour: red}}", "unknown key 'colour'"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"robot: mine\nbus: dynamixel\n{text}\n")
    with pytest.raises(ConfigError, match=message):
        read_description(str(path))


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'so101'"):
        read_description("so100")
