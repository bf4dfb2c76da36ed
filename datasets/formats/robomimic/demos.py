"""The demonstrations of one file, and what each holds: its arrays by name, its attributes, and how many steps."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.errors import DatasetError
from vla.datasets.formats.dimensions import as_rows
from vla.datasets.formats.robomimic.filters import missing_filters
from vla.datasets.formats.robomimic.header import Header, as_count, language, read_attributes
from vla.datasets.formats.robomimic.tree import Tree, UnreadableError, located, member, read_rows, resolve, same, walk

Form = tuple[str, tuple[int, ...]]
"""What an array holds, and the shape of one step of it."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One open demonstration."""

    where: str
    header: Header
    attributes: Mapping[str, Any]
    group: Any
    notes: tuple[str, ...]

    @cached_property
    def tree(self) -> Tree:
        """Its arrays, and those of ``obs``; other groups (next_obs, states of Isaac Lab) are not looked into."""
        with located(self.where):
            return walk(self.group, ("obs",))

    @cached_property
    def names(self) -> frozenset[str]:
        """What lies directly in it."""
        return frozenset(self.group)

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        """Those that were asked for."""
        return {}

    @cached_property
    def steps(self) -> int:
        """Rows of the actions."""
        return int(self.array("actions").shape[0])

    @property
    def language(self) -> str | None:
        """The instruction, as far as the file holds one."""
        with located(self.where):
            return language(self.header, self.attributes, self.group, self.where)

    @property
    def forms(self) -> dict[str, Form]:
        """Of the actions and of each observation."""
        wanted = {key: a for key, a in self.tree.arrays.items() if key == "actions" or key.startswith("obs/")}
        return {key: (_kind(array), tuple(array.shape[1:])) for key, array in wanted.items()}

    def array(self, key: str) -> Any:
        """The array of this name; one that is not there is a `DatasetError` that says what is in its place."""
        if key not in self._arrays:
            try:
                self._arrays[key] = resolve(self.group, key)
            except UnreadableError as error:
                raise DatasetError(f"{self.where}: {key}: expected an array of numbers: {error}") from None
        return self._arrays[key]

    def rows(self, key: str) -> np.ndarray:
        """A whole array with a row for each step."""
        array = self._as_long_as_actions(key)
        with located(f"{self.where}: {key}"):
            return read_rows(array)

    def numbers(self, key: str) -> np.ndarray:
        """float32 (t, w)."""
        return as_rows(self.rows(key), f"{self.where}: {key}")

    def column(self, key: str) -> np.ndarray | None:
        """float32 (t,), or None where it was not recorded."""
        if key not in self.names:
            return None
        rows = self.numbers(key)
        if rows.shape[1] != 1:
            raise DatasetError(f"{self.where}: {key}: expected one number for each step, got {rows.shape[1]}")
        return np.ascontiguousarray(rows[:, 0])

    def check(self, forms: Mapping[str, Form], robot: object) -> None:
        """Raise `DatasetError` unless it is as the others of its source are, and as long as it says."""
        if (theirs := robot_of(self.header)) != robot:
            raise DatasetError(
                f"{self.where}: expected the robot and rate {robot} of the others, got {theirs}; import its file alone"
            )
        written, steps = self.attributes.get("num_samples"), self.steps
        if written is not None and as_count(written) != steps:
            raise DatasetError(
                f"{self.where}: num_samples says {written} steps, got {steps} actions; rows were lost or removed after "
                "it was written: if they are whole, correct the attribute"
            )
        for key, form in forms.items():
            array = self._as_long_as_actions(key)
            if (got := (_kind(array), tuple(array.shape[1:]))) != form:
                raise DatasetError(
                    f"{self.where}: {key}: expected {form[0]} {form[1]} a step as in the others, "
                    f"got {got[0]} {got[1]}; import it alone"
                )
            if missing := missing_filters(array):
                raise DatasetError(f"{self.where}: {key}: {missing}")

    def _as_long_as_actions(self, key: str) -> Any:
        """The array of this name, if it has a row for each step."""
        array, steps = self.array(key), self.steps
        if array.shape[0] != steps:
            raise DatasetError(
                f"{self.where}: {key}: expected {steps} rows, one for each action, got {array.shape[0]}; "
                "which row belongs to which action is not written: leave the demonstration out"
            )
        return array


def robot_of(header: Header) -> tuple[str | None, float | None]:
    """What all demonstrations of a source must have in common: the robot, and steps in one second."""
    return header.robot, header.control_hz


def open_demo(file: Any, header: Header, path: Path, name: str) -> Demo:
    """One demonstration of an open file; damage is a `DatasetError`."""
    where, notes = f"{path}: {name}", []  # type: tuple[str, list[str]]
    with located(where):
        group = member(file["data"], name)
        attributes = read_attributes(group, notes)
    return Demo(where=where, header=header, attributes=attributes, group=group, notes=tuple(notes))


def demonstrations(file: Any, path: Path, notes: list[str]) -> list[str]:
    """Names of the groups with steps, by number: ``demo_2`` comes before ``demo_10``; the others are noted."""
    import h5py

    data = file.get("data")
    if not isinstance(data, h5py.Group):
        raise DatasetError(f"{path}: expected a group /data, got {sorted(file)}; is it of robomimic?")
    found: dict[str, Any] = {}
    for name, why in _members(data):
        if isinstance(why, str):
            notes.append(f"{path.name}: {name} is left out: {why}.")
        elif twin := next((other for other, group in found.items() if same(group, why)), None):
            notes.append(f"{path.name}: {name} is left out: it is {twin} by another name.")
        else:
            found[name] = why
    return sorted(found, key=_number)


def _members(data: Any) -> Iterator[tuple[str, Any]]:
    """Each name with the group that it leads to, or why it is no demonstration."""
    import h5py

    for name in data:
        try:
            group = member(data, name)
        except UnreadableError as error:
            yield name, str(error)
            continue
        if not isinstance(group, h5py.Group):
            yield name, "it is no group"
        elif "actions" not in list(group):  # links that lead nowhere are there too: reading says so
            others = [key for key in group if key.startswith("actions")]
            yield name, "it has no actions" + (f", but {', '.join(others)}: rename one" if others else "")
        elif (shape := getattr(group.get("actions"), "shape", None)) and shape[0] == 0:
            yield name, "it has no steps"
        else:
            yield name, group


def _kind(array: Any) -> str:
    pictures = array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3
    return "frames" if pictures else "numbers"


def _number(name: str) -> tuple[int, str]:
    digits = re.search(r"(\d+)$", name)
    return (int(digits[1]) if digits else -1, name)
