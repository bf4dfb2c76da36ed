"""What the framework says of a task: the paradigm, every reason that applied, what speaks against, what was found."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.paradigms.framework import (
    ANY,
    COMPARISON,
    FLAMINGO,
    FUSION,
    LLAVA,
    PARADIGMS,
    QUESTIONS,
    REASONS,
    WEIGHTS,
    Reason,
)

Answers = Mapping[str, Sequence[str]]
"""By question; a question that is not there was not answered."""
MEASURED = Path(__file__).with_name("measured.json")
"""What `vla compare` measured here, by paradigm; see `vla.paradigms.comparing`."""
NEITHER = "none"
"""No multimodal model is wanted."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A reason that followed from the answers."""

    section: str
    reason: Reason

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return {"section": self.section, "about": self.reason.about, "text": self.reason.text}


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The paradigm for a task, and why."""

    paradigm: str
    """One of `PARADIGMS`, or `NEITHER`."""
    style: str
    """Of fusion: flamingo or llava; empty for the others."""
    reasons: tuple[Applied, ...]
    """For it, and for a multimodal model at all."""
    against: tuple[Applied, ...]
    """What speaks against it."""
    others: tuple[Applied, ...]
    """For and against the paradigms that were not chosen."""
    scores: dict[str, float]
    excluded: tuple[str, ...]
    """Paradigms that cannot do the task."""
    said: dict[str, str]
    """Its column of the comparison."""
    measured: dict[str, Any] | None
    """Its row of what was measured in this repository; None where nothing was."""

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` writes it."""
        lists = {name: [one.to_json() for one in getattr(self, name)] for name in ("reasons", "against", "others")}
        plain = {name: getattr(self, name) for name in ("paradigm", "style", "scores", "said", "measured")}
        return plain | lists | {"excluded": list(self.excluded)}


def recommend(answers: Answers, measured: Path = MEASURED) -> Recommendation:
    """Weigh every reason that applies.

    A paradigm's score is the weight of what speaks for it less that of what speaks against it; one that cannot do the
    task is out, unless all of them are. Of equal ones the one that costs least is taken.
    """
    check_answers(answers)
    applied = [Applied(section=s, reason=r) for s, found in REASONS.items() for r in found if r.applies(answers)]
    if not any(answers.values()):
        raise ConfigError("nothing is known of the task; answer at least one question")
    wanted = [one for one in applied if one.section == "signals"]
    scores = {name: _score(applied, name) for name in PARADIGMS}
    excluded = {one.reason.about for one in applied if one.reason.excludes}
    able = [name for name in PARADIGMS if name not in excluded] or list(PARADIGMS)
    chosen = max(able, key=lambda name: scores[name])  # the first of equals
    if wanted and all(one.reason.against for one in wanted):
        chosen = NEITHER
    style = _style(applied) if chosen == FUSION else ""
    about = [one for one in applied if one.reason.about in (chosen, ANY, *([style] if style else []))]
    rest = [one for one in applied if one.reason.about in PARADIGMS and one.reason.about != chosen]
    # What speaks against multimodal models speaks for none of them.
    against = [one for one in about if one.reason.against != (chosen == NEITHER)]
    return Recommendation(
        paradigm=chosen,
        style=style,
        reasons=tuple(one for one in about if one not in against),
        against=tuple(against),
        others=tuple(rest),
        scores=scores,
        excluded=tuple(name for name in PARADIGMS if name in excluded),
        said={title: cells[chosen] for title, cells in COMPARISON.items() if chosen in cells},
        measured=read_measured(measured).get(chosen),
    )


def check_answers(answers: Answers) -> None:
    """Refuse questions and answers that no table knows, and several answers where one is wanted."""
    for name, given in answers.items():
        question = lookup("question", name, QUESTIONS)
        for answer in given:
            lookup(f"answer to {name!r}", answer, question.choices)
        if len(given) > 1 and not question.several:
            raise ConfigError(f"{name}={', '.join(given)}: expected one answer, got {len(given)}")


def read_measured(path: Path = MEASURED) -> dict[str, dict[str, Any]]:
    """Rows by paradigm, as `vla compare --measured` wrote them; empty where nothing was measured yet."""
    if not path.exists():
        return {}
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text())["paradigms"]
    return rows


def _score(applied: Sequence[Applied], name: str) -> float:
    own = [one for one in applied if one.reason.about == name]
    return sum((WEIGHTS[one.section] * (-1 if one.reason.against else 1) for one in own), start=0.0)


def _style(applied: Sequence[Applied]) -> str:
    """The simpler one, unless more speaks for the other."""
    return FLAMINGO if _score(applied, FLAMINGO) > _score(applied, LLAVA) else LLAVA
