"""MCAP recordings (ROS 2 bags, DROID, Foxglove) as a source of episodes: each recording is one.

Topics have clocks of their own. State and action are put on one control clock, where the last value holds; cameras
keep their frames and times. The steps begin when every topic has its first message, and end with the first that ends.
Steps in a hole, for which a topic had nothing new when it was due, are kept and not learned from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.formats.mcap.bags import Bag, find_bags, is_recording
from vla.datasets.formats.mcap.clock import as_fraction, held
from vla.datasets.formats.mcap.file import Recording, has_no_end, read_recording
from vla.datasets.formats.mcap.holes import Watched, control_clock, holes_of, oddities
from vla.datasets.formats.mcap.plan import Plan, make_plan, not_stamped
from vla.datasets.formats.mcap.streams import Film, Track, decode_frames, film_of, read_stream, read_texts, track_of
from vla.datasets.formats.mcap.topics import Choice, McapTopics
from vla.datasets.formats.source import Hints, noted
from vla.datasets.store.clocks import latest_frame

_TOLD = ("instruction", "language_instruction", "task")


def recognise(path: Path) -> bool:
    """Whether ``path`` is a recording of ROS, or a folder with some, behind links too; never raises."""
    return is_recording(path)


def open_mcap(path: Path, hints: Hints, topics: McapTopics | None = None) -> "McapSource":
    """Choose topics by the first whole recording, and measure rates and limits; what is unclear is a `DatasetError`."""
    bags, notes = find_bags(path)
    cut = [file for bag in bags for file in bag.files if has_no_end(file)]
    if cut:
        notes += (f"{len(cut)} files have no end, as after a crash of the recorder: what is whole of them is read.",)
    plan = make_plan(bags, hints, topics or McapTopics())
    return McapSource(
        path=path,
        bags=bags,
        hints=hints,
        topics=topics or McapTopics(),
        plan=plan,
        notes=(*notes, *plan.notes),
    )


@dataclass(frozen=True, kw_only=True)
class McapSource:
    """The recordings at a path; made by `open_mcap`."""

    path: Path
    bags: tuple[Bag, ...]
    hints: Hints
    topics: McapTopics
    plan: Plan
    notes: tuple[str, ...]

    @property
    def contract(self) -> Contract:
        """As the first recording shows it."""
        return self.plan.contract

    @property
    def choice(self) -> Choice:
        """The topics that are read."""
        return self.plan.choice

    def __len__(self) -> int:
        """The number of recordings."""
        return len(self.bags)

    def read(self, number: int) -> Episode:
        """One recording; damage, and topics that differ from those of the first one, are a `DatasetError`."""
        bag, choice = self.bags[number], self.choice
        wanted = {*choice.vectors, *choice.cameras.values(), choice.instruction}
        recording = read_recording(bag, {topic for topic in wanted if topic})
        streams = {topic: read_stream(recording, topic) for topic in (*choice.vectors, *choice.cameras.values())}
        unstamped = not_stamped(list(streams.values()), self.topics)
        tracks = {t: track_of(streams[t], self.plan.names[t], stamped=not unstamped) for t in choice.vectors}
        films = {name: film_of(streams[topic], stamped=not unstamped) for name, topic in choice.cameras.items()}
        hz = as_fraction(self.contract.control_hz)
        watched = self._watched(tracks, films)
        times = control_clock(bag.path, watched, hz)
        rows = {topic: held(track.times_ns, times, hz) for topic, track in tracks.items()}
        action = _side_by_side(tracks, rows, choice.action, len(times))
        valid, notes = holes_of(bag.path, watched, times, hz)
        notes += oddities(bag, recording, streams, watched, times, unstamped if self.plan.stamped else "")
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
            provenance=self._provenance(bag, recording, notes),
        )

    def _watched(self, tracks: Mapping[str, Track], films: Mapping[str, Film]) -> list[Watched]:
        """Every stream that an episode rests on."""
        rates = {camera.name: camera.hz for camera in self.contract.cameras}
        return [
            *(
                Watched(
                    label=topic,
                    times_ns=track.times_ns,
                    reordered=track.reordered,
                    hz=self.plan.rates[topic],
                    only_changes=topic in self.topics.events,
                )
                for topic, track in tracks.items()
            ),
            *(
                Watched(
                    label=f"camera {name} ({self.choice.cameras[name]})",
                    times_ns=film.times_ns,
                    reordered=film.reordered,
                    hz=rates[name],
                )
                for name, film in films.items()
            ),
        ]

    def _language(self, recording: Recording) -> tuple[str, tuple[str, ...]]:
        """The first text of the topic, else of the metadata, else of the hint; later texts are alternatives."""
        texts = read_texts(recording, self.choice.instruction) if self.choice.instruction else []
        texts += [recording.metadata[key].strip() for key in _TOLD if key in recording.metadata]
        texts = [text for text in dict.fromkeys(texts) if text] or [(self.hints.instruction or "").strip()]
        if not texts[0]:
            raise DatasetError(f"{recording.path} has no instruction; give one with the import: --instruction")
        return texts[0], tuple(texts[1:])

    def _provenance(self, bag: Bag, recording: Recording, notes: Sequence[str]) -> dict[str, Any]:
        name = bag.path.relative_to(self.path).as_posix() if bag.path != self.path else bag.path.name
        values: dict[str, Any] = {"format": "MCAP", "file": name, "metadata": dict(recording.metadata)}
        if recording.recovered:
            values["recovered"] = True
        return noted(values, notes)


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
