"""HDF5 demonstrations of robomimic, robosuite, LIBERO, robocasa and MimicGen as a source of episodes.

``/data/demo_i`` holds actions, rewards, dones and ``obs`` (robomimic), or only states and actions, as robosuite's
collector writes them: then there are no cameras, and the simulator's states are kept so that images can be rendered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.media.video import frame_rate
from vla.core.types import Episode
from vla.datasets.formats.dimensions import as_rows
from vla.datasets.formats.robomimic.file import (
    ROBOSUITE,
    SIGNATURE,
    Header,
    described,
    filter_keys,
    language,
    open_hdf5,
    plain,
    read_header,
    read_object,
    split_of,
)
from vla.datasets.formats.robomimic.layout import Layout, plan_layout
from vla.datasets.formats.source import Hints

_SUFFIXES = (".hdf5", ".h5")


def recognise(path: Path) -> bool:
    """Whether ``path`` is such a file, or a folder whose HDF5 files all are; never raises."""
    try:
        files = _files(path)
        return bool(files) and all(_is_demonstrations(file) for file in files)
    except (OSError, DatasetError):
        return False


def open_robomimic(path: Path, hints: Hints) -> "RobomimicSource":
    """Look at every demonstration of a file, or of each file of a folder; damage is a `DatasetError`."""
    files = _files(path)
    if not files:
        raise DatasetError(f"{path}: expected a file, or a folder of files, {' or '.join(_SUFFIXES)}; got none")
    layout = plan_layout(files, hints)
    return RobomimicSource(hints=hints, layout=layout, notes=(*layout.notes, *_missing(layout, hints)))


@dataclass(frozen=True, kw_only=True)
class RobomimicSource:
    """The demonstrations, file by file; made by `open_robomimic`."""

    hints: Hints
    layout: Layout
    notes: tuple[str, ...]
    """What was assumed or left out."""

    @property
    def contract(self) -> Contract:
        """From ``env_args`` and the observations."""
        return self.layout.contract

    def __len__(self) -> int:
        """The number of demonstrations."""
        return len(self.layout.demos)

    def read(self, number: int) -> Episode:
        """One demonstration; damage, other lengths and numbers that are not finite are a `DatasetError`."""
        path, name = self.layout.demos[number]
        with open_hdf5(path) as file:
            header, demo = read_header(file, path), file["data"][name]
            where = f"{path}: {name}"
            steps = _steps(demo, where)
            action = as_rows(demo["actions"][()], f"{where}: actions")
            time_ns = self._time_ns(steps)
            reward = _column(demo, "rewards", steps, where)
            done = _column(demo, "dones", steps, where)
            keys = filter_keys(file, name)
            return Episode(
                images={c: _images(demo, key, header, where, steps) for c, key in self.layout.cameras.items()},
                state=self._state(demo, where, steps),
                action=action,
                action_executed=action,
                reward=np.zeros(steps, np.float32) if reward is None else reward,
                done=np.arange(steps) == steps - 1 if done is None else done != 0,
                valid=np.ones(steps, bool),
                time_ns=time_ns,
                command_time_ns=time_ns,
                instruction=language(header, demo, path) or self.hints.instruction or described(header.env_name),
                task=self.hints.task or header.task,
                split=self.hints.split or split_of(keys),
                seed=0,
                success=success_of(reward, done, header.env_args),
                sim_state=_simulator(demo, where, steps),
                model=plain(demo.attrs["model_file"]) if "model_file" in demo.attrs else "",
                provenance=_provenance(header, demo, path, keys),
            )

    def _time_ns(self, steps: int) -> np.ndarray:
        """From step numbers: int64 (t,)."""
        rate = frame_rate(self.contract.control_hz)
        return np.arange(steps, dtype=np.int64) * (1_000_000_000 * rate.denominator) // rate.numerator

    def _state(self, demo: Any, where: str, steps: int) -> np.ndarray:
        """float32 (t, s)."""
        parts = [as_rows(_array(demo, f"obs/{key}", where, steps), f"{where}: obs/{key}") for key in self.layout.state]
        return np.concatenate([np.empty((steps, 0), np.float32), *parts], axis=1)


def success_of(reward: np.ndarray | None, done: np.ndarray | None, env_args: Mapping[str, Any]) -> bool | None:
    """Sparse rewards say it; shaped ones do not, but a task that is done before the last step has succeeded."""
    if done is not None and done[:-1].any():
        return True
    if reward is None or not np.isin(reward, (0, 1)).all():
        return None
    if reward.any():
        return True
    return False if env_args.get("type") == ROBOSUITE else None


def _missing(layout: Layout, hints: Hints) -> list[str]:
    """What the first demonstration does not say."""
    path, demo = layout.demos[0]
    notes = []
    with open_hdf5(path) as file:
        header, group = read_header(file, path), file["data"][demo]
        if language(header, group, path) is None and hints.instruction is None:
            notes.append(f"There is no language: the instruction is made from the name {header.env_name!r}.")
        if "rewards" not in group:
            notes.append("There are no rewards: they are 0, each episode is done at its last step, success is unknown.")
    return notes


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder, by name."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)


def _is_demonstrations(path: Path) -> bool:
    """Also true of an HDF5 file that cannot be opened: opening it then says what is wrong."""
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return False
    try:
        with open_hdf5(path) as opened:
            import h5py

            data = opened.get("data")
            if not isinstance(data, h5py.Group):
                return False
            return "env_args" in data.attrs or any(_has_actions(data[name]) for name in data)
    except DatasetError:
        return True


def _has_actions(item: Any) -> bool:
    import h5py

    return isinstance(item, h5py.Group) and "actions" in item


def _steps(demo: Any, where: str) -> int:
    """Rows of the actions, which ``num_samples`` must confirm."""
    steps = int(demo["actions"].shape[0])
    written = str(plain(demo.attrs["num_samples"])) if "num_samples" in demo.attrs else str(steps)
    if written != str(steps):  # LIBERO writes the number as text
        raise DatasetError(f"{where}: num_samples says {written} steps, got {steps} actions; copy the file again")
    return steps


def _array(demo: Any, key: str, where: str, steps: int) -> np.ndarray:
    """A whole array with a row for each step."""
    array = demo[key]
    if array.shape[:1] != (steps,):
        raise DatasetError(
            f"{where}: {key}: expected {steps} rows, one for each action, got {array.shape}; remove the demonstration"
        )
    return np.asarray(array[()])


def _column(demo: Any, key: str, steps: int, where: str) -> np.ndarray | None:
    """float32 (t,), or None where it was not recorded."""
    if key not in demo:
        return None
    rows = as_rows(_array(demo, key, where, steps), f"{where}: {key}")
    if rows.shape[1] != 1:
        raise DatasetError(f"{where}: {key}: expected one number for each step, got {rows.shape[1]}")
    return np.ascontiguousarray(rows[:, 0])


def _images(demo: Any, key: str, header: Header, where: str, steps: int) -> np.ndarray:
    """uint8 (t, y, x, 3), row 0 at the top."""
    frames = _array(demo, f"obs/{key}", where, steps)
    return np.ascontiguousarray(frames[:, ::-1]) if header.upside_down else frames


def _simulator(demo: Any, where: str, steps: int) -> np.ndarray | None:
    """float64 (t, m), bit for bit: replay depends on it."""
    if "states" not in demo:
        return None
    states = _array(demo, "states", where, steps)
    if states.ndim != 2 or states.dtype.kind != "f" or not np.isfinite(states).all():
        raise DatasetError(f"{where}: states: expected finite numbers (t, m), got {states.dtype} {states.shape}")
    return states.astype(np.float64)


def _provenance(header: Header, demo: Any, path: Path, keys: list[str]) -> dict[str, Any]:
    value: dict[str, Any] = {"format": "robomimic", "file": path.name, "demo": str(demo.name).rsplit("/", 1)[-1]}
    value |= {"env_args": dict(header.env_args), "filter_keys": keys}
    if meta := read_object(demo.attrs, "ep_meta", f"{path}: {demo.name}"):
        value["ep_meta"] = meta
    if header.problem_info:
        value["problem_info"] = dict(header.problem_info)
    return {**value, **{key: text for key, text in header.origin.items() if text}}
