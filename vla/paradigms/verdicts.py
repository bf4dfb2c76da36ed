"""What is commonly said of the paradigms beside what was measured: each cell of the table has a rule, and no opinion.

A paradigm is judged by the contestant of it that succeeds most often. A rule looks at intervals: where they do not
tell, the verdict is that they do not. Spatial reasoning and compositionality are what an embedder tells by likeness and
an answering model by its answers; the two are not the same test, so ``Best`` is asked of those alone that answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vla.evaluation.statistics import SuccessRate
from vla.paradigms.framework import COMPARISON, FUSION, PARADIGMS, TWO_TOWER, UNIFIED
from vla.paradigms.measuring import Measurement
from vla.report.numbers import count, duration, interval, percent

Verdict = Literal["holds", "does not hold", "not told apart", "not measured"]
Field = Mapping[str, Measurement]
"""Who stands for each paradigm; those that nobody stands for are missing."""
WEAK = 0.75
"""Below this share of right answers is weak, above is good."""
WORKS = 0.60
"""A policy that succeeds more often works."""
EXTREME = 3.0
"""Times the training time of the cheapest, from which it is extreme; below, it is moderate."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How one cell is judged."""

    test: str
    """In words."""
    judge: Callable[[Field], tuple[str, Verdict]]
    """What was measured, and the verdict."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the comparison, judged."""

    dimension: str
    paradigm: str
    said: str
    test: str
    measured: str
    verdict: Verdict


def standing(found: Sequence[Measurement]) -> dict[str, Measurement]:
    """Who stands for each paradigm: of its contestants the one with the most successes, the first of equals."""
    own = {name: [one for one in found if one.paradigm == name] for name in PARADIGMS}
    return {name: max(those, key=lambda one: one.success.rate) for name, those in own.items() if those}


def judged(field: Field) -> Iterator[Cell]:
    """Every cell of `COMPARISON`."""
    for dimension, cells in COMPARISON.items():
        for paradigm, said in cells.items():
            rule = RULES.get((dimension, paradigm), _UNMEASURED)
            measured, verdict = rule.judge(field) if paradigm in field else ("", "not measured")
            yield Cell(
                dimension=dimension, paradigm=paradigm, said=said, test=rule.test, measured=measured, verdict=verdict
            )


def _share(rate: SuccessRate) -> str:
    return f"{percent(rate.rate)} ({interval(rate)})"


def _over(rate: SuccessRate | None, bar: float, *, above: bool) -> tuple[str, Verdict]:
    """Whether an interval lies on one side of a bar."""
    if rate is None:
        return "", "not measured"
    if rate.low <= bar <= rate.high:
        return _share(rate), "not told apart"
    return _share(rate), "holds" if (rate.low > bar) == above else "does not hold"


def _probe(kind: str, paradigm: str, *, above: bool) -> Rule:
    side = "above" if above else "below"

    def judge(field: Field) -> tuple[str, Verdict]:
        return _over(field[paradigm].probes.get(kind), WEAK, above=above)

    return Rule(test=f"probes of {kind} answered right: {side} {percent(WEAK)}", judge=judge)


def _best(kind: str) -> Rule:
    def judge(field: Field) -> tuple[str, Verdict]:
        rates = {n: m.probes[kind] for n, m in field.items() if kind in m.probes and m.probed_by == "answers"}
        return _first(rates, UNIFIED)

    return Rule(test=f"probes of {kind}: more right than any other that answers", judge=judge)


def _first(rates: Mapping[str, SuccessRate], name: str) -> tuple[str, Verdict]:
    """Whether the interval of ``name`` lies above all others."""
    if name not in rates or len(rates) < 2:
        return _share(rates[name]) if name in rates else "", "not measured"
    others = [rate for other, rate in rates.items() if other != name]
    told = ", ".join(f"{other} {_share(rate)}" for other, rate in rates.items())
    if rates[name].low > max(rate.high for rate in others):
        return told, "holds"
    return told, "does not hold" if rates[name].high < max(rate.low for rate in others) else "not told apart"


def _data(paradigm: str, needed: float) -> Rule:
    """Does not hold where it works with fewer."""

    def judge(field: Field) -> tuple[str, Verdict]:
        own = field[paradigm]
        told, works = _over(own.success, WORKS, above=True)
        told = f"{count(own.samples)} samples: success {told}"
        if own.samples >= needed or works == "not told apart":
            return told, "not told apart"
        return told, "does not hold" if works == "holds" else "holds"

    return Rule(test=f"with fewer than {count(needed)} samples it does not succeed in {percent(WORKS)}", judge=judge)


def _sub_ms(field: Field) -> tuple[str, Verdict]:
    found = field[TWO_TOWER].retrieval
    if found is None:
        return "", "not measured"
    told = f"{found.query_ms:.2f} ms a query among {count(found.items)}, comparing with all"
    return told, "holds" if found.query_ms < 1 else "does not hold"


def _no_retrieval(paradigm: str) -> Rule:
    def judge(field: Field) -> tuple[str, Verdict]:
        found = field[paradigm].retrieval
        told = "embeds nothing" if found is None else f"{found.query_ms:.2f} ms a query"
        return told, "holds" if found is None else "does not hold"

    return Rule(test="it has no vectors that could be kept", judge=judge)


def _writes_nothing(field: Field) -> tuple[str, Verdict]:
    writes = field[TWO_TOWER].writes
    return f"writes {' and '.join(writes) or 'nothing'}", "does not hold" if writes else "holds"


def _good_text(field: Field) -> tuple[str, Verdict]:
    """Of all probes together, seeing and blind."""
    own = field[FUSION]
    seeing, blind = _pooled(own.probes), _pooled(own.blind)
    if own.probed_by != "answers" or seeing is None or blind is None:
        return "", "not measured"
    told = f"{_share(seeing)} answered right, without pictures {_share(blind)}"
    if seeing.low > max(WEAK, blind.high):
        return told, "holds"
    return told, "does not hold" if seeing.high < WEAK or seeing.high < blind.low else "not told apart"


def _any_to_any(field: Field) -> tuple[str, Verdict]:
    answering = {n: r for n, m in field.items() if m.probed_by == "answers" and (r := _pooled(m.probes))}
    told, verdict = _first(answering, UNIFIED)
    writes = field[UNIFIED].writes
    told = "; ".join(part for part in (told, f"writes {' and '.join((*writes, 'actions'))}") if part)
    if not {"answer", "goal"} <= set(writes) and verdict == "holds":
        return told, "does not hold"
    return told, verdict


def _pooled(found: Mapping[str, SuccessRate]) -> SuccessRate | None:
    from vla.evaluation.statistics import success_rate

    if not found:
        return None
    return success_rate(sum(r.successes for r in found.values()), sum(r.episodes for r in found.values()))


def _cost(paradigm: str, said: str) -> Rule:
    """By the training time of the same number of samples, what is taken for granted left out."""

    def judge(field: Field) -> tuple[str, Verdict]:
        own, others = field[paradigm].training_s, [m.training_s for n, m in field.items() if n != paradigm]
        told = f"{duration(own)}, {percent(field[paradigm].trainable / field[paradigm].parameters)} of it trained"
        if not others:
            return told, "not measured"
        least = min(own, *others)
        holds = {
            "least": own <= min(others),
            "moderate": own < EXTREME * least,
            "extreme": own >= EXTREME * least,
        }[said]
        return told, "holds" if holds else "does not hold"

    words = {"least": "the least", "moderate": f"under {EXTREME:g} times the least", "extreme": f"{EXTREME:g} times"}
    words["extreme"] += " the least or more"
    return Rule(test=f"training time: {words[said]}", judge=judge)


def _only_retrieval(field: Field) -> tuple[str, Verdict]:
    able = [name for name, one in field.items() if one.retrieval is not None]
    return f"{' and '.join(able) or 'nobody'} can retrieve", "holds" if able == [TWO_TOWER] else "does not hold"


def _best_answers(field: Field) -> tuple[str, Verdict]:
    answering = {n: r for n, m in field.items() if m.probed_by == "answers" and (r := _pooled(m.probes))}
    return _first(answering, FUSION)


def _best_success(field: Field) -> tuple[str, Verdict]:
    return _first({name: one.success for name, one in field.items()}, UNIFIED)


_UNMEASURED = Rule(test="a property, not a measurement", judge=lambda field: ("", "not measured"))
RULES: dict[tuple[str, str], Rule] = {
    ("Training data needed", TWO_TOWER): _data(TWO_TOWER, 400e6),
    ("Training data needed", FUSION): _data(FUSION, 600e3),
    ("Training data needed", UNIFIED): _data(UNIFIED, 1e9),
    ("Retrieval speed", TWO_TOWER): Rule(test="a query among embedded pictures takes under 1 ms", judge=_sub_ms),
    ("Retrieval speed", FUSION): _no_retrieval(FUSION),
    ("Retrieval speed", UNIFIED): _no_retrieval(UNIFIED),
    ("Generation quality", TWO_TOWER): Rule(test="it writes nothing beside actions", judge=_writes_nothing),
    ("Generation quality", FUSION): Rule(
        test=f"answers right above {percent(WEAK)}, and above those without pictures", judge=_good_text
    ),
    ("Generation quality", UNIFIED): Rule(
        test="more answers right than any other, and pictures written too", judge=_any_to_any
    ),
    ("Spatial reasoning", TWO_TOWER): _probe("side", TWO_TOWER, above=False),
    ("Spatial reasoning", FUSION): _probe("side", FUSION, above=True),
    ("Spatial reasoning", UNIFIED): _best("side"),
    ("Compositionality", TWO_TOWER): _probe("binding", TWO_TOWER, above=False),
    ("Compositionality", FUSION): _probe("binding", FUSION, above=True),
    ("Compositionality", UNIFIED): _best("binding"),
    ("Training cost", TWO_TOWER): _cost(TWO_TOWER, "moderate"),
    ("Training cost", FUSION): _cost(FUSION, "least"),
    ("Training cost", UNIFIED): _cost(UNIFIED, "extreme"),
    ("Best for", TWO_TOWER): Rule(test="it alone retrieves", judge=_only_retrieval),
    ("Best for", FUSION): Rule(test="more answers right than any other that answers", judge=_best_answers),
    ("Best for", UNIFIED): Rule(test="more success than any other", judge=_best_success),
}
"""By dimension and paradigm; what is not here says what a thing is, and no measurement could tell."""


def paragraph(cells: Sequence[Cell]) -> str:
    """Where the words hold and where not."""
    by: dict[str, list[str]] = {}
    for cell in cells:
        by.setdefault(cell.verdict, []).append(f"{cell.dimension.lower()} of {cell.paradigm} (“{cell.said}”)")
    told = len(cells) - len(by.get("not measured", ()))
    parts = [f"Of {len(cells)} cells {told} were measured."]
    for verdict, words in (
        ("holds", "As it is said: {}."),
        ("does not hold", "Otherwise than it is said: {}."),
        ("not told apart", "Not told apart by these numbers: {}."),
    ):
        if by.get(verdict):
            parts.append(words.format("; ".join(by[verdict])))
    return " ".join(parts)
