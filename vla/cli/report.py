"""``vla report``: results as one page and one table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.errors import ConfigError, VlaError

if TYPE_CHECKING:
    from vla.report.evaluation.facts import Loaded

_EXAMPLES = """  vla report runs/eval-place --out place.html
  vla report runs/eval-new runs/eval-old runs/new-old --out new-old.html --markdown new-old.md
  vla report runs/experts --markdown docs/experts.md"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Put results of vla eval (evaluations, comparisons, robustness, language) on one HTML page and into Markdown."""

    results: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of ``vla eval --out``, or files of its ``--json``."""
    out: Path | None = None
    """The page: one file, with everything in it."""
    markdown: Path | None = None
    """The tables."""
    title: str = "Evaluation"
    """Of the page."""
    clips: int = 4
    """Videos of successes, and of failures, on the page; from the folder of a policy in one task, replayed."""
    json: Path | None = None
    """What was written where."""


def main(argv: list[str]) -> int:
    """Read, arrange, write."""
    arguments = parse(Arguments, argv, verb="report", examples=_EXAMPLES)
    if not arguments.results:
        raise ConfigError("which results? give folders of vla eval --out, or files of its --json")
    from vla.core.files import write_atomic
    from vla.report.evaluation.tables import evaluation_tables

    results = load_results(arguments.results)
    tables = evaluation_tables(results)
    if arguments.out:
        write_page(arguments.out, results, title=arguments.title, clips=arguments.clips)
        console().print(f"page: {arguments.out}", markup=False)
    if arguments.markdown:
        write_atomic(arguments.markdown, tables.encode())
        console().print(f"tables: {arguments.markdown}", markup=False)
    if not (arguments.out or arguments.markdown):
        console().print(tables, markup=False)
    paths = {"page": arguments.out, "markdown": arguments.markdown}
    write_result(arguments.json, {key: str(path) for key, path in paths.items() if path})
    return 0


def load_results(paths: "Sequence[Path]") -> "list[Loaded]":
    """Results from their folders or files, called as these are."""
    from vla.evaluation.folder import read_result
    from vla.report.evaluation.facts import Loaded

    return [Loaded(name=str(path), result=read_result(path)) for path in paths]


def write_page(out: Path, results: "Sequence[Loaded]", *, title: str, clips: int) -> None:
    """One page; with learning curves and videos where the policy that it is about has them beside its result."""
    from vla.core.files import write_atomic
    from vla.evaluation.folder import EPISODES
    from vla.report.evaluation.clips import record_clips
    from vla.report.evaluation.facts import subject
    from vla.report.evaluation.page import render_evaluations
    from vla.report.evaluation.training import training_of

    main = subject(results)
    training, recorded = None, []
    if main is not None:
        training = training_of(main.result)
        if (Path(main.name) / EPISODES).is_file():
            try:
                recorded = record_clips(main.result, Path(main.name), clips)
            except VlaError as error:  # other versions, or an environment that is not installed here
                console().print(f"no videos: {error}", style="dim", markup=False)
    page = render_evaluations(results, title=title, training=training, clips=recorded)
    write_atomic(out, page.encode())
