"""Where a recording has nothing: the control clock of its topics, the steps in a hole, and what else is odd."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from vla.core.errors import DatasetError
from vla.datasets.formats.mcap.bags import METADATA, Bag
from vla.datasets.formats.mcap.clock import control_times, held, holes, in_hole, rate_hz, usual_gap
from vla.datasets.formats.mcap.file import Recording
from vla.datasets.formats.mcap.streams import Stream

_LONGEST_HOLE_NS = 600 * 10**9
_MOST_STEPS = 10**7
_SHOWN = 5
"""Holes of a topic that are listed one by one."""
_OTHER_RATE = 0.2
_CUT = 0.1
"""Of an episode: what may be lost at its ends, where topics begin and end, without a word."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched:
    """A stream that an episode rests on."""

    label: str
    times_ns: Int64[np.ndarray, " n"]
    reordered: int
    hz: float | None
    """In the first recording."""
    only_changes: bool = False
    """Whether silence means that nothing changed."""

    @property
    def end_ns(self) -> int:
        """Until when its last value holds: one usual gap."""
        return int(self.times_ns[-1]) + max(usual_gap(self.times_ns) - 1, 0)


def control_clock(path: Path, streams: Sequence[Watched], hz: Fraction) -> Int64[np.ndarray, " t"]:
    """The steps of one recording; topics that do not overlap, and silences of minutes, are a `DatasetError`."""
    ending = [stream for stream in streams if not stream.only_changes] or list(streams)
    for stream in ending:
        gaps = np.diff(stream.times_ns)
        if len(gaps) and gaps.max() > _LONGEST_HOLE_NS:
            place = int(np.argmax(gaps))
            raise DatasetError(
                f"{path}: {stream.label} has nothing for {gaps[place] / 1e9:.1f} s after {stream.times_ns[place]} ns: "
                "recording paused, or the clock was set; split the recording there, or leave it out"
            )
    last_first = max(streams, key=lambda stream: int(stream.times_ns[0]))
    first_last = min(ending, key=lambda stream: stream.end_ns)
    if first_last.end_ns - int(last_first.times_ns[0]) > _MOST_STEPS * 1e9 / hz:
        raise DatasetError(f"{path}: more than {_MOST_STEPS} steps at {float(hz):g} Hz; give a lower --control-hz")
    times = control_times([int(last_first.times_ns[0])], [first_last.end_ns], hz)
    if not len(times):
        raise DatasetError(
            f"{path}: its topics do not overlap in time: {last_first.label} begins at {last_first.times_ns[0]} ns, "
            f"{first_last.label} ends at {first_last.end_ns} ns; leave the file out"
        )
    return times


def holes_of(
    path: Path, streams: Sequence[Watched], times: Int64[np.ndarray, " t"], hz: Fraction
) -> tuple[Bool[np.ndarray, " t"], list[str]]:
    """Which steps may be learned from, and a sentence for each hole: the stream, from when to when, how many steps."""
    valid = np.ones(len(times), bool)
    notes = []
    for stream in streams:
        if stream.only_changes:
            continue
        index = held(stream.times_ns, times, hz)
        lost = in_hole(stream.times_ns, times, index, hz)
        valid &= ~lost
        found = [
            place for place in np.flatnonzero(holes(stream.times_ns, hz)).tolist() if (lost & (index == place)).any()
        ]
        for place in found[:_SHOWN]:
            begin, end = ((int(stream.times_ns[i]) - int(times[0])) / 1e9 for i in (place, place + 1))
            steps = int((lost & (index == place)).sum())
            notes.append(
                f"{stream.label}: nothing from {begin:.3f} s to {end:.3f} s; {steps} steps are not learned from"
            )
        if len(found) > _SHOWN:
            notes.append(f"{stream.label}: {len(found) - _SHOWN} more holes, {int(lost.sum())} steps in all")
    return valid, notes


def oddities(
    bag: Bag,
    recording: Recording,
    streams: Mapping[str, Stream],
    watched: Sequence[Watched],
    times: Int64[np.ndarray, " t"],
    other_clock: str,
) -> Iterator[str]:
    """Where two sources of truth disagree, one sentence each."""
    for line in recording.recovered:
        yield f"{line}: it has no end, as after a crash of the recorder"
    for topic, stream in streams.items():
        there = len(stream.messages) + stream.repeated
        counted = bag.counts.get(topic, there)
        if there != counted:
            yield f"{topic}: {METADATA} counts {counted} messages, the files have {there}"
        if stream.repeated:
            yield f"{topic}: {stream.repeated} messages were recorded twice"
    if other_clock:
        yield f"times are those when messages were logged, not those in the messages: {other_clock}"
    for one in watched:
        if one.reordered:
            yield f"{one.label}: {one.reordered} messages were stored after later ones; they are put in order"
        rate = rate_hz(one.times_ns)
        if not one.only_changes and one.hz and rate and abs(rate - one.hz) > max(_OTHER_RATE * one.hz, 0.5):
            yield f"{one.label}: comes at {rate:g} Hz, in the first recording at {one.hz:g} Hz"
    yield from _ends(watched, times)


def _ends(watched: Sequence[Watched], times: Int64[np.ndarray, " t"]) -> Iterator[str]:
    """What is lost because one stream begins later or ends earlier than the others."""
    ending = [one for one in watched if not one.only_changes] or list(watched)
    room = max(1e9, _CUT * float(times[-1] - times[0]))
    late, early = max(ending, key=lambda one: int(one.times_ns[0])), min(ending, key=lambda one: one.end_ns)
    before = int(late.times_ns[0]) - min(int(one.times_ns[0]) for one in ending)
    after = max(one.end_ns for one in ending) - early.end_ns
    if before > room:
        yield f"{late.label}: begins {before / 1e9:.1f} s after the first topic; what is before is left out"
    if after > room:
        yield f"{early.label}: ends {after / 1e9:.1f} s before the last topic; what is after is left out"
