"""``vla report``: results as one page and one table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.errors import ConfigError

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
    json: Path | None = None
    """What was written where."""


def main(argv: list[str]) -> int:
    """Read, arrange, write."""
    arguments = parse(Arguments, argv, verb="report", examples=_EXAMPLES)
    if not arguments.results:
        raise ConfigError("which results? give folders of vla eval --out, or files of its --json")
    from vla.core.files import write_atomic
    from vla.evaluation.folder import read_result
    from vla.report.evaluation.facts import Loaded
    from vla.report.evaluation.tables import evaluation_tables

    results = [Loaded(name=str(path), value=read_result(path)) for path in arguments.results]
    tables = evaluation_tables(results)
    if arguments.out:
        from vla.report.evaluation.page import render_evaluations

        write_atomic(arguments.out, render_evaluations(results, title=arguments.title).encode())
        console().print(f"page: {arguments.out}", markup=False)
    if arguments.markdown:
        write_atomic(arguments.markdown, tables.encode())
        console().print(f"tables: {arguments.markdown}", markup=False)
    if not (arguments.out or arguments.markdown):
        console().print(tables, markup=False)
    paths = {"page": arguments.out, "markdown": arguments.markdown}
    write_result(arguments.json, {key: str(path) for key, path in paths.items() if path})
    return 0
