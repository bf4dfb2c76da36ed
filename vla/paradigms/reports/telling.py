"""An incident in words: what went wrong by the first rule that applies, then one sentence for each fact."""

from collections.abc import Callable, Iterator

from vla.paradigms.reports.incident import Incident
from vla.report import numbers

_NEAR_M = 0.03
"""Nearer than this the tool was at a thing."""
_NEVER_WENT = 0.12


def _named(incident: Incident) -> set[str]:
    return {approach.thing for approach in incident.approaches}


def _touched(incident: Incident, *, named: bool) -> list[str]:
    return [touch.thing for touch in incident.touches if touch.named == named]


def _let_go(incident: Incident) -> list[str]:
    return [t.thing for t in incident.touches if t.named and t.held and t.thing != incident.held_at_end]


RULES: dict[str, tuple[Callable[[Incident], bool], str]] = {
    "success": (lambda i: i.outcome == "success", "it did what was said"),
    "crash": (lambda i: i.outcome == "crash", "the simulator broke down, which is no fault of the policy"),
    "broke": (lambda i: i.outcome == "broke", "the policy broke down"),
    "unknown": (lambda i: not i.replayed, "it did not reach the goal; the record holds no actions to see why"),
    "nothing seen": (lambda i: i.path_m is None, "it did not reach the goal"),
    "never moved": (lambda i: (i.path_m or 0) < 0.02, "the arm hardly moved"),
    "wrong thing": (
        lambda i: bool(_touched(i, named=False)) and not _touched(i, named=True),
        "it went for something that was not named",
    ),
    "not reached": (
        lambda i: bool(i.approaches) and min(a.distance_m for a in i.approaches) > _NEVER_WENT,
        "it never came near what was named",
    ),
    "missed": (
        lambda i: bool(_named(i)) and not _touched(i, named=True),
        "it came near what was named and never touched it",
    ),
    "not grasped": (
        lambda i: not any(t.held for t in i.touches) and bool(_touched(i, named=True)),
        "it touched what was named and never held it",
    ),
    "still holding": (lambda i: bool(i.held_at_end), "it still held what it had taken when time was up"),
    "dropped": (lambda i: bool(_let_go(i)), "it let go of what it had taken, elsewhere than it was to be"),
    "other": (lambda i: True, "it did not reach the goal in time"),
}
"""What went wrong, the first rule that applies; each is a test of the facts and words for it."""


def cause(incident: Incident) -> str:
    """The key of the rule of `RULES` that applies first."""
    return next(name for name, (applies, _) in RULES.items() if applies(incident))


def sentences(incident: Incident) -> Iterator[str]:
    """The report: headline, then facts."""
    said = f"“{incident.said}”" if incident.said else "nothing"
    yield f"{RULES[cause(incident)][1].capitalize()}.{f' {incident.why}.' if incident.why else ''}"
    other = f" ({incident.language} instruction)" if incident.language != "right" else ""
    yield f"The policy was told {said}{other} in {incident.env}, scene {incident.seed}; the goal was {incident.goal}."
    if incident.split:
        yield f"Scene and words are of split {incident.split}."
    if incident.perturbation:
        disturbed = ", ".join(f"{name}={value}" for name, value in incident.perturbation.items())
        yield f"Between the simulator and the policy stood {disturbed}; what follows is what was so."
    yield _course(incident)
    yield from _way(incident)
    yield from _things(incident)
    if incident.still_from is not None:
        still = incident.steps - incident.still_from
        yield f"From step {incident.still_from} to the end, {_steps(still)}, it stood still."
    for limit in incident.limits:
        yield f"{limit.name} was commanded to its {limit.end} limit in {_steps(limit.steps)}."
    if incident.clipped:
        yield f"{_steps(incident.clipped).capitalize()} asked for more than the limits allow and were clipped."
    for name, value in incident.metrics.items():
        yield f"At the end {name} was {numbers.measurement(name, value)}."


def _course(incident: Incident) -> str:
    lasted = _steps(incident.steps)
    if incident.control_hz:
        lasted += f", {numbers.duration(incident.steps / incident.control_hz)}"
    best = f", best {numbers.percent(incident.best_progress)}"
    best += f" at step {incident.best_step}" if incident.best_step is not None else ""
    return f"It ran for {lasted}; progress was {numbers.percent(incident.progress)} at the end{best}."


def _way(incident: Incident) -> Iterator[str]:
    if incident.path_m is not None:
        yield f"The tool travelled {incident.path_m:.2f} m."
    for approach in incident.approaches:
        near = "was at" if approach.distance_m < _NEAR_M else "came no nearer than"
        way = "" if approach.distance_m < _NEAR_M else f" {_mm(approach.distance_m)} to"
        yield f"It {near}{way} {approach.thing} at step {approach.step}."


def _things(incident: Incident) -> Iterator[str]:
    for touch in incident.touches:
        unnamed = "" if touch.named else ", which was not named,"
        held = f" and held it for {_steps(touch.held)}" if touch.held else " and never held it"
        yield f"It touched {touch.thing}{unnamed} from step {touch.first} to {touch.last}{held}."
    if incident.replayed and incident.path_m is not None and not incident.touches:
        yield "It touched nothing."
    for moved in incident.moved:
        beside = f", {_mm(moved.beside_m)} from {moved.beside}" if moved.beside else ""
        unnamed = "" if moved.named else ", which was not named,"
        yield f"{moved.thing.capitalize()}{unnamed} was moved by {_mm(moved.distance_m)} and ended{beside or ' there'}."
    if incident.held_at_end:
        yield f"At the end it held {incident.held_at_end}."


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"


def _mm(metres: float) -> str:
    return f"{metres * 1e3:.0f}{numbers.GAP}mm"
