"""Where the frames of an episode lie in a video: proved by counting, or by the times of its rows, never believed.

A table of version 3.0 gives each episode a span of seconds in a file that holds many. That place is proved in one of
two ways; where neither holds, or where two episodes would get the same frames, the episode is refused:

    counted    the lengths of the episodes add up to the frames of the file, and where each of them begins by counting
               is where its time says, but for the drift of sums of durations
    by time    each row of the episode has a frame of its own at the start of the span plus the row's timestamp, which
               is how LeRobot reads it; frames that no row asks for (of takes that were thrown away) are passed over
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float64, Int64

from vla.core.errors import DatasetError

_DRIFT = 2, 1000
"""Frames by which a time may be off from the start, and one more for each so many frames before it."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """What the tables say of one episode in one video."""

    path: str
    begin_s: float
    end_s: float
    length: int
    """Rows of the episode."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A span among the others in its file."""

    span: Span
    counted: int
    """Rows of the episodes before it in the file."""
    total: int
    """Rows of all episodes in the file."""
    ordered: bool
    """Whether every episode of the file begins where its time says, as far as counting tells."""
    filled: int | None
    """Frames of all spans in the file, if they follow each other without a gap."""
    overlaps: tuple[int, ...] = ()
    """Episodes whose rows would have some of the same frames, those aside that have too few in their own spans."""


def plan_clips(spans: Mapping[int, Span], fps: Fraction) -> dict[int, Clip]:
    """The clips of one camera, by episode."""
    by_file: dict[str, list[int]] = defaultdict(list)
    for index in sorted(spans):
        by_file[spans[index].path].append(index)
    clips = {}
    for members in by_file.values():
        first = {index: _frame(spans[index].begin_s, fps) for index in members}
        counted = np.cumsum([0, *(spans[index].length for index in members)])
        ends = [0, *(_frame(spans[index].end_s, fps) for index in members)]
        holds = {i for i in members if _frame(spans[i].end_s - spans[i].begin_s, fps) >= spans[i].length}
        few, per = _DRIFT
        ordered = all(abs(first[i] - n) <= few + n // per for i, n in zip(members, counted.tolist(), strict=False))
        seamless = [first[index] for index in members] == ends[:-1]
        for place, index in enumerate(members):
            clips[index] = Clip(
                span=spans[index],
                counted=int(counted[place]),
                total=int(counted[-1]),
                ordered=ordered,
                filled=ends[-1] if seamless else None,
                overlaps=tuple(
                    other
                    for other in sorted(holds)
                    if other != index
                    and first[other] < first[index] + spans[index].length
                    and first[index] < first[other] + spans[other].length
                ),
            )
    return clips


def frames_of(
    clip: Clip,
    episode: int,
    stamps_s: Float64[np.ndarray, " t"],
    fps: Fraction,
    times_s: Float64[np.ndarray, " f"],
    where: str,
) -> tuple[Int64[np.ndarray, " t"], list[str]]:
    """The frame of each row, and what is to be said of it; ``times_s`` are those of all frames of the video."""
    span, period = clip.span, 1 / float(fps)
    wanted = span.begin_s + stamps_s
    first, given = _frame(span.begin_s, fps), _frame(span.end_s - span.begin_s, fps)
    if len(times_s) == clip.total and clip.ordered:
        numbers = clip.counted + np.arange(span.length)
        off = float(np.abs(times_s[numbers] - wanted).max(initial=0.0))
        if off <= period / 2:
            return numbers, []
        return numbers, [
            f"its frames are shown up to {off:.3g} s from the times of its rows; the video has as many frames as rows: "
            "they are counted"
        ]
    if given < span.length:
        raise DatasetError(
            f"{where}: episode {episode} has {span.length} rows, and the table gives it {given} frames of the video; "
            "leave it out, or record it again"
        )
    if clip.overlaps:
        others = ", ".join(map(str, clip.overlaps))
        raise DatasetError(
            f"{where}: by the table, episode {episode} has the frames {first} to {first + span.length - 1}, some of "
            f"which episodes {others} have too; the table or the video is of another dataset: correct from_timestamp, "
            "or leave them out"
        )
    numbers = _nearest(times_s, wanted)
    off_s = np.abs(times_s[numbers] - wanted)
    wrong = (off_s > period / 2) | (np.diff(numbers, prepend=-1) <= 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        fault = (
            f"the nearest to row {row}, at {wanted[row]:.3f} s, is shown at {times_s[numbers[row]]:.3f} s"
            if off_s[row] > period / 2
            else f"rows {row - 1} and {row} have one frame, at {times_s[numbers[row]]:.3f} s"
        )
        raise DatasetError(
            f"{where}: expected {clip.total} frames for the rows of its episodes, got {len(times_s)}, and no frame for "
            f"each row of episode {episode}: {fault}; the video is cut short, lacks frames, or belongs to another "
            "episode: leave it out, or copy it again"
        )
    if given > span.length:
        return numbers, [
            f"the table gives it {given} frames of the video for {span.length} rows; those at the rows' times are taken"
        ]
    if len(times_s) != clip.filled:
        return numbers, [
            f"its video has {len(times_s)} frames, the episodes in it {clip.total} rows, the table leaves gaps; the "
            "frames at the rows' times are taken"
        ]
    return numbers, []


def _frame(seconds: float, fps: Fraction) -> int:
    return round(Fraction(seconds) * fps)


def _nearest(rising: Float64[np.ndarray, " f"], wanted: Float64[np.ndarray, " t"]) -> Int64[np.ndarray, " t"]:
    """The place in ``rising`` of the number that is nearest to each wanted one."""
    after = np.searchsorted(rising, wanted).clip(1, max(len(rising) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(rising) - 1)
    return np.where(np.abs(rising[after] - wanted) < np.abs(rising[before] - wanted), after, before)
