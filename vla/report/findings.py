"""What the facts of a report say: the verdict, how episodes ended, and success by goal."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vla.envs.tabletop.scene.mjcf import PLATE_RADIUS_M
from vla.report.numbers import percent

Facts = Mapping[str, Any]

CHANCE = {"tabletop/place": 0.25}
"""Success of a perfect arm that ignores the words, by environment: two blocks and two plates make four goals."""
OUTCOMES: dict[str, str] = {
    "success": "success",
    "unfinished": "on the plate, but not released or not at rest",
    "misplaced": "grasped, not placed",
    "ungrasped": "never grasped",
    "crash": "crashed",
}
"""How an episode can end, best first: key and words."""
_GOAL = re.compile(r"(\w+) block → (\w+) plate")
SAID, UNSAID = "wrong instruction: what was said", "wrong instruction: what was not said"


@dataclass(frozen=True, kw_only=True)
class GoalGrid:
    """Success of each goal; a cell without episodes is absent."""

    blocks: tuple[str, ...]
    plates: tuple[str, ...]
    cells: Mapping[tuple[str, str], Mapping[str, Any]]


def main_row(facts: Facts) -> Mapping[str, Any] | None:
    """The row that the report is about: the policy's, else the first."""
    rows: Sequence[Mapping[str, Any]] = facts.get("rows") or []
    return next((row for row in rows if row["name"] == "policy"), rows[0] if rows else None)


def chance(facts: Facts) -> float | None:
    """The success rate without language: ``facts["chance"]`` where that is given, None where it is not known."""
    value = facts.get("chance", CHANCE.get(facts["title"]))
    return None if value is None else float(value)


def verdict(facts: Facts) -> str:
    """One plain sentence on the success rate and on what the words change."""
    main, success = main_row(facts), facts["success"]
    subject = f"The {main['name']}" if main else "The policy"
    start = f"{subject} does what it is told in {percent(success['rate'])} of {success['episodes']} episodes"
    floor = chance(facts)
    if floor is None:
        against = ""
    elif success["low"] > floor:
        against = f", above the {percent(floor)} of a perfect arm that ignores the words"
    elif success["high"] < floor:
        against = f", below the {percent(floor)} of a perfect arm that ignores the words"
    else:
        against = (
            f", which the interval does not separate from the {percent(floor)} of a perfect arm that ignores the words"
        )
    return start + against + _language(facts) + "."


def _language(facts: Facts) -> str:
    rows = {row["name"]: row["success"] for row in facts.get("rows") or []}
    said, unsaid, blank = rows.get(SAID), rows.get(UNSAID), rows.get("blank instruction")
    tests, passed = [], []
    if blank:
        passed.append(blank["high"] < facts["success"]["low"])
        tests.append(f"without an instruction it succeeds in {percent(blank['rate'])}")
    if said and unsaid:
        passed.append(said["low"] > unsaid["high"])
        tests.append(
            f"given another goal of the same scene it reaches that one in {percent(said['rate'])} "
            f"and the unnamed one in {percent(unsaid['rate'])}"
        )
    if not tests:
        return ""
    if all(passed):
        how = ", and it listens: "
    elif any(passed):
        how = ", and the language test is mixed: "
    else:
        how = ", and the language test does not show that it listens: "
    return how + ", and ".join(tests)


def outcome(episode: Mapping[str, Any]) -> str:
    """A key of `OUTCOMES` for one `EpisodeResult` as JSON."""
    if episode.get("crash") is not None:
        return "crash"
    if episode["success"]:
        return "success"
    metrics = episode.get("metrics", {})
    if not metrics.get("grasped"):
        return "ungrasped"
    distance_m = metrics.get("distance_m")
    # The same bound as in PlaceEnv.reached: the block's centre 1 cm inside the plate.
    return "unfinished" if distance_m is not None and distance_m < PLATE_RADIUS_M - 0.01 else "misplaced"


def outcomes(facts: Facts) -> dict[str, dict[str, int]]:
    """How many episodes of each condition ended how; a condition that does not say where the block was is absent."""
    counts = {}
    for condition, episodes in (facts.get("episodes") or {}).items():
        ends = [outcome(episode) for episode in episodes]
        if any(_finite(episode.get("metrics", {}).get("distance_m")) for episode in episodes):
            counts[condition] = {key: ends.count(key) for key in OUTCOMES}
    return counts


def goal_grid(facts: Facts) -> GoalGrid | None:
    """Block colours against plate colours, or None where the instructions are not of that kind."""
    cells = {}
    for entry in facts.get("instructions") or []:
        match = _GOAL.fullmatch(entry["instruction"])
        if match is None:
            return None
        cells[match[1], match[2]] = entry["success"]
    if not cells:
        return None
    return GoalGrid(
        blocks=tuple(sorted({block for block, _ in cells})),
        plates=tuple(sorted({plate for _, plate in cells})),
        cells=cells,
    )


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
