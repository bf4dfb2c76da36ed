"""The names of a contract say what is metric and what is pointed at."""

from collections.abc import Sequence

import pytest
from vla.models.grounding import GroundingLayout

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ContractError


def _contract(names: Sequence[str], cameras: Sequence[str] = ("front", "wrist")) -> Contract:
    return Contract(
        robot="r",
        cameras=tuple(Camera(name=name, height=16, width=16) for name in cameras),
        state=(),
        action=(),
        signals={
            "grounding": tuple(
                Dimension(name=name, unit="image" if "." in name else "m", low=-1.0, high=1.0) for name in names
            )
        },
        control_hz=10.0,
    )


def test_entries_are_found_by_name_in_any_order() -> None:
    names = ["wrist.cup.row", "x", "front.cup.column", "y", "wrist.cup.column", "front.cup.row"]
    layout = GroundingLayout.of(_contract(names))
    assert layout.metric == (1, 3)
    assert layout.points == (((5, 2),), ((0, 4),))


def test_every_entry_has_one_role() -> None:
    things = [
        f"{camera}.{thing}.{axis}" for camera in ("front", "wrist") for thing in "ab" for axis in ("row", "column")
    ]
    layout = GroundingLayout.of(_contract(["x", *things, "y"]))
    said = [*layout.metric, *(entry for camera in layout.points for point in camera for entry in point)]
    assert sorted(said) == list(range(10))


def test_a_robot_may_know_nothing() -> None:
    layout = GroundingLayout.of(_contract([]))
    assert layout == GroundingLayout(metric=(), points=((), ()))


def test_a_row_needs_its_column() -> None:
    with pytest.raises(ContractError, match=r"front\.cup\.row has no front\.cup\.column"):
        GroundingLayout.of(_contract(["front.cup.row"], cameras=["front"]))


def test_cameras_point_at_the_same_things() -> None:
    with pytest.raises(ContractError, match="same things"):
        GroundingLayout.of(_contract(["front.cup.row", "front.cup.column"]))


def test_cameras_whose_names_begin_alike_are_told_apart() -> None:
    names = [f"{camera}.cup.{axis}" for camera in ("front", "front2") for axis in ("row", "column")]
    layout = GroundingLayout.of(_contract(names, cameras=["front", "front2"]))
    assert layout.points == (((0, 1),), ((2, 3),))
