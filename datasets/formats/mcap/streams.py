"""One topic of a recording as times with numbers, pictures or texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int64

from vla.core.errors import DatasetError
from vla.datasets.formats.mcap.file import Recording
from vla.datasets.formats.mcap.messages import Message, MessageError, decoder, picture_of, stamp_ns, text_of, vector_of
from vla.datasets.formats.pictures import PictureError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """Numbers over time."""

    times_ns: Int64[np.ndarray, " n"]
    """Rising."""
    values: Float32[np.ndarray, "n d"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """Pictures over time, still packed."""

    times_ns: Int64[np.ndarray, " n"]
    """Rising."""
    messages: Sequence[Message]


def read_track(recording: Recording, topic: str, names: Sequence[str], *, stamped: bool) -> Track:
    """The numbers called ``names`` of a topic; other names and numbers that are not finite are a `DatasetError`."""
    messages = decoded(recording, topic)
    rows = np.empty((len(messages), len(names)), np.float32)
    for place, (time, message) in enumerate(messages):
        found, values = _reading(recording, topic, time, vector_of, message, topic)
        if found != list(names):
            order = dict(zip(found, values, strict=True))
            if len(found) != len(names) or set(order) != set(names):
                raise _error(recording, topic, time, f"expected numbers {_listed(names)}, got {_listed(found)}")
            values = [order[name] for name in names]
        rows[place] = values
        if not np.isfinite(rows[place]).all():
            raise _error(recording, topic, time, f"expected finite numbers, got {values}")
    times, keep = _rising(recording, topic, messages, stamped=stamped)
    return Track(times_ns=times, values=rows[keep])


def read_film(recording: Recording, topic: str, *, stamped: bool) -> Film:
    """The pictures of a topic."""
    messages = decoded(recording, topic)
    times, keep = _rising(recording, topic, messages, stamped=stamped)
    return Film(times_ns=times, messages=[messages[place][1] for place in keep])


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
    messages = sorted(decoded(recording, topic, least=0), key=lambda item: item[0])
    texts = [_reading(recording, topic, time, text_of, message) for time, message in messages]
    return [text for text in dict.fromkeys(texts) if text]


def decoded(recording: Recording, topic: str, least: int = 1) -> list[tuple[int, Message]]:
    """Log time and content of each message."""
    rows = recording.messages.get(topic, [])
    if len(rows) < least:
        raise DatasetError(f"{recording.path}: topic {topic} has no messages; leave the file out, or name other topics")
    if not rows:
        return []
    decode = _reading(recording, topic, rows[0][0], decoder, recording.channels[topic])
    return [(time, _reading(recording, topic, time, decode, data)) for time, data in rows]


def _rising(
    recording: Recording, topic: str, messages: Sequence[tuple[int, Message]], *, stamped: bool
) -> tuple[Int64[np.ndarray, " n"], list[int]]:
    """Rising times, and which messages they are of: of several at one time the last."""
    times = []
    for log_time, message in messages:
        stamp = stamp_ns(message) if stamped else None
        if stamped and stamp is None:
            raise _error(recording, topic, log_time, "expected a time in the message, as in the first file, got none")
        times.append(log_time if stamp is None else stamp * recording.scale)
    latest = {time: place for place, time in enumerate(times)}
    ordered = sorted(latest)
    if ordered and not 0 <= ordered[0] <= ordered[-1] < 2**62:
        raise DatasetError(f"{recording.path}: topic {topic}: {ordered[-1]} is no time in nanoseconds; record it again")
    return np.array(ordered, np.int64), [latest[time] for time in ordered]


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
