"""One topic of a recording as times with numbers, pictures or texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int64

from vla.core.errors import DatasetError
from vla.datasets.formats.mcap.clock import set_back
from vla.datasets.formats.mcap.file import Recording
from vla.datasets.formats.mcap.messages import Message, MessageError, decoder, picture_of, stamp_ns, text_of, vector_of
from vla.datasets.formats.pictures import PictureError

T = TypeVar("T")

_CLOCKS_APART_NS = 1_000_000_000
"""Two clocks that are further apart are not one: times of different topics are then no order of events."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """The messages of a topic in the order of the recording, each once."""

    recording: Recording
    topic: str
    log_ns: Int64[np.ndarray, " m"]
    stamp_ns: Int64[np.ndarray, " m"] | None
    """When things were measured, as the messages say; None where one of them does not."""
    messages: Sequence[Message]
    repeated: int
    """Messages that were there twice, as where two recorders ran."""

    @property
    def apart_ns(self) -> Int64[np.ndarray, " m"]:
        """How far the times in the messages are from those at which they were logged."""
        assert self.stamp_ns is not None, self.topic
        return np.asarray(self.stamp_ns - self.log_ns)


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """Numbers over time."""

    times_ns: Int64[np.ndarray, " n"]
    """Rising."""
    values: Float32[np.ndarray, "n d"]
    reordered: int
    """Messages that were stored after later ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """Pictures over time, still packed."""

    times_ns: Int64[np.ndarray, " n"]
    """Rising."""
    messages: Sequence[Message]
    reordered: int
    """Messages that were stored after later ones."""


def read_stream(recording: Recording, topic: str, least: int = 1) -> Stream:
    """Decode a topic; fewer messages than ``least`` are a `DatasetError`."""
    rows = recording.messages.get(topic, [])
    if len(rows) < least:
        raise DatasetError(f"{recording.path}: topic {topic} has no messages; leave the file out, or name other topics")
    decode = _reading(recording, topic, rows[0][0], decoder, recording.channels[topic]) if rows else None
    messages = [_reading(recording, topic, time, decode, data) if decode else {} for time, data in rows]
    stamps = [stamp_ns(message) for message in messages]
    keep = _first_of_each(rows, stamps)
    log, told = [rows[place][0] for place in keep], [stamps[place] for place in keep]
    if log and not 0 <= min(log) <= max(log) < 2**62:
        raise DatasetError(f"{recording.path}: topic {topic}: {max(log)} is no time in nanoseconds; record it again")
    times = [stamp * recording.scale for stamp in told if stamp is not None]
    known = len(times) == len(log) and all(0 <= time < 2**62 for time in times)
    return Stream(
        recording=recording,
        topic=topic,
        log_ns=np.array(log, np.int64),
        stamp_ns=np.array(times, np.int64) if known else None,
        messages=[messages[place] for place in keep],
        repeated=len(rows) - len(log),
    )


def _first_of_each(rows: Sequence[tuple[int, bytes]], stamps: Sequence[int | None]) -> list[int]:
    """What was measured once and logged twice says the same of one instant; a stamp that stands still tells nothing."""
    moving = len(set(stamps)) > 1
    first: dict[tuple[int, bytes], int] = {}
    for place, ((time, data), stamp) in enumerate(zip(rows, stamps, strict=True)):
        first.setdefault((stamp if moving and stamp is not None else time, data), place)
    return list(first.values())


def one_clock(streams: Sequence[Stream]) -> str:
    """Why the times in the messages are not used, but those of their recording; empty where they are of one clock."""
    centres: dict[str, float] = {}
    for stream in streams:
        if stream.stamp_ns is None:
            return f"the messages of {stream.topic} have no times"
        apart = stream.apart_ns
        if len(stream.stamp_ns) > 2 and len(np.unique(stream.stamp_ns)) == 1:
            return f"the time in the messages of {stream.topic} stands still"
        quarter = max(1, len(apart) // 4)
        drift = float(np.median(apart[-quarter:]) - np.median(apart[:quarter]))
        if abs(drift) > _CLOCKS_APART_NS:
            return f"the clock of {stream.topic} moves by {drift / 1e9:+.1f} s against that of the recording"
        centres[stream.topic] = float(np.median(apart))
    if centres and max(centres.values()) - min(centres.values()) > _CLOCKS_APART_NS:
        first, last = min(centres, key=lambda t: centres[t]), max(centres, key=lambda t: centres[t])
        return f"the clocks of {first} and {last} are {(centres[last] - centres[first]) / 1e9:.1f} s apart"
    return ""


def track_of(stream: Stream, names: Sequence[str], *, stamped: bool) -> Track:
    """The numbers called ``names`` of a topic; other names and numbers that are not finite are a `DatasetError`."""
    recording, topic = stream.recording, stream.topic
    rows = np.empty((len(stream.messages), len(names)), np.float32)
    for place, (time, message) in enumerate(zip(stream.log_ns.tolist(), stream.messages, strict=True)):
        found, values = _reading(recording, topic, time, vector_of, message, topic)
        if found != list(names):
            order = dict(zip(found, values, strict=True))
            if len(found) != len(names) or set(order) != set(names):
                raise _error(recording, topic, time, f"expected numbers {_listed(names)}, got {_listed(found)}")
            values = [order[name] for name in names]
        rows[place] = values
        if not np.isfinite(rows[place]).all():
            raise _error(recording, topic, time, f"expected finite numbers, got {values}")
    times, keep, reordered = _rising(stream, stamped=stamped)
    return Track(times_ns=times, values=rows[keep], reordered=reordered)


def film_of(stream: Stream, *, stamped: bool) -> Film:
    """The pictures of a topic."""
    times, keep, reordered = _rising(stream, stamped=stamped)
    return Film(times_ns=times, messages=[stream.messages[place] for place in keep], reordered=reordered)


def decode_frames(
    recording: Recording, topic: str, film: Film, places: range, shape: tuple[int, int, int]
) -> np.ndarray:
    """Those pictures: uint8 (f, y, x, 3) or uint16 (f, y, x, 1); another size is a `DatasetError`."""
    dtype = np.dtype(np.uint8 if shape[-1] == 3 else np.uint16)
    frames = np.empty((len(places), *shape), dtype)
    for row, place in enumerate(places):
        time, message = int(film.times_ns[place]), film.messages[place]
        picture = _reading(recording, topic, time, picture_of, message)
        if picture.shape != shape or picture.dtype != dtype:
            found = f"{picture.dtype} {picture.shape}"
            raise _error(
                recording, topic, time, f"expected a picture {dtype} {shape} as in the first file, got {found}"
            )
        frames[row] = picture
    return frames


def read_texts(recording: Recording, topic: str) -> list[str]:
    """The texts of a topic, each once, in the order of their times."""
    stream = read_stream(recording, topic, least=0)
    ordered = [
        (int(stream.log_ns[place]), stream.messages[place]) for place in np.argsort(stream.log_ns, kind="stable")
    ]
    texts = [_reading(recording, topic, time, text_of, message) for time, message in ordered]
    return [text for text in dict.fromkeys(texts) if text]


def _rising(stream: Stream, *, stamped: bool) -> tuple[Int64[np.ndarray, " n"], list[int], int]:
    """Rising times, which messages they are of (of several at one time the last), and how many came out of order.

    A clock that was set back while recording is a `DatasetError`: what is before and after it cannot be told apart.
    """
    recording, topic = stream.recording, stream.topic
    times = stream.stamp_ns if stamped else stream.log_ns
    if times is None:
        raise DatasetError(
            f"{recording.path}: topic {topic}: expected times in its messages, as clock=header asks; take clock=log"
        )
    if (place := set_back(times)) is not None:
        back = (int(times[:place].max()) - int(times[place])) / 1e9
        raise DatasetError(
            f"{recording.path}: topic {topic}: its clock was set back by {back:.3f} s at message {place} of "
            f"{len(times)}, to {int(times[place])} ns; split the recording there, or leave it out"
        )
    latest = {time: place for place, time in enumerate(times.tolist())}
    ordered = sorted(latest)
    return np.array(ordered, np.int64), [latest[time] for time in ordered], int((np.diff(times) < 0).sum())


def _reading(recording: Recording, topic: str, time: int, read: Callable[..., T], *values: object) -> T:
    """What ``read`` makes of ``values``; its errors with the place."""
    try:
        return read(*values)
    except (MessageError, PictureError, TypeError, KeyError, ValueError) as error:
        raise _error(recording, topic, time, str(error)) from None


def _error(recording: Recording, topic: str, time: int, problem: str) -> DatasetError:
    return DatasetError(f"{recording.path}: topic {topic}, message at {time} ns: {problem}; repair it or leave it out")


def _listed(names: Sequence[str]) -> str:
    return f"{list(names)}" if len(names) <= 16 else f"{list(names[:16])} and {len(names) - 16} more"
