"""LeRobot datasets, versions 2.1 and 3.0, as a source of episodes.

One row of a parquet file is one frame: vectors as lists, pictures as PNG bytes; videos lie beside them in mp4 files.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.media.video import decode_mp4, frame_count
from vla.core.types import Episode
from vla.datasets.formats.lerobot.features import Layout, plan_layout
from vla.datasets.formats.lerobot.meta import Clip, Entry, Meta, read_meta
from vla.datasets.formats.lerobot.rows import column, pictures, read_frames, vectors
from vla.datasets.formats.lerobot.tables import INFO
from vla.datasets.formats.source import Hints

_LATE_S = 1e-3
"""A timestamp this far from its frame number is worth a word in the provenance."""


def recognise(path: Path) -> bool:
    """Whether ``path`` is a folder with LeRobot's ``meta/info.json``, of any version; never raises."""
    try:
        info = json.loads((path / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and "codebase_version" in info and "features" in info


def open_lerobot(path: Path, hints: Hints) -> "LeRobotSource":
    """Read the ``meta`` folder; versions that are not read, and contradictions, are a `DatasetError`."""
    meta = read_meta(path)
    if not meta.episodes:
        raise DatasetError(f"{path}: expected at least 1 episode, got none; the recording was not finished")
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
        several = sum(len(entry.tasks) > 1 for entry in self.meta.episodes)
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
        path = self.path / entry.data
        table = read_frames(path, entry, self.layout.columns)
        steps = entry.length
        provenance: dict[str, Any] = {"format": f"LeRobot {self.meta.version}", "episode_index": entry.index}
        instruction, alternatives, spans = self._language(table, entry)
        if spans:
            provenance["tasks"] = spans
        late = self._lateness_s(table)
        if late > _LATE_S:
            provenance["timestamp_deviation_s"] = late
        action = vectors(table, self.layout.action, path, entry)
        success = column(table, "next.success")
        return Episode(
            images={name: self._images(table, entry, key) for name, key in self.layout.cameras.items()},
            state=vectors(table, self.layout.state, path, entry),
            action=action,
            action_executed=action,
            reward=self._reward(table, path, entry),
            done=self._done(table, steps),
            valid=np.ones(steps, bool),
            time_ns=(time_ns := self._time_ns(steps)),
            command_time_ns=time_ns,
            instruction=instruction,
            instruction_alternatives=alternatives,
            task=self.hints.task or instruction,
            split=self.hints.split or entry.split,
            seed=0,
            success=None if success is None else bool(np.asarray(success, bool).any()),
            provenance=provenance,
        )

    def _time_ns(self, steps: int) -> np.ndarray:
        """From frame numbers: int64 (t,)."""
        fps = self.meta.fps
        return np.arange(steps, dtype=np.int64) * (1_000_000_000 * fps.denominator) // fps.numerator

    def _lateness_s(self, table: Any) -> float:
        """The largest distance of a written timestamp from its frame number."""
        stamps = column(table, "timestamp")
        if stamps is None:
            return 0.0
        expected = np.arange(len(stamps)) / float(self.meta.fps)
        deviation = float(np.abs(np.asarray(stamps, np.float64).ravel() - expected).max(initial=0.0))
        return deviation if np.isfinite(deviation) else 0.0

    def _reward(self, table: Any, path: Path, entry: Entry) -> Float32[np.ndarray, " t"]:
        if "next.reward" not in table.column_names:
            return np.zeros(entry.length, np.float32)
        rows = vectors(table, (self.meta.features["next.reward"],), path, entry)
        return np.ascontiguousarray(rows[:, 0])

    @staticmethod
    def _done(table: Any, steps: int) -> np.ndarray:
        done = column(table, "next.done")
        return np.arange(steps) == steps - 1 if done is None else np.asarray(done, bool).reshape(steps)

    def _language(self, table: Any, entry: Entry) -> tuple[str, tuple[str, ...], list[dict[str, Any]]]:
        """The instruction, its alternatives, and where tasks that follow each other begin."""
        numbers = column(table, "task_index")
        if numbers is None:
            texts = list(entry.tasks)
            spans: list[dict[str, Any]] = []
        else:
            numbers = np.asarray(numbers, np.int64).ravel()
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

    def _images(self, table: Any, entry: Entry, key: str) -> np.ndarray:
        """The frames of one camera: uint8 (t, y, x, 3)."""
        camera = next(c for c in self.contract.cameras if self.layout.cameras[c.name] == key)
        if key in entry.clips:
            clip = entry.clips[key]
            path = self.path / clip.path
            first = _first_frame(path, clip)
            frames = decode_mp4(path, range(first, first + entry.length))
        else:
            path = self.path / entry.data
            frames = pictures(table, key, self.path, entry, camera.shape)
        if frames.shape[1:] != camera.shape:
            raise DatasetError(
                f"{path}: expected frames {camera.shape} of {key}, got {frames.shape[1:]}; "
                f"correct the shape of the feature in {self.path / INFO}"
            )
        return frames


def _first_frame(path: Path, clip: Clip) -> int:
    """Where the episode begins: counted where its file is filled by the episodes, else by the time in the table."""
    frames = frame_count(path)
    if frames == clip.total:
        # Times are sums of durations, which drift in long files; where lengths add up to the file, they are exact.
        return clip.first_counted
    if frames < clip.total or clip.alone:
        raise DatasetError(
            f"{path}: expected {clip.total} frames for what the tables say, got {frames}; "
            "it is cut short, or belongs to another episode: copy it again"
        )
    return clip.first
