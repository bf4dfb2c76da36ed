"""A look at every demonstration before the first is read: what most of them hold, its range, and what is odd.

A demonstration that is not as the others, or is damaged, does not count here; reading it says what is wrong.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vla.core.errors import DatasetError
from vla.datasets.formats.dimensions import as_rows, extremes
from vla.datasets.formats.robomimic.demos import Demo, Form, demonstrations, open_demo, robot_of
from vla.datasets.formats.robomimic.file import open_hdf5
from vla.datasets.formats.robomimic.header import Header, read_header
from vla.datasets.formats.robomimic.masks import read_masks
from vla.datasets.formats.robomimic.success import success_of

Ranges = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Where one demonstration is, and which lists name it."""

    path: Path
    name: str
    """Empty for a file that could not be opened."""
    split: str = "train"
    masks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is remembered of one demonstration."""

    forms: Mapping[str, Form]
    left: Mapping[str, str]
    others: tuple[str, ...]
    """Arrays that are neither actions nor observations."""
    header: Header


@dataclass(kw_only=True)
class Survey:
    """Every demonstration of some files."""

    demos: list[Listed] = field(default_factory=list)
    """Those to be read, sound or not."""
    headers: dict[Path, Header] = field(default_factory=dict)
    seen: dict[tuple[Path, str], Seen] = field(default_factory=dict)
    """Those that could be opened."""
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Why each of the others could not."""
    success: Counter[tuple[bool | None, str]] = field(default_factory=Counter)
    early: int = 0
    """Demonstrations that are done before their last step."""
    unrewarded: int = 0
    wordless: set[Path] = field(default_factory=set)
    """Files with a demonstration without language."""

    def look_at(self, path: Path) -> None:
        """Open one file and list what it holds; one that cannot be opened is to be read too, which then says why."""
        try:
            with open_hdf5(path) as file:
                names = demonstrations(file, path, self.notes)
                header = self.headers[path] = read_header(file)
                masks = read_masks(file, names)
                self.notes += [f"{path.name}: {note}" for note in (*header.notes, *masks.notes)]
                for name in names:
                    listed = Listed(path=path, name=name, split=masks.split_of(name), masks=tuple(masks.keys_of(name)))
                    self.demos.append(listed)
                self._look_at_demos(file, header, path, names)
        except DatasetError as error:
            self.faults.append(str(error))
            self.demos = [one for one in self.demos if one.path != path] + [Listed(path=path, name="")]

    def _look_at_demos(self, file: object, header: Header, path: Path, names: Sequence[str]) -> None:
        steps = 0
        for name in names:
            try:
                demo = open_demo(file, header, path, name)
                forms, count = demo.forms, demo.steps
                if demo.language is None:
                    self.wordless.add(path)
            except DatasetError as error:
                self.faults.append(str(error))
                continue
            steps += count
            self.notes += [f"{path.name}: {note}" for note in demo.notes]
            others = tuple(key for key in demo.tree.arrays if key not in forms)
            self.seen[path, name] = Seen(forms=forms, left=dict(demo.tree.left), others=others, header=header)
        if header.total not in (None, steps) and len(self.seen) == len(self.demos):
            self.notes.append(
                f"{path.name}: total says {header.total} steps, its {len(names)} demonstrations hold {steps}: "
                "some were lost or removed after it was written, or it counts something else."
            )

    def common(self) -> dict[str, Form]:
        """The arrays of at least half of the demonstrations, in their most frequent form; others are noted."""
        votes: dict[str, Counter[Form]] = {}
        for seen in self.seen.values():
            for key, form in seen.forms.items():
                votes.setdefault(key, Counter())[form] += 1
        chosen, count = {}, len(self.seen)
        for key, forms in votes.items():
            if 2 * forms.total() >= count:
                chosen[key] = forms.most_common(1)[0][0]
            else:
                self.notes.append(f"{key} is left out: only {forms.total()} of {count} demonstrations have it.")
        return chosen

    def robot(self) -> tuple[str | None, float | None]:
        """Robot and rate of most demonstrations."""
        return Counter(robot_of(seen.header) for seen in self.seen.values()).most_common(1)[0][0]

    def measure(self, forms: Mapping[str, Form], robot: object) -> Ranges:
        """Least and greatest numbers of sound demonstrations; if none is, the first fault is the `DatasetError`."""
        ranges: Ranges = {}
        sound = 0
        for path in {path: None for path, _ in self.seen}:
            with open_hdf5(path) as file:
                for name in [name for other, name in self.seen if other == path]:
                    try:
                        demo = open_demo(file, self.headers[path], path, name)
                        demo.check(forms, robot)
                        found = _ranges_of(demo, forms)
                        self._look_at_outcome(demo)
                    except DatasetError as error:
                        self.faults.append(str(error))
                        continue
                    sound += 1
                    for key, (low, high) in found.items():
                        before = ranges.get(key, (low, high))
                        ranges[key] = np.minimum(low, before[0]), np.maximum(high, before[1])
        if not sound:
            raise DatasetError(self.faults[0])
        if self.faults:
            self.notes.append(
                f"{len(self.faults)} of {len(self.demos)} demonstrations cannot be read; the first: {self.faults[0]}"
            )
        return ranges

    def _look_at_outcome(self, demo: Demo) -> None:
        done, reward = demo.column("dones"), demo.column("rewards")
        self.success[success_of(demo.attributes, reward)] += 1
        self.early += done is not None and bool(done[:-1].any())
        self.unrewarded += reward is None

    def left_out(self, used: Iterable[str]) -> list[str]:
        """Sentences on what the sound demonstrations hold and an import does not take."""
        count, taken = len(self.seen), set(used)
        reasons = Counter(pair for seen in self.seen.values() for pair in seen.left.items())
        lines = [
            f"{key} is left out{f' in {n} of {count} demonstrations' if n < count else ''}: {why}."
            for (key, why), n in reasons.items()
        ]
        others = sorted({key for seen in self.seen.values() for key in seen.others} - taken)
        return [*lines, *([f"These arrays are left out: {', '.join(others)}."] if others else [])]


def survey_of(files: Sequence[Path]) -> Survey:
    """Look at every file; that none has a demonstration which can be opened is a `DatasetError`."""
    survey = Survey()
    for path in files:
        survey.look_at(path)
    if not survey.seen:
        found = f": {survey.notes[0]}" if survey.notes else "; nothing was recorded"
        raise DatasetError(
            survey.faults[0]
            if survey.faults
            else f"{files[0]}: expected demonstrations with actions in /data, got none{found}"
        )
    return survey


def _ranges_of(demo: Demo, forms: Mapping[str, Form]) -> Ranges:
    """Of the actions and of observations that are vectors; whatever is not finite, reading says."""
    vectors = [key for key, (kind, shape) in forms.items() if kind == "numbers" and len(shape) <= 1]
    found = {}
    for key in vectors:
        rows = demo.rows(key)
        found[key] = extremes(np.reshape(rows, (len(rows), -1)))
        as_rows(rows, f"{demo.where}: {key}")
    return found
