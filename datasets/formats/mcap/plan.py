"""What is decided before any recording is read: topics, names, cameras, rate and limits, by the first that is whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.datasets.formats.dimensions import dimension_around
from vla.datasets.formats.mcap.bags import Bag
from vla.datasets.formats.mcap.clock import rate_hz
from vla.datasets.formats.mcap.file import Recording, read_recording
from vla.datasets.formats.mcap.messages import MessageError, picture_of, vector_of
from vla.datasets.formats.mcap.streams import Stream, film_of, one_clock, read_stream, track_of
from vla.datasets.formats.mcap.topics import Choice, McapTopics, choose_topics
from vla.datasets.formats.pictures import PictureError
from vla.datasets.formats.source import Hints


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How all recordings are read."""

    choice: Choice
    names: Mapping[str, tuple[str, ...]]
    """Of the numbers of each topic of state and action."""
    rates: Mapping[str, float | None]
    """Of each topic of state and action, in the first recording."""
    stamped: bool
    """Whether times are those in the messages of the first recording, not those when they were logged."""
    contract: Contract
    notes: tuple[str, ...]


def make_plan(bags: Sequence[Bag], hints: Hints, topics: McapTopics) -> Plan:
    """Choose topics by the first recording that is whole, and measure; what cannot be decided is a `DatasetError`.

    Damage of one must not hide the others: reading it says what is wrong.
    """
    if hints.control_hz is not None and not hints.control_hz > 0:
        raise DatasetError(f"control_hz: expected a positive rate, got {hints.control_hz:g}; correct the hint")
    problems: list[str] = []
    for bag in bags:
        try:
            first = read_recording(bag)
            if not any(first.messages.values()):
                raise DatasetError(f"{bag.path}: expected messages, got none; leave it out")
        except DatasetError as error:
            problems.append(str(error))
            continue
        silent = {topic for topic in first.channels if not first.messages.get(topic)}
        choice = choose_topics(first.path, first.channels, topics, silent)
        try:
            return _measured(first, choice, bags, hints, topics, problems)
        except DatasetError as error:
            problems.append(str(error))
    more = f" ({len(problems) - 1} more recordings cannot be read either)" if len(problems) > 1 else ""
    raise DatasetError(f"{problems[0]}{more}")


def _measured(
    first: Recording, choice: Choice, bags: Sequence[Bag], hints: Hints, topics: McapTopics, problems: Sequence[str]
) -> Plan:
    """The plan that follows from one recording."""
    notes = [f"{len(problems)} recordings cannot be read, the first: {problems[0]}"] if problems else []
    vectors = {topic: read_stream(first, topic) for topic in choice.vectors}
    films, choice = _films(first, choice, notes, asked=bool(topics.cameras))
    reason = not_stamped([*vectors.values(), *films.values()], topics)
    names = {topic: _names(stream) for topic, stream in vectors.items()}
    rates = {t: rate_hz(track_of(s, names[t], stamped=not reason).times_ns) for t, s in vectors.items()}
    hz = hints.control_hz or _state_rate(first, choice, rates, notes)
    cameras = tuple(_camera(name, stream, stamped=not reason) for name, stream in films.items())
    state, action = _limits(bags, choice, names)
    notes += [*choice.notes, *_assumptions(hints, choice, first, reason)]
    return Plan(
        choice=choice,
        names=names,
        rates=rates,
        stamped=not reason,
        contract=Contract(robot=hints.robot or "unknown", cameras=cameras, state=state, action=action, control_hz=hz),
        notes=tuple(notes),
    )


def not_stamped(streams: Sequence[Stream], topics: McapTopics) -> str:
    """Why the times in the messages of a recording are not taken; empty where they are."""
    if topics.clock is not None:
        return "" if topics.clock == "header" else "as clock=log asks"
    return one_clock(streams)


def _names(stream: Stream) -> tuple[str, ...]:
    """What the numbers of a topic are called, by its first message."""
    where = f"{stream.recording.path}: topic {stream.topic}"
    try:
        names, _ = vector_of(stream.messages[0], stream.topic)
    except (MessageError, TypeError, KeyError, ValueError) as error:
        raise DatasetError(f"{where}: {error}; name another: --set state=[/topic] or action=[/topic]") from None
    if not names:
        raise DatasetError(f"{where} has no numbers; name another: --set state=[/topic] or action=[/topic]")
    return tuple(names)


def _films(recording: Recording, choice: Choice, notes: list[str], *, asked: bool) -> tuple[dict[str, Stream], Choice]:
    """The stream of each camera; those that are not understood are left out."""
    found: dict[str, Stream] = {}
    for name, topic in choice.cameras.items():
        try:
            stream = read_stream(recording, topic)
            picture_of(stream.messages[0])
        except (MessageError, PictureError, IndexError, KeyError, TypeError, ValueError) as error:
            there = bool(recording.messages.get(topic))
            problem = f"{topic} cannot be read: {error}" if there else f"{topic} has no messages"
            if asked:
                raise DatasetError(
                    f'{recording.path}: {problem}; name others: --set "cameras={{name: /topic}}"'
                ) from None
            notes.append(f"{problem}; it is left out.")
            continue
        found[name] = stream
    return found, replace(choice, cameras={name: stream.topic for name, stream in found.items()})


def _camera(name: str, stream: Stream, *, stamped: bool) -> Camera:
    """Size and kind by the first picture, and the rate."""
    height, width, channels = picture_of(stream.messages[0]).shape
    kind: Any = "rgb" if channels == 3 else "depth"
    hz = rate_hz(film_of(stream, stamped=stamped).times_ns)
    return Camera(name=name, height=height, width=width, kind=kind, hz=hz or 1.0)


def _state_rate(recording: Recording, choice: Choice, rates: Mapping[str, float | None], notes: list[str]) -> float:
    """The rate of the first topic of the state."""
    topic = choice.state[0]
    hz = rates[topic]
    if hz is None:
        raise DatasetError(f"{recording.path}: topic {topic} has too few messages for a rate; give control_hz")
    notes.append(f"The control rate is that of {topic}, {hz:g} Hz: give another with the import.")
    return hz


def _limits(
    bags: Sequence[Bag], choice: Choice, names: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[Dimension, ...], tuple[Dimension, ...]]:
    """State and action with the range of their values in all recordings, widened: what lies outside is refused."""
    low = {topic: np.full(len(names[topic]), np.inf) for topic in choice.vectors}
    high = {topic: np.full(len(names[topic]), -np.inf) for topic in choice.vectors}
    for bag in bags:
        try:
            recording = read_recording(bag, choice.vectors)
            tracks = {t: track_of(read_stream(recording, t), names[t], stamped=False) for t in choice.vectors}
        except DatasetError:
            continue  # one recording must not hide the others: reading it says what is wrong
        for topic, track in tracks.items():
            low[topic] = np.minimum(low[topic], track.values.min(axis=0))
            high[topic] = np.maximum(high[topic], track.values.max(axis=0))

    def dimensions(topics: Sequence[str]) -> tuple[Dimension, ...]:
        return tuple(
            dimension_around(label, a, b)
            for topic in topics
            for label, a, b in zip(
                _labels(topic, topics, names), low[topic].tolist(), high[topic].tolist(), strict=True
            )
        )

    return dimensions(choice.state), dimensions(choice.action)


def _labels(topic: str, topics: Sequence[str], names: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The names of a topic's numbers; with the topic's where another topic beside it has one of them too."""
    others = {name for other in topics if other != topic for name in names[other]}
    if others.isdisjoint(names[topic]):
        return list(names[topic])
    return [f"{topic.strip('/').replace('/', '.')}.{name}" for name in names[topic]]


def _assumptions(hints: Hints, choice: Choice, first: Recording, reason: str) -> list[str]:
    """What recordings do not say."""
    cameras = ", ".join(f"{name} from {topic}" for name, topic in choice.cameras.items()) or "none"
    notes = [
        f"State is {', '.join(choice.state)}, action {', '.join(choice.action)}; cameras: {cameras}.",
        f"Times are those when messages were logged: {reason}." if reason else "Times are those in the messages.",
        "Units are not written in the recordings and are given as 1; limits are those of their data, widened.",
        "Recordings have no reward: it is 0, and each episode is done at its last step.",
    ]
    if first.scale != 1:
        notes.append("Times were written in milliseconds, as DROID's recorder does, and are read so.")
    if hints.robot is None:
        notes.append("The recordings do not name their robot: it is called unknown; name it with the import.")
    if choice.instruction is None:
        notes.append("No topic has instructions: they come from the metadata, or from the import.")
    return notes
