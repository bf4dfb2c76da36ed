"""A model's words for pictures, and how much of them is so: the findings of one picture, the moments of a robot.

An answer is a list of entities, ``a small nodule on the left and a large mass``: what commas and *and* part.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from vla.core.types import Observation, Question
from vla.evaluation.statistics import Mean

_RESAMPLES = 1000
NOTHING = "nothing"
"""What is said where there is nothing to say: no entity."""


@runtime_checkable
class Describer(Protocol):
    """What answers a question about each observation; ``blind`` it sees none. `vla.policies.learned` is one."""

    def ask(self, seen: Sequence[Observation], questions: Sequence[str], *, blind: bool = False) -> list[str]:
        """One answer each."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What was said of a moment, and what is so where somebody knows."""

    question: Question
    """Its answer is empty where nobody does."""
    said: str


@dataclass(frozen=True, kw_only=True)
class Score:
    """Entities that were said, were so, and both, over all statements; F1 with its interval."""

    said: int
    true: int
    right: int
    f1: Mean


def describe(
    describer: Describer, asked: Iterable[tuple[Observation, Question]], *, blind: bool = False, batch: int = 50
) -> list[Statement]:
    """Put each question to its moment."""
    asked = list(asked)
    found = []
    for start in range(0, len(asked), batch):
        seen, questions = zip(*asked[start : start + batch], strict=True)
        said = describer.ask(seen, [question.text for question in questions], blind=blind)
        found += [Statement(question=q, said=answer) for q, answer in zip(questions, said, strict=True)]
    return found


def entities(text: str) -> Counter[str]:
    """What an answer names, each as often as it does."""
    parts = (" ".join(part.split()) for part in re.split(r",|;|\band\b", text.lower()))
    return Counter(part for part in parts if part and part != NOTHING)


def entity_f1(statements: Sequence[Statement], *, seed: int = 0) -> Score:
    """Micro F1 of entities over all statements; the interval is a bootstrap over statements, which are drawn again.

    Where nothing is said and nothing is so, F1 is 1.
    """
    counts = np.array([_counts(one) for one in statements], np.int64).reshape(-1, 3)  # (b, 3)
    rng = np.random.default_rng(seed)
    drawn = counts[rng.integers(0, max(1, len(counts)), (_RESAMPLES, len(counts)))].sum(axis=1)
    low, high = np.percentile(_f1(drawn), (2.5, 97.5)) if len(counts) else (0.0, 1.0)
    said, true, right = counts.sum(axis=0).tolist()
    mean = float(_f1(counts.sum(axis=0)[None])[0])
    return Score(said=said, true=true, right=right, f1=Mean(mean=mean, low=float(low), high=float(high)))


def _counts(one: Statement) -> tuple[int, int, int]:
    said, true = entities(one.said), entities(one.question.answer)
    return said.total(), true.total(), (said & true).total()


def _f1(counts: np.ndarray) -> np.ndarray:
    """Of rows (said, true, right)."""
    said, true, right = counts.T
    whole = said + true
    f1: np.ndarray = np.where(whole > 0, 2 * right / np.maximum(whole, 1), 1.0)
    return f1
