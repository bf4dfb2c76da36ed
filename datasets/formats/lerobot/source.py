"""LeRobot datasets, versions 2.1 and 3.0, as a source of episodes.

One row of a parquet file is one frame: vectors as lists, pictures as PNG bytes; videos lie beside them in mp4 files.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vla.core.contract import Camera, Contract
from vla.core.errors import DatasetError
from vla.core.media.video import decode_mp4, frame_times
from vla.core.types import Episode
from vla.datasets.formats.lerobot.clips import frames_of
from vla.datasets.formats.lerobot.clock import row_times
from vla.datasets.formats.lerobot.features import Layout, plan_layout
from vla.datasets.formats.lerobot.meta import Entry, Meta, read_meta
from vla.datasets.formats.lerobot.rows import column, flags, pictures, read_frames, vectors
from vla.datasets.formats.lerobot.tables import INFO
from vla.datasets.formats.source import Hints, Unreadable, noted


def recognise(path: Path) -> bool:
    """Whether ``path`` is a folder with LeRobot's ``meta/info.json``, of any version; never raises.

    Also where that file is not the text that it should be, with LeRobot's folders beside it: opening says what it is.
    """
    try:
        info = json.loads((path / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return (path / INFO).is_file() and (path / "data").is_dir()
    return isinstance(info, dict) and "codebase_version" in info and "features" in info


def open_lerobot(path: Path, hints: Hints) -> "LeRobotSource":
    """Read the ``meta`` folder; versions that are not read, and contradictions, are a `DatasetError`."""
    meta = read_meta(path)
    if not meta.episodes:
        raise DatasetError(f"{path}: expected at least 1 episode, got none; the recording was not finished")
    first = meta.episodes[0]
    if not meta.entries and isinstance(first, Unreadable):
        raise first.error
    if hints.control_hz is not None and hints.control_hz != float(meta.fps):
        raise DatasetError(
            f"{path}: the dataset has {float(meta.fps):g} frames a second, got control_hz {hints.control_hz:g}; "
            "leave it out: an import does not resample"
        )
    return LeRobotSource(path=path, hints=hints, meta=meta, layout=plan_layout(path, meta, hints))


@dataclass(frozen=True, kw_only=True)
class LeRobotSource:
    """The episodes of a LeRobot dataset; made by `open_lerobot`."""

    path: Path
    hints: Hints
    meta: Meta
    layout: Layout

    @property
    def contract(self) -> Contract:
        """From the features, their names and their statistics."""
        return self.layout.contract

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left out."""
        several = sum(len(entry.tasks) > 1 for entry in self.meta.entries)
        more = (
            f"{several} episodes have several tasks: the first is the instruction; tasks that follow each other within "
            "an episode are kept in its provenance, others as alternatives.",
        )
        return (*self.meta.notes, *self.layout.notes, *(more if several else ()))

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.meta.episodes)

    def read(self, number: int) -> Episode:
        """One episode; damage, contradicting counts and numbers that are not finite are a `DatasetError`."""
        entry = self.meta.episodes[number]
        if isinstance(entry, Unreadable):
            raise entry.error
        path = self.path / entry.data
        where = f"{path}: episode {entry.index}"
        table = read_frames(path, entry, self.layout.columns)
        steps = entry.length
        stamps_s, time_ns, notes = row_times(column(table, "timestamp", where), steps, self.meta.fps, where)
        provenance: dict[str, Any] = {"format": f"LeRobot {self.meta.version}", "episode_index": entry.index}
        instruction, alternatives, spans = self._language(table, entry, where)
        if spans:
            provenance["tasks"] = spans
        action = vectors(table, self.layout.action, where)
        success, done = (flags(table, name, where) for name in ("next.success", "next.done"))
        images = {}
        for camera in self.contract.cameras:
            images[camera.name], said = self._images(table, entry, camera, stamps_s)
            notes += said
        return Episode(
            images=images,
            state=vectors(table, self.layout.state, where),
            action=action,
            action_executed=action,
            reward=self._reward(table, where),
            done=np.arange(steps) == steps - 1 if done is None else done,
            valid=np.ones(steps, bool),
            time_ns=time_ns,
            command_time_ns=time_ns,
            instruction=instruction,
            instruction_alternatives=alternatives,
            task=self.hints.task or instruction,
            split=self.hints.split or entry.split,
            seed=0,
            success=None if success is None else bool(success.any()),
            provenance=noted(provenance, notes),
        )

    def _reward(self, table: Any, where: str) -> Float32[np.ndarray, " t"]:
        if "next.reward" not in table.column_names:
            return np.zeros(table.num_rows, np.float32)
        rows = vectors(table, (self.meta.features["next.reward"],), where)
        return np.ascontiguousarray(rows[:, 0])

    def _language(self, table: Any, entry: Entry, where: str) -> tuple[str, tuple[str, ...], list[dict[str, Any]]]:
        """The instruction, its alternatives, and where tasks that follow each other begin."""
        numbers = column(table, "task_index", where)
        if numbers is None:
            texts = list(entry.tasks)
            spans: list[dict[str, Any]] = []
        else:
            if numbers.dtype.kind not in "iu":
                raise DatasetError(f"{where}: task_index: expected whole numbers, got {numbers.dtype}; correct them")
            starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()]
            spans = [{"step": start, "task": self._task(int(numbers[start]))} for start in starts]
            texts = list(dict.fromkeys(span["task"] for span in spans))
        if len(texts) > 1 and numbers is not None:
            alternatives: tuple[str, ...] = ()
        else:
            spans = []
            alternatives = tuple(task for task in dict.fromkeys((*texts[1:], *entry.tasks)) if task not in texts[:1])
        instruction = next((text for text in (*texts, self.hints.instruction or "") if text.strip()), "")
        if not instruction:
            raise DatasetError(
                f"{self.path}: episode {entry.index} has no task text; give the instruction with the import"
            )
        return instruction, tuple(text for text in alternatives if text.strip()), spans

    def _task(self, number: int) -> str:
        try:
            return self.meta.tasks[number]
        except KeyError:
            raise DatasetError(
                f"{self.path}: task_index {number} is not in the table of {len(self.meta.tasks)} tasks; "
                "the meta folder belongs to another dataset: download it again"
            ) from None

    def _images(
        self, table: Any, entry: Entry, camera: Camera, stamps_s: Float64[np.ndarray, " t"]
    ) -> tuple[np.ndarray, list[str]]:
        """The frames of one camera, (t, y, x, c), and what is to be said of them."""
        key = self.layout.cameras[camera.name]
        if key not in entry.clips:
            return pictures(table, key, self.path, entry, camera), []
        clip = entry.clips[key]
        path = self.path / clip.span.path
        numbers, notes = frames_of(clip, entry.index, stamps_s, self.meta.fps, frame_times(path), str(path))
        frames = decode_mp4(path, numbers.tolist())
        if frames.shape[1:] != camera.shape:
            raise DatasetError(
                f"{path}: expected frames {camera.shape} of {key}, got {frames.shape[1:]}; "
                f"correct the shape of the feature in {self.path / INFO}"
            )
        return frames, [f"{camera.name}: {note}" for note in notes]
