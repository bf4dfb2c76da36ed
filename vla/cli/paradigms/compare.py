"""``vla compare``: the paradigms on one task, trained and measured alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla.cli.command import console, parse, write_result
from vla.core.config import parse_settings
from vla.core.errors import ConfigError

if TYPE_CHECKING:
    from vla.paradigms.measuring import Measurement

_EXAMPLES = """  vla collect data/compared --env tabletop/place --episodes 2000 --questions 6 --captions 4 --parts 2
  vla compare --data data/compared --out runs/compared
  vla compare --data data/compared --out runs/compared --only unified two-tower --html compared.html
  vla compare --runs runs/compared/unified runs/compared/two-tower --markdown compared.md"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train two towers, ways of fusing and the unified model on one dataset, as much each, and measure them.

    Success, language, speed, size, probes and retrieval; what is commonly said of the paradigms stands beside it. Two
    policies are compared scene by scene with ``vla eval A --against B``. What is finished is not done again.
    """

    data: Path | None = None
    """A dataset of ``tabletop/place`` with questions and captions."""
    out: Path | None = None
    """Folder of all runs: one below it for each contestant."""
    runs: tuple[Path, ...] = ()
    """Folders of contestants that are measured already: their tables, without training anything."""
    only: tuple[str, ...] = ()
    """Contestants, by name; by default all."""
    samples: int = 96_000
    """That each is trained on."""
    episodes: int = 100
    """Scenes that each acts in, under each instruction."""
    probes: int = 100
    """Of each kind."""
    seed: int = 0
    """Of training."""
    workers: int = 1
    """Processes of an evaluation."""
    set: tuple[str, ...] = ()
    """Keys of every recipe as key=value, dotted: engine=inline."""
    html: Path | None = None
    """The comparison as a page."""
    markdown: Path | None = None
    """The comparison as Markdown."""
    measured: Path | None = None
    """Write the row of each paradigm here; ``vla recommend`` shows those of vla/paradigms/measured.json."""
    json: Path | None = None
    """All measurements, and each cell with its verdict."""


def main(argv: list[str]) -> int:
    """Train, measure, write."""
    arguments = parse(Arguments, argv, verb="compare", examples=_EXAMPLES)
    found = _read(arguments.runs) if arguments.runs else _run(arguments)
    from vla.core.config import to_dict
    from vla.core.files import write_atomic
    from vla.paradigms.measuring import write_measured
    from vla.paradigms.tables import comparison_markdown, comparison_page
    from vla.paradigms.verdicts import judged, paragraph, standing

    best, text = standing(found), comparison_markdown(found)
    cells = list(judged(best))
    if arguments.markdown is not None:
        write_atomic(arguments.markdown, text.encode())
    if arguments.html is not None:
        write_atomic(arguments.html, comparison_page(found, title="Paradigms compared").encode())
    if arguments.measured is not None:
        write_measured(arguments.measured, best)
    console().print(paragraph(cells) if arguments.markdown or arguments.html else text, markup=False)
    value = {"measured": [to_dict(one) for one in found], "cells": [asdict(cell) for cell in cells]}
    write_result(arguments.json, value)
    return 0


def _read(runs: Sequence[Path]) -> "list[Measurement]":
    from vla.paradigms.measuring import read_measurement

    return [read_measurement(run) for run in runs]


def _run(arguments: Arguments) -> "list[Measurement]":
    """Each contestant, trained and then measured."""
    if arguments.data is None or arguments.out is None:
        raise ConfigError("compare: give --data and --out to train and measure, or --runs that are measured already")
    from vla.core.lookup import lookup
    from vla.paradigms.contestants import CONTESTANTS, Budget, train_contestant
    from vla.paradigms.measuring import asking_of, measure

    chosen = {name: lookup("contestant", name, CONTESTANTS) for name in arguments.only or CONTESTANTS}
    changes = _nested(parse_settings(arguments.set))
    budget = Budget(data=arguments.data, samples=arguments.samples, seed=arguments.seed, changes=changes)
    how = {"episodes": arguments.episodes, "probes": arguments.probes, "workers": arguments.workers}
    asking = asking_of(arguments.data, **how)
    found = []
    for name, contestant in chosen.items():
        folder = arguments.out / name
        stages = train_contestant(contestant, budget, folder, _noted(name))
        _note(f"{name}: measured")
        given = sum(stage.given for stage in contestant.stages)
        found.append(measure(name, contestant.paradigm, stages, given, asking, arguments.data, folder))
    return found


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as a recipe has them."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        inner = found
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return found


def _noted(name: str) -> Callable[[str], None]:
    return lambda text: _note(f"{name}: {text}")


def _note(text: str) -> None:
    console().print(text, style="dim", markup=False)
