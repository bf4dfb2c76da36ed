"""What must be in a dataset of the crash test, what is there, and the difference."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vla.bench.crash.episodes import Truth, digest, truth_of
from vla.bench.crash.processes import Child
from vla.bench.measure import Note, Row
from vla.datasets.care.repair import repair
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.datasets.store.manifest import latest_number

FAULTS = {
    "lost": ("committed episodes that are lost", "episodes"),
    "wrong": ("episodes that are not what was written", "episodes"),
    "twice": ("episodes that are there twice", "episodes"),
    "reader": ("errors and half episodes that readers saw", "errors"),
    "damage": ("errors of repair, and of validate --full after it", "errors"),
    "restless": ("second repairs that did something", "repairs"),
    "unfinished": ("imports that a second run did not complete", "imports"),
    "left_behind": ("processes that outlive the one that started them", "processes"),
}
"""What may never happen: (what it is, unit)."""


class Ledger:
    """Counts over all datasets, and what the one at hand must hold."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._faults: Counter[str] = Counter()
        self._committed = self._recovered = self._versions = self._read = self._repairs = self._compared = 0
        self._worst_loss_s = 0.0
        self._recordings = 0

    def open(self, root: Path, source: Path | None) -> None:
        """Begin with a new dataset."""
        self._root, self._truth = root, truth_of(source)
        self._required: dict[str, str] = {}
        self._judged: set[int] = set()
        self._dataset: Dataset | None = None

    def fault(self, name: str, what: str, count: int = 1) -> None:
        """Count and tell something that may never happen."""
        assert name in FAULTS, name
        self._faults[name] += count
        self._note(f"FAULT: {what}")

    @property
    def faults(self) -> int:
        """How many there were."""
        return sum(self._faults.values())

    def settle(self, children: Sequence[Child]) -> None:
        """Repair; then everything that was committed must be there, once, and be what was written."""
        promised: dict[str, str] = {}
        for child in children:
            promised |= child.published | (child.sealed if child.killed_ns else {})
        self._committed += len(promised.keys() - self._required.keys())
        self._required |= promised
        for again in (False, True):
            self._repair(again=again)
        if latest_number(self._root) is None:
            for uid in self._required:
                self.fault("lost", f"episode {uid}: nothing is published")
            return
        for finding in validate(self._root, "full"):
            if finding.severity == "error":
                self.fault("damage", f"validate: {finding.where}: {finding.what}")
        self._dataset = Dataset.open(self._root)
        self._compare(self._dataset, self._truth)
        for child in children:
            if child.killed_ns:
                self._judge_recordings(child, self._dataset)

    def _repair(self, *, again: bool) -> None:
        self._repairs += 1
        try:
            report = repair(self._root)
        except Exception as error:  # whatever it is, it may not happen
            self.fault("damage", f"repair: {error!r}")
            return
        for line in report.lost:
            self.fault("damage", f"repair: {line}")
        if again and (report.done or report.manifest is not None):
            self.fault("restless", f"the second repair did this: {report.done}, version {report.manifest}")

    def _compare(self, dataset: Dataset, truth: Truth) -> None:
        """Every episode, all of it."""
        found: dict[str, str] = {}
        for number, record in enumerate(dataset.episodes):
            found_digest = digest(dataset.read_episode(number))
            self._compared += 1
            if found_digest != truth.digest(record) or self._required.get(record.uid, found_digest) != found_digest:
                self.fault("wrong", f"episode {record.uid} (seed {record.seed}) is not what was written")
            if record.uid in found:
                self.fault("twice", f"episode {record.uid} (seed {record.seed}) is there twice")
            found[record.uid] = found_digest
        for uid in self._required.keys() - found.keys():
            self.fault("lost", f"episode {uid} is lost")
            del self._required[uid]
        self._committed += len(found.keys() - self._required.keys())
        self._recovered += sum(
            bool(record.provenance.get("recovered")) for record in dataset.episodes if record.uid not in self._required
        )
        self._required |= found
        seeds = Counter(record.seed for record in dataset.episodes if "source" not in record.provenance)
        for seed, count in seeds.items():
            if count > 1:
                self.fault("twice", f"the episode of seed {seed} is there {count} times")

    def _judge_recordings(self, child: Child, dataset: Dataset) -> None:
        """How old the first step is that a dead recorder had been given and that is not there."""
        lengths = {record.seed: record.length for record in dataset.episodes} if child.handed_over else {}
        for seed, times in child.handed_over.items():
            if seed in self._judged:
                continue
            self._judged.add(seed)
            self._recordings += 1
            kept = lengths.get(seed, 0)
            if kept < len(times):
                self._worst_loss_s = max(self._worst_loss_s, (child.killed_ns - times[kept]) / 1e9)

    def expect_imported(self, names: Sequence[str], episodes: int) -> None:
        """Every episode of each import, once."""
        if not names:
            return
        assert self._dataset is not None, "an import that returned has published"
        found = Counter[tuple[str, int]]()
        for record in self._dataset.episodes:
            origin = record.provenance["source"]
            found[origin["path"], int(origin["episode"])] += 1
        for name in names:
            counts = [found[name, number] for number in range(episodes)]
            if min(counts) < 1:
                self.fault("unfinished", f"import {name}: its episodes are there {counts} times")
            elif max(counts) > 1:
                self.fault("twice", f"import {name}: its episodes are there {counts} times", sum(counts) - episodes)

    def close(self, reader: Child) -> None:
        """What the reader of the dataset saw."""
        versions, read, errors = reader.read
        self._versions += versions
        self._read += read
        for error in errors:
            self.fault("reader", f"reader: {error}")

    def rows(self) -> list[Row]:
        """All counts."""
        counts = [
            ("committed episodes", self._committed, "episodes"),
            ("of them: recovered from journals", self._recovered, "episodes"),
            ("episodes compared after kills", self._compared, "episodes"),
            ("versions that readers opened", self._versions, "versions"),
            ("episodes that readers compared", self._read, "episodes"),
            ("repairs", self._repairs, "repairs"),
            ("recordings", self._recordings, "recordings"),
        ]
        return [
            *(Row(name=name, value=float(count), unit=unit) for name, count, unit in counts),
            Row(name="worst loss of a recorder", value=self._worst_loss_s, unit="s", bar=1.0),
            *(Row(name=w, value=float(self._faults[name]), unit=u, bar=0.0) for name, (w, u) in FAULTS.items()),
        ]
