"""``vla recommend``: which kind of multimodal model a task wants."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from vla.cli.command import console, parse, write_result
from vla.core.errors import ConfigError, VlaError
from vla.paradigms.framework import CHAIN, PARADIGMS, QUESTIONS, Asked
from vla.paradigms.recommending import NEITHER, Recommendation, check_answers, recommend

if TYPE_CHECKING:
    from vla.paradigms.recommending import Applied

_ABOUT = """Say which kind of multimodal model a task wants, every reason, and what was measured of that kind here.

Without an answer the questions are asked one by one."""
_EXAMPLES = """  vla recommend
  vla recommend --makes actions --joins spatial composition
  vla recommend --makes matches --catalogue millions --latency strict --json recommended.json"""


def _arguments() -> Any:
    """One option for each question."""
    options: list[tuple[str, Any, Any]] = []
    for name, asked in QUESTIONS.items():
        one: Any = Literal[tuple(asked.choices)]
        told = f"{asked.text} {'; '.join(f'{key}: {said}' for key, said in asked.choices.items())}"
        kind = tuple[one, ...] if asked.several else one | None
        options.append((name, Annotated[kind, tyro.conf.arg(help=told)], field(default=() if asked.several else None)))
    written = tyro.conf.arg(help="Write the recommendation to this file too.")
    options.append(("json", Annotated[Path | None, written], field(default=None)))
    return make_dataclass("Arguments", options, frozen=True, kw_only=True, namespace={"__doc__": _ABOUT})


def main(argv: list[str]) -> int:
    """Ask what is not said, weigh, print."""
    arguments: Any = parse(_arguments(), argv, verb="recommend", examples=_EXAMPLES)
    said = {name: getattr(arguments, name) for name in QUESTIONS}
    answers = {name: (value,) if isinstance(value, str) else tuple(value or ()) for name, value in said.items()}
    if not any(answers.values()):
        if not sys.stdin.isatty():
            raise ConfigError("nothing is said of the task; answer with options such as --makes actions")
        answers = {name: _ask(name, asked) for name, asked in QUESTIONS.items()}
    found = recommend(answers)
    _show(found)
    write_result(arguments.json, {"answers": {k: list(v) for k, v in answers.items() if v}, **found.to_json()})
    return 0


def _ask(name: str, asked: Asked) -> tuple[str, ...]:
    """Ask at the terminal until the answer is one; nothing means that nobody knows."""
    console().print(f"\n[bold]{asked.text}[/bold]" + (" [dim]several, with spaces[/dim]" if asked.several else ""))
    for choice, told in asked.choices.items():
        console().print(f"  {choice:<15} {told}", markup=False)
    while True:
        given = tuple(input("> ").split())
        try:
            check_answers({name: given})
        except VlaError as error:
            console().print(str(error), style="red", markup=False)
        else:
            return given


def _show(found: Recommendation) -> None:
    out = console()
    style = f", as in {found.style.capitalize()}" if found.style else ""
    title = "no multimodal model" if found.paradigm == NEITHER else PARADIGMS[found.paradigm] + style
    out.print(f"[bold]{title}[/bold]")
    _list("because", found.reasons)
    _list("against it", found.against)
    for name in PARADIGMS:
        others = [one for one in found.others if one.reason.about == name]
        _list(f"for {name}", [one for one in others if not one.reason.against])
        loses = f"{name} cannot" if name in found.excluded else f"against {name}"
        _list(loses, [one for one in others if one.reason.against])
    if found.paradigm == NEITHER:
        return
    out.print("\n[bold]commonly said of it[/bold]")
    _table(found.said)
    out.print("\n[bold]measured here[/bold]")
    if found.measured is None:
        out.print("  not measured", style="dim")
    else:
        _table(found.measured)
    at = CHAIN.index(found.paradigm)
    if at:
        before = " and then ".join(CHAIN[:at])
        out.print(f"\n[dim]in practice it begins from {before}: each paradigm builds on the last[/dim]")


def _list(title: str, applied: "Iterable[Applied]") -> None:
    applied = list(applied)
    if applied:
        console().print(f"\n{title}", markup=False)
    for one in applied:
        console().print(f"  • {one.reason.text}", markup=False)


def _table(values: Mapping[str, Any]) -> None:
    width = max(map(len, values), default=0)
    for name, value in values.items():
        console().print(f"  {name:<{width}}  {value}", markup=False)
