"""The Zarr replay buffers of diffusion_policy and UMI as a source of episodes.

``data/<key>`` holds the rows of all episodes one after the other, and ``meta/episode_ends`` where each ends: Zarr of
version 2, or rewritten as 3, in a folder or a zip file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.media.video import frame_rate
from vla.core.types import Episode
from vla.datasets.formats.diffusion_policy.buffer import ENDS, arrays_below, holds_buffer, open_buffer, read_rows
from vla.datasets.formats.diffusion_policy.layout import Layout, plan_layout
from vla.datasets.formats.dimensions import as_rows
from vla.datasets.formats.pictures import as_pixels
from vla.datasets.formats.source import Hints


def recognise(path: Path) -> bool:
    """Whether ``path`` is a folder or a zip file with ``meta/episode_ends``; never raises."""
    try:
        return holds_buffer(path)
    except OSError:
        return False


def open_diffusion_policy(path: Path, hints: Hints) -> "ReplayBufferSource":
    """Read the ends of the episodes and every low-dimensional array; that no episode is sound is a `DatasetError`."""
    with open_buffer(path) as root:
        ends = _ends(root, path)
        layout = plan_layout(arrays_below(root, path), path, ends.tolist(), hints)
        others = sorted(key for key in root["meta"] if f"meta/{key}" != ENDS)
    notes = [f"These arrays of meta are left out: {', '.join(others)}."] if others else []
    return ReplayBufferSource(
        path=path, hints=hints, layout=layout, ends=tuple(ends.tolist()), notes=(*layout.notes, *notes)
    )


@dataclass(frozen=True, kw_only=True)
class ReplayBufferSource:
    """The episodes of a replay buffer; made by `open_diffusion_policy`."""

    path: Path
    hints: Hints
    layout: Layout
    ends: tuple[int, ...]
    """The row after the last of each episode."""
    notes: tuple[str, ...]
    """What was assumed or left out."""

    @property
    def contract(self) -> Contract:
        """From the names and shapes of the arrays."""
        return self.layout.contract

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.ends)

    def read(self, number: int) -> Episode:
        """One episode, of which only its own rows are read; damage and bad numbers are a `DatasetError`."""
        rows = slice(self.ends[number - 1] if number else 0, self.ends[number])
        steps = rows.stop - rows.start
        if not steps:
            raise DatasetError(f"{self.path}: {ENDS}: episode {number} has no steps: it ends where the one before does")
        with open_buffer(self.path) as root:
            data = root["data"]
            action = self._vectors(data, self.layout.action, rows)
            state = self._vectors(data, self.layout.state, rows)
            images = {
                name: as_pixels(read_rows(data[key], rows, self._where(key, rows)), self._where(key, rows))
                for name, key in self.layout.cameras.items()
            }
        rate = frame_rate(self.contract.control_hz)
        time_ns = np.arange(steps, dtype=np.int64) * (1_000_000_000 * rate.denominator) // rate.numerator
        return Episode(
            images=images,
            state=state,
            action=action,
            action_executed=action,
            reward=np.zeros(steps, np.float32),
            done=np.arange(steps) == steps - 1,
            valid=np.ones(steps, bool),
            time_ns=time_ns,
            command_time_ns=time_ns,
            instruction=self.layout.instruction,
            task=self.hints.task or self.layout.instruction,
            split=self.hints.split or "train",
            seed=0,
            success=None,
            provenance={"format": "diffusion-policy", "file": self.path.name, "episode": number},
        )

    def _vectors(self, data: Any, keys: tuple[str, ...], rows: slice) -> np.ndarray:
        """Arrays side by side: float32 (t, w)."""
        parts = []
        for key in keys:
            where = self._where(key, rows)
            parts.append(as_rows(read_rows(data[key], rows, where), where))
        return np.concatenate([np.empty((rows.stop - rows.start, 0), np.float32), *parts], axis=1)

    def _where(self, key: str, rows: slice) -> str:
        return f"{self.path}: data/{key}, rows {rows.start} to {rows.stop}"


def _ends(root: Any, path: Path) -> np.ndarray:
    """int64 (episodes,), never falling: an episode without steps is refused when it is read."""
    where = f"{path}: {ENDS}"
    if "data" not in root or ENDS not in root:
        raise DatasetError(f"{path}: expected groups data and meta with episode_ends, got {sorted(root)}")
    ends = np.asarray(root[ENDS][...])
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or not len(ends):
        raise DatasetError(
            f"{where}: expected at least one whole number, got {ends.dtype} {ends.shape}; nothing was recorded"
        )
    ends = ends.astype(np.int64)
    lengths = np.diff(ends, prepend=0)
    if (lengths < 0).any() or not ends[-1]:
        number = int(np.flatnonzero(lengths < 0)[0]) if (lengths < 0).any() else 0
        raise DatasetError(
            f"{where}: expected rising numbers, got {ends[number]} for episode {number}, which begins at "
            f"{ends[number] - lengths[number]}: which rows belong to which episode is lost"
        )
    return ends
