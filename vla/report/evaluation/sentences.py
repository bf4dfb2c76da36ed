"""What results of ``vla eval`` say, in plain sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from vla.report.evaluation.facts import Loaded, Value, comparisons, count_tasks, evaluations, policy_name, task_rows
from vla.report.numbers import percent


def headline(results: Sequence[Loaded]) -> dict[str, Any]:
    """The number that the page is about, where there is one, and the sentence below it."""
    compared, found = comparisons(results), list(evaluations(results))
    if len(compared) == 1:
        return {"success": None, "subject": "", "sentence": comparison_sentence(compared[0].value)}
    if len(found) == 1:
        value = found[0].value
        return {
            "success": value["success"],
            "subject": f"{policy_name(value)} in {count_tasks(task_rows(value))}",
            "sentence": language_sentence(value["language"]),
        }
    names = sorted({policy_name(result.value) for result in found})
    envs = sorted({row["env"] for result in found for row in task_rows(result.value)})
    policies = ", ".join(names) if len(names) <= 4 else f"{len(names)} policies"
    return {"success": None, "subject": "", "sentence": f"{policies} in {_count(envs)}."}


def comparison_sentence(value: Value) -> str:
    """Which of two policies is better, how sure that is, and how it was found out."""
    a, b = policy_name(value["a"]), policy_name(value["b"])
    if a == b:
        a, b = f"{a} (A)", f"{b} (B)"
    if value["sequential"]:
        return _sequential_sentence(value["sequential"], a, b)
    rows = value["rows"]
    sure = [row for row in rows if row["p_adjusted"] < 0.05]
    if len(rows) == 1:
        row = rows[0]
        rates = f"{percent(row['a']['rate'])} and {percent(row['b']['rate'])} of {row['a']['episodes']} same scenes"
        if not sure:
            return f"{a} and {b} succeed in {rates}: no difference that chance would not explain."
        better, worse = (a, b) if row["difference"] > 0 else (b, a)
        return f"{better} is better than {worse}: {a} and {b} succeed in {rates}."
    better_a = sum(row["difference"] > 0 for row in sure)
    return (
        f"In {len(rows)} comparisons, {a} is better in {better_a} and {b} in {len(sure) - better_a}; "
        f"in {len(rows) - len(sure)} chance explains the difference."
    )


def language_sentence(gaps: Sequence[Mapping[str, Any]]) -> str:
    """Whether the policy listens, from its gaps over all tasks; empty where that was not tested."""
    parts = []
    for language, words in (("blank", "without an instruction"), ("paraphrase", "with other words")):
        rows = [row["success"] for row in gaps if row["language"] == language]
        if rows:
            rate = sum(row["successes"] for row in rows) / max(1, sum(row["episodes"] for row in rows))
            parts.append(f"{words} it succeeds in {percent(rate)}")
    wrong = [row for row in gaps if row["language"] == "wrong"]
    if wrong:
        said, unsaid = (
            sum(row[key]["successes"] for row in wrong) / max(1, sum(row[key]["episodes"] for row in wrong))
            for key in ("success", "success_unsaid")
        )
        parts.append(
            f"told another goal of the same scene it reaches that one in {percent(said)} "
            f"and the unnamed one in {percent(unsaid)}"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _sequential_sentence(test: Mapping[str, Any], a: str, b: str) -> str:
    after = f"after {test['scenes']} of at most {test['most_scenes']} scenes"
    if test["verdict"] == "undecided":
        return f"No difference between {a} and {b} was shown {after}."
    better, worse = (a, b) if test["verdict"] == "a" else (b, a)
    told, won = test["only_a"] + test["only_b"], test["only_a" if test["verdict"] == "a" else "only_b"]
    return (
        f"{better} is better than {worse}: decided {after}, with an error of at most {percent(test['alpha'])}. "
        f"Of {told} scenes in which one of them succeeded alone, it won {won}."
    )


def _count(tasks: Sequence[str]) -> str:
    return tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
