"""How much memory an evaluation of many tasks takes, against one of a single task."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from vla.bench.measure import Note, Row, compare, in_fresh_process
from vla.bench.settings import EnvConfig
from vla.core.machine.memory import resident_bytes
from vla.envs.metaworld.table import METAWORLD
from vla.envs.tabletop.table import TABLETOP
from vla.evaluation.baselines import ExpertPolicy
from vla.evaluation.evaluate import evaluate
from vla.evaluation.plan import Progress
from vla.evaluation.settings import RunConfig

_BATCH, _STEPS = 4, 3
_MB = 1e6


def bench_memory(config: EnvConfig, note: Note) -> Iterator[Row]:
    """Peak memory of a worker that meets one task after the other, against that of the task that needs most of it."""
    names = list(METAWORLD if find_spec("metaworld") else TABLETOP)[: config.tasks]
    if not names:
        return
    note(f"meeting {len(names)} tasks, {_BATCH} environments of each")
    peaks = in_fresh_process(peaks_bytes, names, config.size)
    largest = max(peaks, key=peaks.__getitem__)
    note(f"meeting {largest} alone")
    alone = in_fresh_process(peaks_bytes, [largest], config.size)[largest]
    title = f"memory of a worker after {len(names)} tasks of {names[0].split('/')[0]}, against {largest} alone"
    yield compare(title, peaks[largest] / _MB, "MB", against=alone / _MB, bar=round(1 / 1.5, 2))


def peaks_bytes(names: Sequence[str], size: int) -> dict[str, int]:
    """The most memory that this process holds while it evaluates each environment, one after the other."""
    peaks = dict.fromkeys(names, 0)

    def look(progress: Progress) -> None:
        name = names[max(0, progress.done - 1) // _BATCH]
        peaks[name] = max(peaks[name], resident_bytes()["rss"])

    settings: dict[str, Any] = {"image_size": size, "max_steps": _STEPS}
    run = RunConfig(workers=1, batch=_BATCH)
    evaluate(ExpertPolicy, env=names, settings=settings, episodes=_BATCH, run=run, on_progress=look)
    return peaks
