"""Cameras with a rate of their own: which of their frames is the latest at each step of the robot."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from vla.datasets.storage.storage import Storage
from vla.datasets.store.arrays import read_checked_array
from vla.datasets.store.layout import Commit, read_checked, segment_name
from vla.datasets.store.records import EpisodeIndex

_HOLE = 1.5
"""Periods."""


def latest_frame(frame_times: Int64[np.ndarray, " f"], step_times: Int64[np.ndarray, " t"]) -> Int64[np.ndarray, " t"]:
    """The number of the latest frame that is not after each step; -1 before the first.

    ``frame_times`` rise; they may be those of any other value that holds until the next. It is what a robot sees at
    that step: never a frame that was captured later.
    """
    return np.searchsorted(frame_times, step_times, side="right").astype(np.int64, copy=False) - 1


def holes(
    time_ns: Int64[np.ndarray, " t"], starts: Int64[np.ndarray, " episodes"], control_hz: float
) -> Int64[np.ndarray, " holes"]:
    """The steps after which their episode misses some: the next comes more than one and a half periods later."""
    gaps = np.diff(time_ns) > _HOLE * 1e9 / control_hz
    gaps[starts[1:] - 1] = False  # from one episode to the next it may do anything
    return np.flatnonzero(gaps).astype(np.int64)


class CameraClocks:
    """The capture times of all frames of one version of a dataset, read when a camera is first asked for."""

    def __init__(
        self,
        storage: Storage,
        segments: Sequence[str],
        commits: Sequence[Commit],
        episodes: EpisodeIndex,
        time_ns: Int64[np.ndarray, " t"],
    ) -> None:
        """``time_ns`` are the times of the steps."""
        self._storage, self._segments, self._commits = storage, segments, commits
        self._episodes, self._time_ns = episodes, time_ns
        self._counts: dict[str, np.ndarray] = {}
        self._times: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._frames: dict[str, np.ndarray] = {}

    def count(self, camera: str, episode: int) -> int:
        """The number of frames of an episode."""
        if camera not in self._counts:
            extras = (self._episodes.extra(number) for number in range(len(self._episodes)))
            self._counts[camera] = np.array([extra["frames"][camera] for extra in extras], np.int64)
        return int(self._counts[camera][episode])

    def times(self, camera: str, episode: int) -> Int64[np.ndarray, " f"]:
        """When the frames of an episode were captured."""
        if camera not in self._times:
            self._times[camera] = self._read(camera)
        times, begins = self._times[camera]
        mine: np.ndarray = times[begins[episode] : begins[episode] + self.count(camera, episode)]
        return mine

    def frame(self, camera: str, step: int) -> int:
        """The latest frame at one step of the dataset, counted within its episode."""
        if camera not in self._frames:
            parts = [np.empty(0, np.int64)]
            for number, (start, length) in enumerate(zip(self._episodes.starts, self._episodes.lengths, strict=True)):
                steps = self._time_ns[start : start + length]
                parts.append(latest_frame(self.times(camera, number), steps))
            self._frames[camera] = np.concatenate(parts)
        return int(self._frames[camera][step])

    def _read(self, camera: str) -> tuple[np.ndarray, np.ndarray]:
        """All times of one camera, and where each episode's begin."""
        parts = [np.empty(0, np.int64)]
        for number, (segment, commit) in enumerate(zip(self._segments, self._commits, strict=True)):
            where = segment_name(segment)
            index = EpisodeIndex.build([(where, read_checked(self._storage, segment, commit, "episodes.json"))])
            counts = np.array([index.extra(n)["frames"][camera] for n in range(len(index))], np.int64)
            name = f"image_time_ns/{camera}"
            times = read_checked_array(self._storage, segment, commit, name, shape=(int(counts.sum()),), dtype="int64")
            begins = np.cumsum(counts) - counts
            kept = self._episodes.numbers[self._episodes.segments == number]
            parts += [times[begins[k] : begins[k] + counts[k]] for k in kept]
        lengths = np.array([len(part) for part in parts[1:]], np.int64)
        return np.concatenate(parts), np.cumsum(lengths) - lengths
