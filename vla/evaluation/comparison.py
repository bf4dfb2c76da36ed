"""Two sets of episodes on the same scenes: who succeeded where, and whether chance explains the difference."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vla.core.errors import VlaError
from vla.evaluation.statistics import PairedCounts, holm, mcnemar, mean_interval, paired_difference, success_rate

Row = Mapping[str, Any]
"""A summary of one condition, as `results.rows_of` gives it."""
_SAME = ("env", "split", "language", "perturbation")


def compare_episodes(a: Sequence[Row], b: Sequence[Row]) -> dict[str, Any]:
    """Rates, their paired difference with a 95 % interval, exact McNemar test, and the seeds that flipped.

    Only scenes on which both ran without a crash count; how many were left out is told.
    """
    first, second = ({episode["seed"]: episode for episode in episodes} for episodes in (a, b))
    shared = sorted(first.keys() & second.keys())
    pairs = [(s, first[s], second[s]) for s in shared if first[s]["crash"] is None and second[s]["crash"] is None]
    only_a = [seed for seed, x, y in pairs if x["success"] and not y["success"]]
    only_b = [seed for seed, x, y in pairs if y["success"] and not x["success"]]
    both = sum(x["success"] and y["success"] for _, x, y in pairs)
    counts = PairedCounts(
        both=both, only_a=len(only_a), only_b=len(only_b), neither=len(pairs) - both - len(only_a) - len(only_b)
    )
    return {
        "a": asdict(success_rate(both + len(only_a), len(pairs))),
        "b": asdict(success_rate(both + len(only_b), len(pairs))),
        "counts": asdict(counts),
        **paired_difference(counts),
        "p_value": mcnemar(len(only_a), len(only_b)),
        "progress_difference": _mean_difference([x["progress"] - y["progress"] for _, x, y in pairs]),
        "only_a": only_a,
        "only_b": only_b,
        "unpaired": len(first.keys() ^ second.keys()),
        "crashed": len(shared) - len(pairs),
    }


def compare_rows(a: Sequence[Row], b: Sequence[Row]) -> list[dict[str, Any]]:
    """The comparison of each condition that both have, with p-values adjusted for their number."""
    others = {_key(row): row for row in b}
    rows = [
        {name: row[name] for name in _SAME} | compare_episodes(row["episodes"], others[_key(row)]["episodes"])
        for row in a
        if _key(row) in others
    ]
    adjusted = holm([row["p_value"] for row in rows])
    return [{**row, "p_adjusted": p} for row, p in zip(rows, adjusted, strict=True)]


def require_same_scenes(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Refuse to compare two results that did not run on the same scenes; says every difference."""
    lines = list(_differences(a, b))
    if lines:
        raise VlaError(
            f"these results are not of the same scenes: {'; '.join(lines[:6])}"
            f"{f'; and {len(lines) - 6} more' if len(lines) > 6 else ''}. "
            "Evaluate both with the same --env, --split, --set, --seed and --episodes"
        )


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    ours, theirs = ({_key(row): row for row in value["rows"]} for value in (a, b))
    for key in sorted(ours.keys() ^ theirs.keys()):
        yield f"only {'A' if key in ours else 'B'} has {key}"
    if a["config"]["settings"] != b["config"]["settings"]:
        yield f"settings {a['config']['settings']} ≠ {b['config']['settings']}"
    for env in a["environments"].keys() & b["environments"].keys():
        digests = [value["environments"][env]["contract"] for value in (a, b)]
        if digests[0] != digests[1]:
            yield f"contract of {env} {digests[0]} ≠ {digests[1]}"
    for key in sorted(ours.keys() & theirs.keys()):
        first, second = ({e["seed"]: e for e in rows[key]["episodes"]} for rows in (ours, theirs))
        if not first.keys() & second.keys():
            yield f"{key}: no seed in common"
        for seed in sorted(first.keys() & second.keys()):
            x, y = first[seed], second[seed]
            # Two versions of an environment may lay out other scenes from the same seed: the goal tells.
            if x["crash"] is None and y["crash"] is None and x["goal"] != y["goal"]:
                yield f"{key}, seed {seed}: goal {x['goal']!r} ≠ {y['goal']!r}"


def _key(row: Row) -> str:
    split, language = row["split"] or "default split", row["language"]
    disturbed = "".join(f", {k}={v}" for k, v in sorted(row["perturbation"].items()))
    return f"{row['env']} ({split}, {language} instruction{disturbed})"


def _mean_difference(values: Sequence[float]) -> dict[str, float] | None:
    """Mean of what lies between -1 and 1 with a 95 % normal interval."""
    scaled = mean_interval([(1 + value) / 2 for value in values])
    return scaled and {k: float(np.clip(2 * v - 1, -1, 1)) for k, v in scaled.items()}
