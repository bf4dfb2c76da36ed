"""HDF5 demonstrations of robomimic, robosuite, LIBERO, robocasa and MimicGen as a source of episodes.

``/data/demo_i`` holds actions, rewards, dones and ``obs`` (robomimic), or only states and actions, as robosuite's
collector writes them: then there are no cameras, and the simulator's states are kept so that images can be rendered.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.media.video import frame_rate
from vla.core.types import Episode
from vla.datasets.formats.robomimic.demos import Demo, demonstrations, open_demo
from vla.datasets.formats.robomimic.file import is_hdf5, open_hdf5
from vla.datasets.formats.robomimic.header import described, read_header, read_object
from vla.datasets.formats.robomimic.layout import Layout, plan_layout
from vla.datasets.formats.robomimic.success import success_of
from vla.datasets.formats.robomimic.survey import Listed
from vla.datasets.formats.source import Hints

_SUFFIXES = (".hdf5", ".h5")


def recognise(path: Path) -> bool:
    """Whether ``path`` is such a file, or a folder with at least one, or with nothing else by name; never raises."""
    try:
        files = _files(path)
        if path.is_dir() and files and not any(is_hdf5(file) for file in files):
            return len(files) == sum(file.is_file() for file in path.iterdir())  # Git LFS pointers, broken downloads
        return any(_is_demonstrations(file) for file in files)
    except (OSError, DatasetError):
        return False


def open_robomimic(path: Path, hints: Hints) -> "RobomimicSource":
    """Look at every demonstration of a file, or of each file of a folder; that none is sound is a `DatasetError`."""
    files = _files(path)
    if not files:
        raise DatasetError(f"{path}: expected a file, or a folder of files, {' or '.join(_SUFFIXES)}; got none")
    layout = plan_layout(files, hints)
    return RobomimicSource(hints=hints, layout=layout, notes=layout.notes)


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
        listed = self.layout.demos[number]
        path, name = listed.path, listed.name
        with open_hdf5(path) as file:
            header = read_header(file)
            if not name:  # the file could not be opened when it was looked at; now it can
                raise DatasetError(f"{path}: it has changed since the import began: begin again")
            demo = open_demo(file, header, path, name)
            demo.check(self.layout.forms, self.layout.robot)
            steps, action, time_ns = demo.steps, demo.numbers("actions"), self._time_ns(demo.steps)
            reward, done = demo.column("rewards"), demo.column("dones")
            states = _simulator(demo)
            return Episode(
                images={c: self._images(demo, path, c) for c in self.layout.cameras},
                state=self._state(demo),
                action=action,
                action_executed=action,
                reward=np.zeros(steps, np.float32) if reward is None else reward,
                done=np.arange(steps) == steps - 1 if done is None else done != 0,
                valid=np.ones(steps, bool),
                time_ns=time_ns,
                command_time_ns=time_ns,
                instruction=demo.language or self.hints.instruction or described(header, path),
                task=self.hints.task or header.task(path),
                split=self.hints.split or listed.split,
                seed=0,
                success=success_of(demo.attributes, reward)[0],
                sim_state=states,
                model="" if states is None else str(demo.attributes.get("model_file", "")),
                provenance=_provenance(demo, listed),
            )

    def _time_ns(self, steps: int) -> np.ndarray:
        """From step numbers: int64 (t,)."""
        rate = frame_rate(self.contract.control_hz)
        return np.arange(steps, dtype=np.int64) * (1_000_000_000 * rate.denominator) // rate.numerator

    def _state(self, demo: Demo) -> np.ndarray:
        """float32 (t, s)."""
        parts = [demo.numbers(f"obs/{key}") for key in self.layout.state]
        return np.concatenate([np.empty((demo.steps, 0), np.float32), *parts], axis=1)

    def _images(self, demo: Demo, path: Path, camera: str) -> np.ndarray:
        """uint8 (t, y, x, 3), row 0 at the top."""
        frames = demo.rows(f"obs/{self.layout.cameras[camera]}")
        return np.ascontiguousarray(frames[:, ::-1]) if camera in self.layout.turned[path] else frames


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder, by name."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)


def _is_demonstrations(path: Path) -> bool:
    """Also true of an HDF5 file that cannot be opened: opening it then says what is wrong."""
    if not path.is_file() or not is_hdf5(path):
        return False
    try:
        with open_hdf5(path) as opened:
            import h5py

            data = opened.get("data")
            if not isinstance(data, h5py.Group):
                return False
            return "env_args" in data.attrs or bool(demonstrations(opened, path, []))
    except DatasetError:
        return True


def _simulator(demo: Demo) -> np.ndarray | None:
    """float64 (t, m), bit for bit: replay depends on it; None where it is missing, or kept as a group (Isaac Lab)."""
    import h5py

    if "states" not in demo.names or isinstance(demo.group["states"], h5py.Group):
        return None
    states = demo.rows("states")
    if states.ndim != 2 or states.dtype.kind != "f" or not np.isfinite(states).all():
        raise DatasetError(f"{demo.where}: states: expected finite numbers (t, m), got {states.dtype} {states.shape}")
    return states.astype(np.float64)


def _provenance(demo: Demo, listed: Listed) -> dict[str, Any]:
    header = demo.header
    value: dict[str, Any] = {"format": "robomimic", "file": listed.path.name, "demo": listed.name}
    value |= {"env_args": dict(header.env_args), "filter_keys": list(listed.masks)}
    if meta := read_object(demo.attributes, "ep_meta", []):
        value["ep_meta"] = meta
    if header.problem_info:
        value["problem_info"] = dict(header.problem_info)
    return {**value, **{key: text for key, text in header.origin.items() if text}}
