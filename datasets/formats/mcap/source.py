"""MCAP recordings (ROS 2 bags, DROID, Foxglove) as a source of episodes: each file is one.

Topics have clocks of their own. State and action are put on one control clock, where the last value holds; cameras
keep their frames and times. The steps begin when every topic has its first message, and end with the first that ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.formats.dimensions import dimension_around
from vla.datasets.formats.mcap.clock import as_fraction, control_times, held, rate_hz, stale
from vla.datasets.formats.mcap.file import Recording, has_footer, read_recording
from vla.datasets.formats.mcap.messages import MessageError, decoder, picture_of, stamp_ns, vector_of
from vla.datasets.formats.mcap.streams import Film, Track, decode_frames, decoded, read_film, read_texts, read_track
from vla.datasets.formats.mcap.topics import Choice, McapTopics, choose_topics
from vla.datasets.formats.pictures import PictureError
from vla.datasets.formats.source import Hints
from vla.datasets.store.clocks import latest_frame

_MEASURED = 32
"""Files whose states and actions tell the limits: a limit is a scale, and reading all pictures twice takes long."""
_SAME_CLOCK_NS = 1_000_000_000
_TOLD = ("instruction", "language_instruction", "task")


def recognise(path: Path) -> bool:
    """Whether ``path`` is an ``.mcap`` file, or a folder with some, itself or one below; never raises."""
    try:
        return path.suffix == ".mcap" if path.is_file() else any(any(path.glob(p)) for p in ("*.mcap", "*/*.mcap"))
    except OSError:
        return False


def open_mcap(path: Path, hints: Hints, topics: McapTopics | None = None) -> "McapSource":
    """Choose topics by the first file, and measure rates and limits; what cannot be decided is a `DatasetError`."""
    files = (path,) if path.is_file() else tuple(sorted(path.rglob("*.mcap")))
    if not files:
        raise DatasetError(f"{path}: expected at least 1 file .mcap, got none; give the folder of the recordings")
    if hints.control_hz is not None and not hints.control_hz > 0:
        raise DatasetError(f"control_hz: expected a positive rate, got {hints.control_hz:g}; correct the hint")
    cut = [file for file in files if not has_footer(file)]
    notes = [_cut_note(cut)] if cut else []
    first = read_recording(files[0])
    choice = choose_topics(files[0], first.channels, topics or McapTopics())
    stamped = _have_one_clock(first, choice)
    names = {topic: _names(first, topic) for topic in choice.vectors}
    cameras, choice = _cameras(first, choice, notes, asked=topics is not None and bool(topics.cameras), stamped=stamped)
    hz = hints.control_hz or _state_rate(first, choice, names, notes, stamped=stamped)
    state, action = _limits(files, choice, names)
    notes += [*choice.notes, *_assumptions(hints, choice, first, len(files), stamped=stamped)]
    contract = Contract(robot=hints.robot or "unknown", cameras=cameras, state=state, action=action, control_hz=hz)
    return McapSource(
        files=files,
        hints=hints,
        choice=choice,
        names=names,
        stamped=stamped,
        contract=contract,
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class McapSource:
    """The recordings of a folder; made by `open_mcap`."""

    files: tuple[Path, ...]
    hints: Hints
    choice: Choice
    names: Mapping[str, tuple[str, ...]]
    """Of the numbers of each topic of state and action."""
    stamped: bool
    """Whether times are those in the messages, not those when they were logged."""
    contract: Contract
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """The number of files."""
        return len(self.files)

    def read(self, number: int) -> Episode:
        """One file; damage, and topics that differ from those of the first file, are a `DatasetError`."""
        path, choice = self.files[number], self.choice
        topics = {*choice.vectors, *choice.cameras.values(), choice.instruction}
        recording = read_recording(path, {topic for topic in topics if topic})
        tracks = {t: read_track(recording, t, self.names[t], stamped=self.stamped) for t in choice.vectors}
        films = {name: read_film(recording, topic, stamped=self.stamped) for name, topic in choice.cameras.items()}
        hz = as_fraction(self.contract.control_hz)
        times = _steps(path, [*tracks.values(), *films.values()], self.contract.control_hz)
        rows = {topic: held(track.times_ns, times, hz) for topic, track in tracks.items()}
        action = _side_by_side(tracks, rows, choice.action, len(times))
        valid = np.ones(len(times), bool)
        for topic in choice.state:
            valid &= ~stale(tracks[topic].times_ns, times, rows[topic])
        shots = {name: _seen(film, times) for name, film in films.items()}
        instruction, alternatives = self._language(recording)
        sent = [tracks[topic].times_ns[rows[topic]] for topic in choice.action]
        return Episode(
            images={
                c.name: decode_frames(recording, choice.cameras[c.name], films[c.name], shots[c.name], c.shape)
                for c in self.contract.cameras
            },
            image_time_ns={name: film.times_ns[shots[name]] for name, film in films.items()},
            state=_side_by_side(tracks, rows, choice.state, len(times)),
            action=action,
            action_executed=action,
            reward=np.zeros(len(times), np.float32),
            done=np.asarray(np.arange(len(times)) == len(times) - 1),
            valid=valid,
            time_ns=times,
            command_time_ns=np.max(sent, axis=0),
            instruction=instruction,
            instruction_alternatives=alternatives,
            task=self.hints.task or instruction,
            split=self.hints.split or "train",
            seed=0,
            success=_success(recording.metadata),
            provenance=_provenance(recording, valid),
        )

    def _language(self, recording: Recording) -> tuple[str, tuple[str, ...]]:
        """The first text of the topic, else of the metadata, else of the hint; later texts are alternatives."""
        texts = read_texts(recording, self.choice.instruction) if self.choice.instruction else []
        texts += [recording.metadata[key].strip() for key in _TOLD if key in recording.metadata]
        texts = [text for text in dict.fromkeys(texts) if text] or [(self.hints.instruction or "").strip()]
        if not texts[0]:
            raise DatasetError(f"{recording.path} has no instruction; give one with the import")
        return texts[0], tuple(texts[1:])


def _steps(path: Path, streams: Sequence[Track | Film], hz: float) -> Int64[np.ndarray, " t"]:
    """The control clock of one file; a value holds for one period, so the last one has a step of its own."""
    first = [int(stream.times_ns[0]) for stream in streams]
    last = [
        int(s.times_ns[-1]) + max(int(np.median(np.diff(s.times_ns))) - 1, 0) if len(s.times_ns) > 1 else f
        for s, f in zip(streams, first, strict=True)
    ]
    times = control_times(first, last, as_fraction(hz))
    if not len(times):
        raise DatasetError(
            f"{path}: its topics do not overlap in time: the last begins at {max(first)} ns, the first ends at "
            f"{min(last)} ns; leave the file out"
        )
    return times


def _seen(film: Film, times: Int64[np.ndarray, " t"]) -> range:
    """The frames from the last that is not after the first step up to the last step."""
    first, last = latest_frame(film.times_ns, times[[0, -1]]).tolist()
    return range(first, last + 1)


def _side_by_side(
    tracks: Mapping[str, Track], rows: Mapping[str, np.ndarray], topics: Sequence[str], steps: int
) -> np.ndarray:
    """Values of several topics at each step: float32 (t, d)."""
    parts = [tracks[topic].values[rows[topic]] for topic in topics]
    return np.concatenate(parts, axis=1) if parts else np.empty((steps, 0), np.float32)


def _success(metadata: Mapping[str, str]) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(metadata.get("success", "").lower())


def _provenance(recording: Recording, valid: np.ndarray) -> dict[str, Any]:
    values: dict[str, Any] = {"format": "MCAP", "file": recording.path.name, "metadata": dict(recording.metadata)}
    if recording.recovered:
        values["recovered"] = True
    if not valid.all():
        values["steps_with_stale_state"] = int((~valid).sum())
    return values


def _have_one_clock(recording: Recording, choice: Choice) -> bool:
    """Whether the first message of each topic has a time, all as far from their log times."""
    offsets = []
    for topic in (*choice.vectors, *choice.cameras.values()):
        log_time, message = decoded(recording, topic)[0]
        stamp = stamp_ns(message)
        if stamp is None:
            return False
        offsets.append(stamp * recording.scale - log_time)
    return max(offsets) - min(offsets) < _SAME_CLOCK_NS


def _names(recording: Recording, topic: str) -> tuple[str, ...]:
    """What the numbers of a topic are called, by its first message."""
    try:
        names, _ = vector_of(decoded(recording, topic)[0][1], topic)
    except (MessageError, TypeError, KeyError, ValueError) as error:
        raise DatasetError(
            f"{recording.path}: topic {topic}: {error}; name another with McapTopics, or --set"
        ) from None
    if not names:
        raise DatasetError(f"{recording.path}: topic {topic} has no numbers; name another with McapTopics, or --set")
    return tuple(names)


def _cameras(
    recording: Recording, choice: Choice, notes: list[str], *, asked: bool, stamped: bool
) -> tuple[tuple[Camera, ...], Choice]:
    """Size, kind and rate of each camera by the first file; those that are not understood are left out."""
    found: list[Camera] = []
    for name, topic in choice.cameras.items():
        try:
            rows = recording.messages.get(topic, [])
            picture = picture_of(decoder(recording.channels[topic])(rows[0][1]))
        except (MessageError, PictureError, IndexError, KeyError, TypeError, ValueError) as error:
            problem = f"{topic} cannot be read: {error}" if rows else f"{topic} has no messages"
            if asked:
                raise DatasetError(
                    f"{recording.path}: {problem}; name other cameras with McapTopics, or --set"
                ) from None
            notes.append(f"{problem}; it is left out.")
            continue
        height, width, channels = picture.shape
        hz = rate_hz(read_film(recording, topic, stamped=stamped).times_ns)
        kind: Any = "rgb" if channels == 3 else "depth"
        found.append(Camera(name=name, height=height, width=width, kind=kind, hz=hz or 1.0))
    kept = {camera.name: choice.cameras[camera.name] for camera in found}
    return tuple(found), Choice(
        state=choice.state, action=choice.action, cameras=kept, instruction=choice.instruction, notes=choice.notes
    )


def _state_rate(
    recording: Recording,
    choice: Choice,
    names: Mapping[str, tuple[str, ...]],
    notes: list[str],
    *,
    stamped: bool,
) -> float:
    """The rate of the first topic of the state."""
    topic = choice.state[0]
    hz = rate_hz(read_track(recording, topic, names[topic], stamped=stamped).times_ns)
    if hz is None:
        raise DatasetError(f"{recording.path}: topic {topic} has too few messages for a rate; give control_hz")
    notes.append(f"The control rate is that of {topic}, {hz:g} Hz: give another with the import.")
    return hz


def _limits(
    files: Sequence[Path], choice: Choice, names: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[Dimension, ...], tuple[Dimension, ...]]:
    """State and action with the range of their values in some files, widened."""
    low = {topic: np.full(len(names[topic]), np.inf) for topic in choice.vectors}
    high = {topic: np.full(len(names[topic]), -np.inf) for topic in choice.vectors}
    for number in np.unique(np.linspace(0, len(files) - 1, _MEASURED).astype(int)):
        try:
            recording = read_recording(files[number], choice.vectors)
            tracks = {topic: read_track(recording, topic, names[topic], stamped=False) for topic in choice.vectors}
        except DatasetError:
            continue  # one file must not hide the others: reading it says what is wrong
        for topic, track in tracks.items():
            low[topic] = np.minimum(low[topic], track.values.min(axis=0))
            high[topic] = np.maximum(high[topic], track.values.max(axis=0))

    def dimensions(topics: Sequence[str]) -> tuple[Dimension, ...]:
        return tuple(
            dimension_around(name if len(topics) == 1 else f"{topic.strip('/').replace('/', '.')}.{name}", a, b)
            for topic in topics
            for name, a, b in zip(names[topic], low[topic].tolist(), high[topic].tolist(), strict=True)
        )

    return dimensions(choice.state), dimensions(choice.action)


def _cut_note(cut: Sequence[Path]) -> str:
    return (
        f"{len(cut)} files have no end, as after a crash of the recorder (the first is {cut[0].name}): what is whole "
        "of them is read."
    )


def _assumptions(hints: Hints, choice: Choice, first: Recording, files: int, *, stamped: bool) -> list[str]:
    """What recordings do not say."""
    cameras = ", ".join(f"{name} from {topic}" for name, topic in choice.cameras.items()) or "none"
    notes = [
        f"State is {', '.join(choice.state)}, action {', '.join(choice.action)}; cameras: {cameras}.",
        f"Times are those {'in the messages' if stamped else 'when messages were logged'}.",
        "Units are not written in the recordings and are given as 1; limits are those of the data of "
        f"{min(files, _MEASURED)} of {files} files, widened.",
        "Recordings have no reward: it is 0, and each episode is done at its last step.",
    ]
    if first.scale != 1:
        notes.append("Times were written in milliseconds, as DROID's recorder does, and are read so.")
    if hints.robot is None:
        notes.append("The recordings do not name their robot: it is called unknown; name it with the import.")
    if choice.instruction is None:
        notes.append("No topic has instructions: they come from the metadata, or from the import.")
    return notes
