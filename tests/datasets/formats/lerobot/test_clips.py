"""The place of an episode in a video, by counting and by times, on whatever clock the video has."""

from fractions import Fraction

import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.datasets.formats.lerobot.clips import Clip, Span, frames_of, plan_clips
from vla.datasets.formats.lerobot.clock import row_times

FPS = Fraction(10)


def clips(*places: tuple[float, float, int], fps: Fraction = FPS) -> dict[int, Clip]:
    """Of episodes that begin and end at these frames, and have so many rows."""
    spans = {
        number: Span(path="v", begin_s=float(begin / fps), end_s=float(end / fps), length=rows)
        for number, (begin, end, rows) in enumerate(places)
    }
    return plan_clips(spans, fps)


def found(clip: Clip, times_s: np.ndarray, stamps_s: np.ndarray | None = None) -> tuple[list[int], list[str]]:
    stamps = np.arange(clip.span.length) / float(FPS) if stamps_s is None else stamps_s
    numbers, notes = frames_of(clip, 7, stamps, FPS, times_s, "v.mp4")
    return numbers.tolist(), notes


def grid(count: int, fps: float = 10.0, start: float = 0.0) -> np.ndarray:
    return start + np.arange(count) / fps


def alone(rows: int) -> Clip:
    return clips((0, rows, rows))[0]


@pytest.mark.parametrize(
    ("times_s", "off"),
    [
        (grid(5, start=0.7), "0.7"),  # a start offset
        (grid(5, fps=8.0), "0.1"),  # another rate than the rows'
        (np.array([0, 0.1, 0.2, 0.9, 1.0]), "0.6"),  # frames were dropped as rows were
    ],
)
def test_as_many_frames_as_rows_are_counted_and_it_is_said(times_s: np.ndarray, off: str) -> None:
    numbers, (note,) = found(alone(5), times_s)
    assert numbers == [0, 1, 2, 3, 4]
    assert note.startswith(f"its frames are shown up to {off} s from the times of its rows")


def test_a_jitter_of_less_than_half_a_frame_is_none() -> None:
    assert found(alone(4), np.array([0.0, 0.13, 0.17, 0.31])) == ([0, 1, 2, 3], [])


def test_missing_frames_are_located() -> None:
    """The third was dropped: by counting, all after it would be one step early."""
    with pytest.raises(DatasetError, match=r"no frame for each row of episode 7: the nearest to row 2, at 0.200 s"):
        found(alone(5), np.array([0.0, 0.1, 0.3, 0.4]))
    with pytest.raises(DatasetError, match=r"rows 2 and 3 have one frame, at 0.245 s"):
        found(alone(5), np.array([0.0, 0.1, 0.245, 0.4]), np.array([0.0, 0.1, 0.2, 0.24, 0.4]))


def test_a_video_with_more_frames_than_rows_asks_the_times() -> None:
    numbers, notes = found(alone(3), grid(9), np.array([0.0, 0.2, 0.4]))
    assert numbers == [0, 2, 4]
    assert "9 frames" in notes[0]


def test_sums_that_drift_are_counted_and_others_are_not() -> None:
    drifted = clips((0, 1000, 1000), (1002.6, 2002.6, 1000), (2003.4, 2013.4, 10))
    assert found(drifted[2], grid(2010))[0] == list(range(2000, 2010))
    moved = clips((0, 1000, 1000), (1000, 2000, 1000), (1990, 2000, 10))
    for clip in moved.values():  # one that is wrong makes the order of all a guess
        assert not clip.ordered
    with pytest.raises(DatasetError, match="which episodes 1 have too"):
        found(moved[2], grid(2010))
    assert found(moved[0], grid(2010))[0] == list(range(1000))


def test_a_single_frame() -> None:
    assert found(alone(1), grid(1)) == ([0], [])
    assert found(clips((3, 4, 1))[0], grid(9))[0] == [3]


def test_times_of_rows() -> None:
    steps = np.arange(4, dtype=np.float32)
    seconds, time_ns, notes = row_times(steps / np.float32(10), 4, FPS, "here")
    assert time_ns.tolist() == [0, 100_000_000, 200_000_000, 300_000_000]
    assert notes == []
    assert row_times(None, 4, FPS, "here")[1].tolist() == time_ns.tolist()
    seconds, shifted, notes = row_times(5 + steps / 10, 4, FPS, "here")
    assert (shifted.tolist(), seconds[0]) == (time_ns.tolist(), 5.0)
    assert notes == ["its timestamps begin at 5 s: its times are counted from there"]
    _, jittered, notes = row_times(steps / 10 + np.array([0, 0.005, 0, 0.015]), 4, FPS, "here")
    assert np.abs(jittered - [0, 105_000_000, 200_000_000, 315_000_000]).max() < 100
    assert notes == ["its timestamps are up to 0.015 s off its frame numbers: they are its times"]
    assert row_times(np.zeros(1), 1, FPS, "here")[1].tolist() == [0]
    with pytest.raises(DatasetError, match="here: timestamp: expected numbers, got <U1"):
        row_times(np.array(["a"]), 1, FPS, "here")
