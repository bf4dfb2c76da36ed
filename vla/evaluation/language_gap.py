"""Whether a policy listens: what other words than the right ones do to its success on the same scenes."""

from collections.abc import Sequence
from typing import Any

from vla.evaluation.comparison import Row, compare_episodes


def language_gaps(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each environment and split, the success under each instruction and how far it stays behind the right one.

    The gap is the paired difference on the same seeds, right less other, with its 95 % interval and McNemar's test. A
    policy that listens has gaps near 1 for blank instructions where words are needed, near 0 for paraphrases; with a
    wrong one it does what was said (``success``), not what would have been right (``success_unsaid``).
    """
    plain = [row for row in rows if not row["perturbation"]]
    gaps = []
    for right in (row for row in plain if row["language"] == "right"):
        others = [row for row in plain if _same(row, right) and row["language"] != "right"]
        if not others:
            continue
        base = {name: right[name] for name in ("env", "policy", "split")}
        gaps.append({**base, "language": "right", "success": right["success"], "success_unsaid": None, "gap": None})
        for row in others:
            told = compare_episodes(right["episodes"], row["episodes"])
            gap = {key: told[key] for key in ("difference", "low", "high", "p_value")}
            unsaid = row["success_unsaid"] if row["language"] == "wrong" else None
            mine = {"language": row["language"], "success": row["success"], "success_unsaid": unsaid, "gap": gap}
            gaps.append(base | mine)
    return gaps


def _same(a: Row, b: Row) -> bool:
    return all(a[name] == b[name] for name in ("env", "policy", "split"))
