"""Contracts survive JSON, and each disagreement is one readable line."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.contract import Camera, Contract, Dimension, differences, read_contract, require_match
from vla.core.errors import ContractError
from vla.core.files import write_json
from vla.core.policy_spec import PolicySpec

NAMES = st.text("abc_", min_size=1, max_size=6)
NUMBERS = st.floats(-1e3, 1e3)
DIMENSION = st.fixed_dictionaries(
    {"name": NAMES, "unit": st.sampled_from(["rad", "m"]), "low": st.floats(-1e3, 0), "high": st.floats(0, 1e3)}
)


def distinct(items: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Lists of what has a name of its own."""
    return st.lists(items, max_size=5, unique_by=lambda item: item["name"])


CAMERAS = (Camera(name="front", height=4, width=6), Camera(name="wrist", height=4, width=6))
CAMERA = st.fixed_dictionaries(
    {
        "name": NAMES,
        "height": st.integers(1, 99),
        "width": st.integers(1, 99),
        "kind": st.sampled_from(["rgb", "depth"]),
        "hz": st.none() | st.floats(1, 100),
    }
)
DIGESTS = st.text("0123456789abcdef", min_size=12, max_size=12)
JSON = st.recursive(st.integers() | NUMBERS | NAMES | st.none(), lambda inner: st.lists(inner, max_size=3))
POLICY = st.fixed_dictionaries(
    {
        "kind": NAMES,
        "horizon": st.integers(1, 99),
        "execute": st.integers(1, 99),
        "history": st.integers(1, 9),
        "committed": st.integers(0, 9),
        "speech": st.booleans(),
        "ensemble": st.floats(0, 1),
        "relative_to": st.lists(st.none() | NAMES, max_size=3),
        "robots": st.lists(NAMES, min_size=1, max_size=3),
        "datasets": st.lists(st.fixed_dictionaries({"path": NAMES, "manifest": st.integers(1, 9)}), max_size=2),
        "statistics": st.lists(DIGESTS, max_size=2),
        "preprocessor": DIGESTS,
        "tokenizer": DIGESTS,
        "model": st.dictionaries(NAMES, JSON, max_size=3),
        "fitted": st.dictionaries(NAMES, JSON, max_size=3),
    }
)
VALUES = st.fixed_dictionaries(
    {
        "contract_version": st.just(2),
        "robot": NAMES,
        "cameras": distinct(CAMERA),
        "state": distinct(DIMENSION),
        "action": distinct(DIMENSION),
        "signals": st.dictionaries(NAMES, distinct(DIMENSION)),
        "gripper": st.none(),
        "control_hz": st.floats(1, 100),
        "policy": st.none() | POLICY,
        "versions": st.dictionaries(NAMES, NAMES),
    }
).map(lambda value: _fitted(value))


def _fitted(value: dict[str, Any]) -> dict[str, Any]:
    """The same, its policy relative to what there is."""
    if value["policy"]:
        known = [None, *(item["name"] for item in value["state"])]
        value["policy"]["relative_to"] = [known[i % len(known)] for i in range(len(value["action"]))]
        value["policy"]["execute"] = min(value["policy"]["execute"], value["policy"]["horizon"])
        value["policy"]["committed"] = min(value["policy"]["committed"], value["policy"]["horizon"] - 1)
        if not value["policy"]["speech"]:
            del value["policy"]["speech"]  # what does not listen says nothing of it, and keeps its digest
    return value


def _contract(**changes: Any) -> Contract:
    values: dict[str, Any] = {
        "robot": "arm",
        "cameras": CAMERAS,
        "state": (Dimension(name="joint", unit="rad", low=-1.0, high=1.0),),
        "action": (Dimension(name="joint", unit="rad", low=-1.0, high=1.0),),
        "signals": {"place": (Dimension(name="x", unit="m", low=0.0, high=1.0),)},
        "gripper": "joint",
        "control_hz": 10.0,
    }
    return Contract(**(values | changes))


def _policy(**changes: Any) -> PolicySpec:
    values: dict[str, Any] = {
        "kind": "unified",
        "horizon": 8,
        "execute": 4,
        "relative_to": ("joint",),
        "robots": ("arm",),
        "preprocessor": "aa",
        "tokenizer": "bb",
        "model": {"trunk": {"width": 8}},
    }
    return PolicySpec(**(values | changes))


@given(VALUES)
def test_json_round_trip(value: dict[str, Any]) -> None:
    contract = Contract.from_json(value, where="test")
    text = json.dumps(contract.to_json())
    assert json.loads(text) == json.loads(json.dumps(value))
    again = Contract.from_json(json.loads(text), where="test")
    assert again == contract
    assert again.digest() == contract.digest()
    assert differences(contract, again, scope="all") == []


def test_digest_ignores_recorded_versions_and_nothing_else() -> None:
    assert _contract(versions={"numpy": "1"}).digest() == _contract(versions={"numpy": "2"}).digest()
    others = [
        _contract(control_hz=20.0),
        _contract(policy=_policy()),
        _contract(policy=_policy(horizon=9)),
        _contract(policy=_policy(fitted={"head": {"low": 0.5}})),
        _contract(policy=_policy(speech=True)),
    ]
    assert len({contract.digest() for contract in (_contract(), *others)}) == 6


def test_who_listens_is_no_replacement_for_who_reads() -> None:
    reads, listens = (_contract(policy=_policy(speech=speech)) for speech in (False, True))
    assert differences(reads, listens) == []
    assert differences(reads, listens, scope="execution") == ["policy.speech: False ≠ True"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"robot": "leg"}, "robot: 'arm' ≠ 'leg'"),
        ({"gripper": None}, "gripper: 'joint' ≠ None"),
        ({"control_hz": 20.0}, "control_hz: 10.0 ≠ 20.0"),
        ({"cameras": (Camera(name="front", height=4, width=6),)}, "cameras.wrist: 4x6 ≠ absent"),
        (
            {"cameras": (CAMERAS[0], Camera(name="wrist", height=4, width=6, kind="depth", hz=15.0))},
            "cameras.wrist: 4x6 ≠ 4x6 depth at 15 Hz",
        ),
        (
            {"action": (Dimension(name="joint", unit="rad", low=-2.0, high=1.0),)},
            "action.joint: [-1, 1] rad ≠ [-2, 1] rad",
        ),
        ({"state": (Dimension(name="joint", unit="1", low=-1.0, high=1.0),)}, "state.joint: [-1, 1] rad ≠ [-1, 1] 1"),
        (
            {"signals": {"place": (Dimension(name="x", unit="m", low=0.0, high=2.0),)}},
            "signals.place.x: [0, 1] m ≠ [0, 2] m",
        ),
    ],
)
def test_each_disagreement_is_one_line(change: dict[str, Any], line: str) -> None:
    assert differences(_contract(), _contract(**change)) == [line]


def test_limits_that_differ_a_little_look_different() -> None:
    near = (Dimension(name="joint", unit="rad", low=-1.0, high=1.0000001),)
    ours, theirs = differences(_contract(), _contract(state=near))[0].removeprefix("state.joint: ").split(" ≠ ")
    assert ours != theirs


def test_order_of_cameras_matters() -> None:
    swapped = _contract(cameras=_contract().cameras[::-1])
    assert differences(_contract(), swapped) == ["cameras: order ['front', 'wrist'] ≠ ['wrist', 'front']"]


def test_a_signal_is_compared_only_where_both_have_it() -> None:
    assert differences(_contract(signals={}), _contract()) == []
    assert differences(_contract(), _contract(signals={"force": ()})) == []


def test_policy_counts_only_for_the_whole() -> None:
    mine, other = _contract(policy=_policy()), _contract(policy=_policy(horizon=9, tokenizer="cc"))
    assert differences(mine, other) == []
    assert differences(mine, other, scope="all") == ["policy.horizon differs", "policy.tokenizer differs"]
    assert differences(_contract(), mine) == []
    assert "policy.horizon differs" in differences(_contract(), mine, scope="all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda policy: policy.pop("horizon"), "here: the policy part lacks horizon; the file is damaged"),
        (lambda policy: policy.update(hrizon=8), "has unknown keys hrizon; use the version that wrote it"),
        (lambda policy: policy.update(committed=8), "policy.committed: expected at most 7, got 8"),
        (lambda policy: policy.update(speech=1), "policy.speech: expected true or false, got 1"),
        (lambda policy: policy.update(execute=0), "policy.execute: expected a whole number of at least 1, got 0"),
        (lambda policy: policy.update(model=3), "here: policy.model: expected a mapping, got 3; .* is damaged"),
        (lambda policy: policy.update(fitted=[3]), r"here: policy.fitted: expected a mapping, got \[3\]"),
        (lambda policy: policy.update(kind=["unified"]), r"here: policy.kind: expected a string, got \['unified'\]"),
        (lambda policy: policy.update(horizon=True), "policy.horizon: expected a whole number"),
        (lambda policy: policy.update(relative_to=3), "here: .*the policy part is damaged"),
        (lambda policy: policy.update(datasets=[{"path": "d"}]), "here: .*manifest.*the policy part is damaged"),
    ],
    ids=["missing", "unknown", "committed", "speech", "zero", "model", "fitted", "kind", "bool", "no list", "dataset"],
)
def test_damage_to_the_policy_part_is_named(change: Callable[[dict[str, Any]], object], message: str) -> None:
    value = json.loads(json.dumps(_contract(policy=_policy()).to_json()))
    change(value["policy"])
    with pytest.raises(ContractError, match=message):
        Contract.from_json(value, where="here")


def test_require_match_names_both_sides_every_difference_and_the_fix() -> None:
    theirs = _contract(robot="leg", control_hz=20.0)
    with pytest.raises(ContractError) as caught:
        require_match(_contract(), theirs, who="checkpoint a", whom="robot b", fix="retrain")
    assert str(caught.value) == (
        "checkpoint a does not fit robot b: robot: 'arm' ≠ 'leg'; control_hz: 10.0 ≠ 20.0. retrain"
    )
    require_match(_contract(), _contract(), who="a", whom="b", fix="")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"contract_version": 99}, "contract version 99, this software reads 2"),
        ({"contract_version": 1}, "here: .* vla data upgrade PATH, .* vla upgrade CHECKPOINT"),
        ({"contract_version": 2, "robot": "arm"}, "lacks action, cameras, control_hz, state"),
        (_contract().to_json() | {"cameras": [{"name": "front"}]}, "damaged"),
        (_contract().to_json() | {"state": ["joint"]}, "damaged"),
        (_contract().to_json() | {"action": 3}, "damaged"),
        (_contract().to_json() | {"signals": [3]}, "damaged"),
        (_contract().to_json() | {"signals": {"place": ["x"]}}, "damaged"),
    ],
)
def test_damage_is_a_contract_error(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        Contract.from_json(value, where="here")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    with pytest.raises(ContractError, match="does not exist"):
        read_contract(path)
    for text in ("{", "[]"):
        path.write_text(text)
        with pytest.raises(ContractError, match="damaged"):
            read_contract(path)
    write_json(path, _contract().to_json())
    assert read_contract(path) == _contract()


def test_contracts_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _contract().robot = "leg"  # type: ignore[misc]
