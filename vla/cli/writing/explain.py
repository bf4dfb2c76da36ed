"""``vla explain``: a report of one episode of an evaluation."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import console, parse, write_result

if TYPE_CHECKING:
    from vla.core.types import Observation, Question
    from vla.paradigms.reports.describing import Score, Statement
    from vla.paradigms.reports.incident import Incident, Trace

_EXAMPLES = """  vla explain runs/eval-place
  vla explain runs/eval-place --episode 17 --out incident.html
  vla explain runs/eval-place --episode 17 --checkpoint runs/modalities/checkpoint --markdown incident.md"""
_KINDS = ("scene", "hand", "place", "side")
"""Kinds of questions that a describer is asked, where the scene knows them."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Report what happened in one episode: vla explain RESULT. By default the first that failed.

    The episode is run again from its record, under the words, the split and the disturbance that it had, and every
    sentence is read off the simulator: what was said, where the arm went, what it touched and moved, when it stood
    still, which limits it was commanded to. A checkpoint that answers questions adds its own words for the pictures,
    beside what is so.
    """

    result: Annotated[Path, tyro.conf.Positional]
    """Folder of ``vla eval --out``; of the file of its ``--json``, which holds no actions, only the record is told."""
    episode: int | None = None
    """Which one, from 0, in the order of the conditions and their scenes."""
    checkpoint: Path | None = None
    """A checkpoint that answers questions about what it sees."""
    out: Path | None = None
    """The report as a page with pictures."""
    markdown: Path | None = None
    """The report as Markdown."""
    json: Path | None = None
    """The facts, and what the checkpoint said."""


def main(argv: list[str]) -> int:
    """Run again, tell, write."""
    arguments = parse(Arguments, argv, verb="explain", examples=_EXAMPLES)
    from vla.core.errors import ConfigError
    from vla.core.files import write_atomic
    from vla.paradigms.reports.incident import choose_episode, examine
    from vla.paradigms.reports.page import incident_markdown, incident_page
    from vla.paradigms.reports.telling import cause, sentences

    incident, trace = examine(*choose_episode(arguments.result, arguments.episode))
    headline, *facts = sentences(incident)
    console().print(headline, style="bold", markup=False)
    for fact in facts:
        console().print(fact, markup=False)
    statements: list[Statement] = []
    score: Score | None = None
    if arguments.checkpoint is not None:
        if trace is None:
            raise ConfigError("--checkpoint: there are no pictures of an episode without its actions; give the folder")
        statements, score = _described(arguments.checkpoint, incident, trace)
    name = str(arguments.checkpoint or "")
    if arguments.out is not None:
        page = incident_page(incident, trace, statements=statements, score=score, describer=name)
        write_atomic(arguments.out, page.encode())
    if arguments.markdown is not None:
        write_atomic(arguments.markdown, incident_markdown(incident, statements).encode())
    said = [{**asdict(one.question), "said": one.said} for one in statements]
    scored = None if score is None else asdict(score)
    value: dict[str, Any] = {**asdict(incident), "cause": cause(incident), "statements": said, "score": scored}
    write_result(arguments.json, value)
    return 0


def _described(checkpoint: Path, incident: "Incident", trace: "Trace") -> "tuple[list[Statement], Score]":
    """What a checkpoint says of the beginning, the best moment and the end."""
    from rich.table import Table

    from vla.paradigms.reports.describing import describe, entity_f1
    from vla.policies.learned import LearnedPolicy

    statements = describe(LearnedPolicy(checkpoint), _asked(incident, trace))
    table = Table("step", "question", "answer", "what is so", box=None, padding=(0, 2, 0, 0))
    for one in statements:
        table.add_row(str(one.question.step), one.question.text, one.said, one.question.answer)
    console().print(table)
    return statements, entity_f1(statements)


def _asked(incident: "Incident", trace: "Trace") -> "Iterator[tuple[Observation, Question]]":
    """Of each moment one question of each kind, with the answer that the scene knows."""
    from vla.core.types import Question

    last = len(trace.seen) - 1
    for step in sorted({0, min(incident.best_step or 0, last), last}):
        known = trace.questions[step] if trace.questions else ()
        for kind in _KINDS:
            found = next((question for question in known if question.kind == kind), None)
            if found is not None:
                yield trace.seen[step], replace(found, step=step)
        if not known:
            yield trace.seen[step], Question(kind="scene", text="what is where", answer="", step=step)
