"""The names of a signal say which of its entries are points in which image."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.core.contract import Dimension
from vla.core.errors import ContractError
from vla.models.trunk.points import Points, cell_grid, points_of


def _points(names: Sequence[str], cameras: Sequence[str] = ("front", "wrist")) -> Points:
    dimensions = [Dimension(name=name, unit="image" if "." in name else "m", low=-1.0, high=1.0) for name in names]
    return points_of("signal", dimensions, cameras)


def test_entries_are_found_by_name_in_any_order() -> None:
    names = ["wrist.cup.row", "x", "front.cup.column", "y", "wrist.cup.column", "front.cup.row"]
    assert _points(names) == (((5, 2),), ((0, 4),))


def test_every_entry_of_an_image_is_in_one_point() -> None:
    things = [
        f"{camera}.{thing}.{axis}" for camera in ("front", "wrist") for thing in "ab" for axis in ("row", "column")
    ]
    said = [entry for camera in _points(["x", *things, "y"]) for point in camera for entry in point]
    assert sorted(said) == list(range(1, 9))


def test_a_signal_may_hold_no_points() -> None:
    assert _points([]) == _points(["x", "y"]) == ((), ())


def test_what_is_no_position_in_an_image_is_no_point() -> None:
    metric = [Dimension(name=f"front.cup.{axis}", unit="m", low=-1.0, high=1.0) for axis in ("row", "column")]
    assert points_of("signal", metric, ["front"]) == ((),)


def test_a_row_needs_its_column() -> None:
    with pytest.raises(ContractError, match=r"signal: front\.cup\.row has no front\.cup\.column"):
        _points(["front.cup.row"], ["front"])


def test_cameras_whose_names_begin_alike_are_told_apart() -> None:
    names = [f"{camera}.cup.{axis}" for camera in ("front", "front2") for axis in ("row", "column")]
    assert _points(names, ["front", "front2"]) == (((0, 1),), ((2, 3),))


@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_cells_fill_the_image_row_by_row(height: int, width: int) -> None:
    grid = cell_grid(height, width, torch.zeros(())).view(height, width, 2)
    torch.testing.assert_close(grid.mean(dim=(0, 1)), torch.zeros(2), atol=1e-6, rtol=0)
    assert grid.abs().max() < 1
    torch.testing.assert_close(grid[0, 0], torch.tensor([1 / height - 1, 1 / width - 1]))
    if height > 1 and width > 1:
        torch.testing.assert_close(grid[1, 0] - grid[0, 0], torch.tensor([2 / height, 0.0]))
        torch.testing.assert_close(grid[0, 1] - grid[0, 0], torch.tensor([0.0, 2 / width]))
