"""Kills writers, recorders, packers, importers and repairs with SIGKILL, again and again, and looks for what was lost.

After each kill the dataset is repaired, twice, and everything in it is read and compared with what was written. All the
while another process reads the newest episodes. Then the power is cut: see `vla.bench.crash.power`.
"""

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.bench.crash.episodes import CODECS, CONTRACT, PICTURES, SourceTruth, make
from vla.bench.crash.ledger import Ledger
from vla.bench.crash.power import power_cuts
from vla.bench.crash.processes import Child, Children
from vla.bench.crash.roles import (
    import_file,
    import_often,
    pack_often,
    read_newest,
    record_episodes,
    repair_often,
    write_segments,
)
from vla.bench.measure import Note, Row
from vla.bench.settings import CrashConfig
from vla.core.machine.processes import Engine
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.formats.robomimic.export import export_robomimic
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

_KILLS_PER_DATASET = 8
_STAGE_S = 4.0
"""How long a process may take to come to a stage; then it is killed in whatever it does."""
_WITHIN_S = 0.05
"""The latest moment after it came to the stage."""
_IMPORTED = 6
"""Episodes of the file that is imported."""


STAGES: dict[str, tuple[str, ...]] = {
    write_segments.__name__: ("writing", "sealing", "publishing"),
    record_episodes.__name__: ("recording", "sealing"),
    pack_often.__name__: ("packing",),
    import_often.__name__: ("importing",),
    repair_often.__name__: ("repairing",),
}
"""What a process of each kind says that it does."""


def bench_crash(config: CrashConfig, note: Note) -> list[Row]:
    """All scenarios, in temporary datasets; what goes wrong is told at once, and counted."""
    rng = np.random.default_rng([config.seed, 0x6372617368])
    totals, kills = Ledger(note), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="vla crash ") as folder, Children() as children:
        source = _write_source(Path(folder))
        for number, (name, share) in enumerate(_plan(config.kills)):
            note(f"{sum(kills.values())} kills: {name}, {share} more")
            root = Path(folder) / f"{number} {name}"
            scene = Scene(root=root, source=source, rng=rng, children=children, ledger=totals, first=number * 10**6)
            SCENARIOS[name](scene, share)
            scene.close()
            kills[name] += share
        cuts = power_cuts(Path(folder), config.power_cuts, rng, totals, note)
        stages = Counter(children.stages)
    rows = [Row(name="kill -9", value=float(sum(kills.values())), unit="times")]
    rows += [Row(name=f"of them: {name}", value=float(count), unit="times") for name, count in kills.items()]
    rows += [Row(name=f"while {stage}", value=float(count), unit="times") for stage, count in sorted(stages.items())]
    return rows + cuts + totals.rows()


def _plan(kills: int) -> list[tuple[str, int]]:
    """Scenarios in turn, each with a few kills, until there are enough."""
    plan: list[tuple[str, int]] = []
    names = list(SCENARIOS)
    while kills > 0:
        share = min(kills, _KILLS_PER_DATASET, max(3, -(-kills // len(names))))
        plan.append((names[len(plan) % len(names)], share))
        kills -= share
    return plan


def _write_source(folder: Path) -> Path:
    """A file of another format, by our own exporter."""
    root, source = folder / "for export", folder / "source.hdf5"
    create_dataset(root, PICTURES)
    with SegmentWriter(root, PICTURES, {}) as writer:
        for seed in range(_IMPORTED):
            writer.append(make(seed, PICTURES, steps=5 + seed))
        publish(root, [writer.seal()], "for export")
    export_robomimic(Dataset.open(root), source)
    return source


@dataclass(kw_only=True)
class Scene:
    """One dataset and the processes around it."""

    root: Path
    source: Path
    rng: np.random.Generator
    children: Children
    ledger: Ledger
    first: int
    """No seed of another dataset is that large."""
    imports: bool = False
    _started: int = 0
    _reader: Child | None = field(default=None)

    def open(self, *, imports: bool = False) -> None:
        """Create the dataset and begin to read it."""
        self.imports = imports
        if imports:
            create_dataset(self.root, SourceTruth(self.source).source.contract)
        else:
            create_dataset(self.root, CONTRACT, CODECS)
        self.ledger.open(self.root, self.source if imports else None)
        self._reader = self.start(read_newest, self.source if imports else None)

    def start(self, role: Callable[..., None], *arguments: Any) -> Child:
        """Begin a process on this dataset."""
        return self.children.start(role, self.root, *arguments)

    def seed(self) -> int:
        """Where the seeds of another process begin."""
        self._started += 1
        return self.first + self._started * 10_000

    def kill(self, child: Child, longest_s: float) -> None:
        """Kill a process at a random moment, or a random moment after it began with something."""
        if self.rng.random() < 0.5:
            self.children.listen(float(self.rng.uniform(0, longest_s)))
        else:
            stages = STAGES[child.role]
            stage, times = stages[int(self.rng.integers(len(stages)))], int(self.rng.integers(1, 4))
            self.children.listen(_STAGE_S, lambda: child.stages[stage] >= times)
            self.children.listen(float(self.rng.uniform(0, _WITHIN_S)))
        left = self.children.kill(child)
        if left:
            self.ledger.fault("left_behind", f"{left} processes outlive the one that started them", left)

    def settle(self) -> None:
        """Repair, and look at everything."""
        self.children.listen(0.0)
        self.ledger.settle(self.children.of(self.root))

    def close(self) -> None:
        """Stop reading, and count."""
        assert self._reader is not None
        self.ledger.close(self.children.stop(self._reader))


def _writer(scene: Scene, kills: int) -> None:
    scene.open()
    for _ in range(kills):
        scene.kill(scene.start(write_segments, scene.seed()), 0.7)
        scene.settle()


def _recorder(scene: Scene, kills: int) -> None:
    """Every other one begins with a recording that takes seconds."""
    scene.open()
    for number in range(kills):
        scene.kill(scene.start(record_episodes, scene.seed() + 3 * (number % 2)), 2.5)
        scene.settle()


def _four(scene: Scene, kills: int) -> None:
    """Repairs go on beside those that live."""
    scene.open()
    roles = ([write_segments, record_episodes] * 2)[:kills]
    live = [(role, scene.start(role, scene.seed())) for role in roles]
    for number in range(kills):
        role, victim = live.pop(int(scene.rng.integers(len(live))))
        scene.kill(victim, 0.6)
        scene.settle()
        if kills - number > len(live) + 1:
            live.append((role, scene.start(role, scene.seed())))


def _pack(scene: Scene, kills: int) -> None:
    """Beside a writer that goes on."""
    scene.open()
    writer = scene.start(write_segments, scene.seed())
    for _ in range(kills - 1):
        scene.kill(scene.start(pack_often, scene.seed()), 0.6)
        scene.settle()
    scene.kill(writer, 0.1)
    scene.settle()


def _convert(scene: Scene, kills: int) -> None:
    """What was stopped is continued afterwards, and then there is once."""
    scene.open(imports=True)
    for number in range(kills):
        engine: Engine = "processes" if number % 4 == 3 else "inline"
        child = scene.start(import_often, scene.source, f"file {scene.seed()}", engine)
        scene.kill(child, 4.0 if engine == "processes" else 0.5)
        if number % 2:
            scene.settle()
        for name in child.begun:
            import_file(scene.root, scene.source, name, "inline", lambda steps: None)
        scene.settle()
        scene.ledger.expect_imported(child.begun, _IMPORTED)


def _repair(scene: Scene, kills: int) -> None:
    """Killed while it repairs what others left, a packer beside it now and then."""
    scene.open()
    while kills > 0:
        roles = [record_episodes, write_segments, *([pack_often] if scene.rng.random() < 0.5 else [])]
        for child in [scene.start(role, scene.seed()) for role in roles[-kills:]]:
            scene.kill(child, 0.5)
            kills -= 1
        for _ in range(min(kills, 3)):
            scene.kill(scene.start(repair_often), 0.15)
            kills -= 1
        scene.settle()


SCENARIOS: dict[str, Callable[[Scene, int], None]] = {
    "one writer": _writer,
    "one recorder": _recorder,
    "two writers and two recorders": _four,
    "pack": _pack,
    "convert": _convert,
    "repair": _repair,
}
"""What is killed, by name: (scene, number of kills)."""
