"""What the numbers and pictures of one episode say: for validation, and for the page that shows an episode."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vla.core.contract import Contract
from vla.core.types import Episode
from vla.datasets.store.episode_check import LIMITED
from vla.datasets.store.layout import rows_of, wrong_rows

_FROZEN_S = 1.0
"""A camera whose pixels stay the same for longer, while the robot moves, is frozen."""
_JITTER = 0.5
"""Of the control period: how far the time between two steps may be off."""
_HOLE_GAPS = 5
"""So many usual times between two frames without one are a hole."""
_BEYOND = 0.02
"""Of the range: how far an action may lie outside the limits of its contract."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    severity: Literal["error", "warning", "note"]
    """An error is damage or makes training wrong; a warning deserves a look; a note is what an import assumed."""
    where: str
    what: str

    @staticmethod
    def error(where: str, what: str) -> "Finding":
        """Something damaged, or that makes training wrong."""
        return Finding(severity="error", where=where, what=what)

    @staticmethod
    def warning(where: str, what: str) -> "Finding":
        """Something that deserves a look."""
        return Finding(severity="warning", where=where, what=what)

    @staticmethod
    def note(where: str, what: str) -> "Finding":
        """Something that was assumed, or left out, when it was imported."""
        return Finding(severity="note", where=where, what=what)


def check_numbers(episode: Episode, contract: Contract) -> Iterator[Finding]:
    """One episode: finite numbers, monotone and even times, actions within limits, cameras that are alive."""
    for name, array in rows_of(episode, contract).items():
        bad = wrong_rows(name, array)
        if bad.any():
            yield Finding.error("", f"{name} holds numbers that are not finite at {int(bad.sum())} steps")
    yield from _check_times(episode, contract)
    yield from check_bounds(episode, contract)
    if not episode.valid.any():
        yield Finding.warning("", "no step may be learned from")
    if episode.provenance.get("recovered"):
        yield Finding.warning("", "recovered from a recorder that died: success is unknown")
    for camera in contract.cameras:
        yield from _check_camera(camera.name, episode, contract.control_hz if camera.hz is None else camera.hz)
        if camera.name in episode.image_time_ns:
            yield from _check_clock(camera.name, episode)


def _check_times(episode: Episode, contract: Contract) -> Iterator[Finding]:
    gaps = np.diff(episode.time_ns)
    backwards = int((gaps <= 0).sum())
    if backwards:
        yield Finding.error("", f"time runs backwards or stands still at {backwards} steps")
        return
    period = 1e9 / contract.control_hz
    uneven = np.abs(gaps - period) > _JITTER * period
    if uneven.any():
        step = int(np.argmax(np.abs(gaps - period)))
        yield Finding.warning(
            "",
            f"{int(uneven.sum())} of {len(gaps)} steps are not {period / 1e6:.1f} ms apart; "
            f"the worst: {gaps[step] / 1e6:.1f} ms after step {step}",
        )
    if (episode.command_time_ns < episode.time_ns).any():
        yield Finding.warning("", "commands left before their observation was captured")


def check_bounds(episode: Episode, contract: Contract) -> Iterator[Finding]:
    """Numbers of the action and the state beyond the limits of the contract."""
    for name in LIMITED:
        for column, dimension in enumerate(contract.state if name == "state" else contract.action):
            values = getattr(episode, name)[:, column]
            margin = _BEYOND * (dimension.high - dimension.low)
            outside = (values < dimension.low - margin) | (values > dimension.high + margin)
            if outside.any():
                worst = float(values[np.argmax(np.maximum(dimension.low - values, values - dimension.high))])
                yield Finding.warning(
                    "",
                    f"{name} {dimension.name} leaves [{dimension.low:g}, {dimension.high:g}] {dimension.unit} "
                    f"at {int(outside.sum())} steps, to {worst:g}",
                )


def _check_camera(name: str, episode: Episode, hz: float) -> Iterator[Finding]:
    frames = episode.images[name]
    if not frames.any():
        yield Finding.error("", f"camera {name} is black in all {len(frames)} frames")
        return
    same = np.array([np.array_equal(a, b) for a, b in zip(frames[1:], frames[:-1], strict=True)], bool)
    longest, start = _longest_run(same)
    moving = np.ptp(episode.state, axis=0).max(initial=0.0) > 0
    if longest >= max(3, _FROZEN_S * hz) and moving:
        yield Finding.warning(
            "", f"camera {name} is frozen for {longest + 1} frames from frame {start} on, while the robot moves"
        )


def _check_clock(name: str, episode: Episode) -> Iterator[Finding]:
    """The longest time without a frame, where its steps are learned from all the same."""
    times = episode.image_time_ns[name]
    gaps = np.diff(times)
    if not len(gaps) or gaps.max() <= _HOLE_GAPS * np.median(gaps):
        return
    place = int(np.argmax(gaps))
    begin, end = int(times[place]), int(times[place + 1])
    lost = episode.valid & (episode.time_ns >= begin + np.median(gaps)) & (episode.time_ns < end)
    if lost.any():
        since = [(time - int(episode.time_ns[0])) / 1e9 for time in (begin, end)]
        yield Finding.warning(
            "",
            f"camera {name} has no frame from {since[0]:.3f} s to {since[1]:.3f} s, and {int(lost.sum())} steps there "
            "count as valid: they show an old picture",
        )


def _longest_run(flags: np.ndarray) -> tuple[int, int]:
    """Length and start of the longest run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    best = int(np.argmax(ends - starts))
    return int(ends[best] - starts[best]), int(starts[best])
