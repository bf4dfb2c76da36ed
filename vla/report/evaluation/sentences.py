"""What results of ``vla eval`` say, in plain sentences: the same on the page, in Markdown and in the terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vla.evaluation.conditions import ExecutionRate, LanguageGap
from vla.evaluation.result import ComparisonResult, EvaluationResult
from vla.evaluation.rows import ResultRow, task_rows
from vla.evaluation.sequential import SequentialVerdict
from vla.evaluation.statistics import SuccessRate, success_rate
from vla.evaluation.suites import SuiteScore
from vla.report.evaluation.facts import (
    Loaded,
    chance,
    comparisons,
    condition_name,
    count_tasks,
    evaluations,
    full_name,
    policy_name,
    subject,
)
from vla.report.numbers import GAP, interval, percent

_NAMED = 3
_WORDS = "of a perfect arm that ignores the words"


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The number that a page is about, where there is one, and the sentence below it."""

    success: SuccessRate | None = None
    subject: str = ""
    sentence: str


def headline(results: Sequence[Loaded]) -> Headline:
    """What comes first."""
    compared, main = comparisons(results), subject(results)
    if main is not None:
        who = f"{main.policy} in {count_tasks(task_rows(main.result.rows))}"
        return Headline(success=main.result.success, subject=who, sentence=verdict(main.result))
    if len(compared) == 1:
        return Headline(sentence=comparison_sentence(compared[0]))
    found = list(evaluations(results))
    names = sorted({one.policy for one in found})
    envs = sorted({row.condition.env for one in found for row in task_rows(one.result.rows)})
    policies = ", ".join(names) if len(names) <= 4 else f"{len(names)} policies"
    return Headline(sentence=f"{policies} in {envs[0] if len(envs) == 1 else f'{len(envs)} tasks'}.")


def verdict(result: EvaluationResult) -> str:
    """One plain sentence on the success rate, on what chance alone would reach, and on what the words change."""
    success = result.success
    start = f"The policy does what it is told in {percent(success.rate)} of {success.episodes} episodes"
    return start + _against_chance(result) + _language(result.language, success) + "."


def _against_chance(result: EvaluationResult) -> str:
    tasks = task_rows(result.rows)
    floor = chance(tasks[0].condition) if len(tasks) == 1 else None
    if floor is None:
        return ""
    if result.success.low > floor:
        return f", above the {percent(floor)} {_WORDS}"
    if result.success.high < floor:
        return f", below the {percent(floor)} {_WORDS}"
    return f", which the interval does not separate from the {percent(floor)} {_WORDS}"


def _language(gaps: Sequence[LanguageGap], right: SuccessRate) -> str:
    rates = {
        language: _together([gap.success for gap in gaps if gap.condition.language == language])
        for language in ("paraphrase", "blank", "wrong")
    }
    other, blank, said = rates.values()
    unsaid = _together([gap.success_unsaid for gap in gaps if gap.success_unsaid is not None])
    tests, passed = [], []
    if other.episodes:
        tests.append(f"with other words it succeeds in {percent(other.rate)}")
    if blank.episodes:
        passed.append(blank.high < right.low)
        tests.append(f"without an instruction it succeeds in {percent(blank.rate)}")
    if said.episodes:
        passed.append(said.low > unsaid.high)
        tests.append(
            f"given another goal of the same scene it reaches that one in {percent(said.rate)} "
            f"and the unnamed one in {percent(unsaid.rate)}"
        )
    if not tests:
        return ""
    if not passed:
        how = ", and "
    elif all(passed):
        how = ", and it listens: "
    elif any(passed):
        how = ", and the language test is mixed: "
    else:
        how = ", and the language test does not show that it listens: "
    return how + (f"{', '.join(tests[:-1])}, and " if len(tests) > 1 else "") + tests[-1]


def comparison_sentence(result: ComparisonResult) -> str:
    """Which of two policies is better, how sure that is, and how it was found out."""
    a, b = policy_name(result.a.policy), policy_name(result.b.policy)
    if a == b:
        a, b = f"{a} (A)", f"{b} (B)"
    if result.sequential:
        return sequential_sentence(result.sequential, a, b)
    rows = result.rows
    sure = [row for row in rows if row.p_adjusted < 0.05]
    if len(rows) == 1:
        pair = rows[0].paired
        rates = f"{percent(pair.a.rate)} and {percent(pair.b.rate)} of {pair.a.episodes} same scenes"
        if not sure:
            return f"{a} and {b} succeed in {rates}: no difference that chance would not explain."
        better, worse = (a, b) if pair.gap.difference > 0 else (b, a)
        return f"{better} is better than {worse}: {a} and {b} succeed in {rates}."
    better_a = sum(row.paired.gap.difference > 0 for row in sure)
    return (
        f"In {len(rows)} comparisons, {a} is better in {better_a} and {b} in {len(sure) - better_a}; "
        f"in {len(rows) - len(sure)} chance explains the difference."
    )


def sequential_sentence(test: SequentialVerdict, a: str, b: str) -> str:
    """The verdict of a sequential test."""
    after = f"after {test.scenes} of at most {test.most_scenes} scenes"
    if test.better is None:
        why = ": those left could not have decided" if test.why == "hopeless" else ""
        return f"No difference between {a} and {b} was shown {after}{why}."
    better, worse = (a, b) if test.better == "a" else (b, a)
    told, won = test.only_a + test.only_b, test.only_a if test.better == "a" else test.only_b
    return (
        f"{better} is better than {worse}: decided {after}, with an error of at most {percent(test.alpha)}. "
        f"Of {told} scenes in which one of them succeeded alone, it won {won}."
    )


def evidence_sentence(test: SequentialVerdict) -> str:
    """The numbers behind it."""
    return (
        f"E = {test.e_value:.3g}, p = {test.p_value:.2g} at any time. Of the scenes in which one succeeds alone, A "
        f"wins {percent(test.share_low)} to {percent(test.share_high)}, {percent(1 - test.alpha)} at all times "
        "together."
    )


def execution_sentence(executions: Sequence[ExecutionRate]) -> str:
    """Which way to execute chunks is best, how sure that is, and where to say so."""
    best, *others = executions
    says = f"--model.execute {best.execution.execute}" if best.execution.execute else "--model.execute HORIZON"
    alike = [one for one in others if one.success.high >= best.success.rate]
    several = "others are" if len(alike) > 1 else "other is"
    sure = f", and {len(alike)} {several} not clearly behind" if alike else ""
    return (
        f"Best: {best.execution}, {success_words(best.success)}{sure}. In a recipe: {says} "
        f"--model.ensemble {best.execution.ensemble:g}"
    )


def success_words(success: SuccessRate) -> str:
    """``87 % (87 of 100 episodes, 95 % interval 79–92 %)``."""
    count = f"{success.successes} of {success.episodes} episodes"
    return f"{percent(success.rate)} ({count}, 95{GAP}% interval {interval(success)})"


def suite_sentence(score: SuiteScore) -> str:
    """A published score."""
    groups = ", ".join(f"{group} {rate:.1%}" for group, rate in score.groups.items())
    return f"{score.suite}: {score.mean:.1%}, the mean of its groups ({groups})"


def troubles(results: Sequence[Loaded]) -> Iterator[str]:
    """What did not go as it should, apart from failing: a sentence for each policy and kind."""
    for one in evaluations(results):
        who, rows = one.policy, one.result.rows
        crashed = [row for row in rows if row.crashes]
        failed = [row for row in rows if row.failures]
        clipped = sum(row.clipped_steps for row in rows)
        if crashed:
            count = sum(row.crashes for row in crashed)
            yield (
                f"{who}: {_times(count, 'episode')} crashed in the simulator and {'does' if count == 1 else 'do'} "
                f"not count. The first, in {crashed[0].condition.env}: {crashed[0].crash}"
            )
        if failed:
            count = sum(row.failures for row in failed)
            yield (
                f"{who}: {_times(count, 'episode')} ended because the policy broke down, a failure. "
                f"The first, in {failed[0].condition.env}: {failed[0].failure}"
            )
        if clipped:
            share = percent(clipped / max(1, sum(row.steps for row in rows)))
            where = f": {_clipped_where(rows)}" if len(rows) > 1 else ""
            yield (
                f"{who}: {_times(clipped, 'command')} ({share}) outside the limits of the contract, clipped to them"
                f"{where}."
            )
        yield from one.result.overlaps
        for reason in one.result.refused:
            yield f"Left out: {reason}"


def _clipped_where(rows: Sequence[ResultRow]) -> str:
    """The conditions with most of them, by name, and how many there are in each."""
    ordered = sorted((row for row in rows if row.clipped_steps), key=lambda row: -row.clipped_steps)
    alike = len({row.condition.env for row in rows}) == 1
    named = ordered[:_NAMED]
    parts = []
    for row in named:
        name = (condition_name(row.condition) or "right instruction") if alike else full_name(row.condition)
        share = percent(row.clipped_steps / max(1, row.steps))
        parts.append(f"{row.clipped_steps:,} under {name} ({share} of its commands)")
    rest = ordered[_NAMED:]
    if rest:
        parts.append(f"{sum(row.clipped_steps for row in rest):,} under {_times(len(rest), 'other condition')}")
    return "; ".join(parts)


def _together(rates: Sequence[SuccessRate]) -> SuccessRate:
    return success_rate(sum(r.successes for r in rates), sum(r.episodes for r in rates))


def _times(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
