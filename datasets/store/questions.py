"""Questions as rows of ``episodes.json``: [step, kind, text, answer], and what signals say of it where they do."""

import math
from typing import Any

from vla.core.sealed import DamageError, table
from vla.core.types import Question

_MOST = 2**63
"""Beyond any step: it would not fit into a column."""


def row_of(question: Question) -> list[Any]:
    """What `question_of` reads; JSON has no NaN, so null is what is not known."""
    row: list[Any] = [question.step, question.kind, question.text, question.answer]
    if question.signals:
        row.append({name: [None if math.isnan(v) else v for v in part] for name, part in question.signals.items()})
    return row


def question_of(row: list[Any]) -> Question:
    """Of a row that is right."""
    step, kind, text, answer, *rest = row
    said = rest[0] if rest else {}
    signals = {name: tuple(math.nan if v is None else float(v) for v in part) for name, part in said.items()}
    return Question(step=step, kind=kind, text=text, answer=answer, signals=signals)


def check_row(value: object, name: str) -> None:
    """`DamageError` for what is no such row."""
    row = value if isinstance(value, list) else []
    if list(map(type, row[:4])) != [int, str, str, str] or not 0 <= row[0] < _MOST or len(row) > 5:
        raise DamageError(f"{name}: expected [step, kind, text, answer], got {str(value)[:40]!r}")
    for signal, values in table(row[4], name).items() if len(row) == 5 else ():
        if not isinstance(values, list) or not all(v is None or type(v) in (int, float) for v in values):
            raise DamageError(f"{name}: signal {signal[:40]!r}: expected numbers or null, got {str(values)[:40]!r}")
