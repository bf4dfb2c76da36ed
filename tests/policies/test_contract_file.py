"""A contract file is read strictly, its scales go both ways, and what is wrong is named with file, key and values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import ConfigError, VlaError
from vla.policies.contract_file import Scale, read_contract_file

_JOINTS = [{"name": name, "unit": "rad", "low": -2.0, "high": 2} for name in ("shoulder", "elbow")]
_SAID: dict[str, Any] = {
    "robot": "two-link",
    "control_hz": 10,
    "cameras": [{"name": "front", "height": 8, "width": 6}],
    "state": _JOINTS,
    "action": _JOINTS[::-1],
    "relative": ["shoulder"],
    "statistics": {"state": {"mean": [0.5, 0], "std": [2, 1.0]}, "action": {"q01": [-1, 0.0], "q99": [3.0, 1]}},
    "horizon": 5,
}
_POLICY = {
    **{"kind": "hf-pi0", "horizon": 5, "execute": 5, "relative_to": [None, "shoulder"], "robots": ["two-link"]},
    **{"preprocessor": "", "tokenizer": "", "model": {}},
}
Change = Callable[[dict[str, Any]], object]


def _write(path: Path, change: Change = lambda said: None) -> Path:
    said = yaml.safe_load(yaml.safe_dump(_SAID))
    change(said)
    path.write_text(yaml.safe_dump(said))
    return path


def test_it_says_what_a_contract_does(tmp_path: Path) -> None:
    stated = read_contract_file(_write(tmp_path / "arm.yaml", lambda said: said.update(tokenizer="words")))
    assert stated.space.relative_to == (None, 0)
    assert stated.tokenizer == tmp_path / "words"
    contract = stated.contract(_POLICY, where="a test")
    assert [d.name for d in contract.action] == ["elbow", "shoulder"]
    assert contract.policy is not None
    assert contract.policy.relative_to == (None, "shoulder")
    assert contract.cameras[0].shape == (8, 6, 3)


def test_scales_are_those_that_they_are_named_after() -> None:
    measured = Scale(mean=(0.5, 0.0), std=(2.0, 1.0))
    np.testing.assert_allclose(measured.normalise(np.array([[4.5, -1.0]])), [[2.0, -1.0]], rtol=1e-6)
    ends = Scale(q01=(-1.0, 0.0), q99=(3.0, 1.0), epsilon=0.0)
    np.testing.assert_allclose(ends.normalise(np.array([[-1.0, 1.0], [1.0, 0.5]])), [[-1, 1], [0, 0]], atol=1e-7)
    # openpi's: (x - q01) / (q99 - q01 + 1e-6) * 2 - 1
    theirs = Scale(q01=(0.0,), q99=(1e-5,), epsilon=1e-6)
    np.testing.assert_allclose(theirs.normalise(np.array([1e-5])), [1e-5 / 1.1e-5 * 2 - 1], rtol=1e-6)


@given(st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=2), st.booleans())
def test_what_is_done_is_undone(numbers: list[float], quantiles: bool) -> None:
    low, high = (-0.5, 0.1), (1.5, 0.4)
    scale = Scale(q01=low, q99=high) if quantiles else Scale(mean=low, std=high)
    x = np.array(numbers, np.float32)
    np.testing.assert_allclose(scale.denormalise(scale.normalise(x)), x, atol=1e-6)


def _scale(**changes: Any) -> Change:
    return lambda said: said["statistics"].update(state=changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(robt="a"), "unknown key 'robt': did you mean 'robot'"),
        (lambda said: said["statistics"]["state"].update(men=[1]), "statistics.state: unknown key 'men'"),
        (lambda said: said.pop("horizon"), "missing 1 required keyword-only argument: 'horizon'"),
        (lambda said: said.update(horizon="5"), "horizon must be int, got '5'"),
        (_scale(mean=[0.0, 0.0]), "statistics.state: expected mean and std, or q01 and q99, got mean"),
        (_scale(), "expected mean and std, or q01 and q99, got none"),
        (_scale(mean=[0.0] * 2, std=[1.0] * 2, q01=[0.0] * 2), "got mean and std and q01"),
        (_scale(mean=[0.0], std=[1.0]), r"statistics.state.mean: 1 numbers for 2 dimensions \(shoulder, elbow\)"),
        (_scale(mean=[0.0] * 2, std=[1.0, 0.0]), "statistics.state: elbow has a spread of 0"),
        (_scale(q01=[0.0, 2.0], q99=[1.0, 1.0]), "statistics.state: elbow has a spread of -0.5"),
        (_scale(mean=[0.0, float("nan")], std=[1.0] * 2), "statistics.state.mean: expected finite numbers"),
        (lambda said: said.update(relative=["wrist"]), "relative: wrist is no dimension of the action"),
        (lambda said: said["state"].pop(0) and said["statistics"]["state"].update(mean=[0], std=[1]),
         "relative: shoulder is no dimension of the state, which are elbow"),
        (lambda said: said.update(image_size=[8]), "image_size: expected two positive numbers"),
        (lambda said: said.update(cameras=[]), "cameras: expected at least one"),
        (lambda said: said["cameras"][0].update(kind="depth"), "cameras: front shows depth"),
        (lambda said: said.update(horizon=0), "horizon: expected at least 1, got 0"),
        (lambda said: said.update(execute=6), "execute: expected 1 to horizon=5, got 6"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change: Change, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_contract_file(_write(tmp_path / "arm.yaml", change))
    assert f"contract {tmp_path / 'arm.yaml'}" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said["state"][0].update(low=3.0), "low 3 is above high 2"),
        (lambda said: said["cameras"].append(said["cameras"][0]), "'front' is there twice"),
        (lambda said: said.update(gripper="hand"), "gripper: 'hand' is no dimension of the action"),
        (lambda said: said.update(control_hz=0.0), "control_hz"),
    ],
)
def test_the_interface_is_checked_as_any_contract(change: Change, message: str, tmp_path: Path) -> None:
    stated = read_contract_file(_write(tmp_path / "arm.yaml", change))
    with pytest.raises(VlaError, match=message):
        stated.contract(_POLICY, where="a test")


def test_a_file_that_is_missing_or_no_yaml_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"contract .*arm\.yaml does not exist"):
        read_contract_file(tmp_path / "arm.yaml")
    (tmp_path / "arm.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_contract_file(tmp_path / "arm.yaml")
