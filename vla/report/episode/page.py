"""One episode as one HTML file: cameras, every dimension and events on one time axis, and no request to anywhere."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from vla.core.contract import Contract, Dimension
from vla.core.types import Episode
from vla.report.episode.frames import Film, make_films, require_fit
from vla.report.episode.timing import Timing, measure, runs
from vla.report.template import render

Kind = Literal["state", "action", "executed", "other"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve of a panel."""

    kind: Kind
    values: Float32[np.ndarray, " t"]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small plot: what the robot was told and what it did, of one dimension."""

    name: str
    unit: str
    lines: tuple[Line, ...]
    low: float | None = None
    high: float | None = None


def render_episode_page(
    episode: Episode, contract: Contract, *, title: str, facts: Mapping[str, str], findings: Sequence[str] = ()
) -> str:
    """The page; ``facts`` are listed under its origin, ``findings`` stand on top of it as sentences."""
    require_fit(episode, contract)
    films, every = make_films(episode, contract)
    timing = measure(episode.time_ns, contract.control_hz)
    groups = [group for group in _groups(episode, contract, timing) if group["panels"]]
    points = _points(episode, contract)
    kinds = {line.kind for group in groups for panel in group["panels"] for line in panel.lines}
    view = {
        "title": title,
        "episode": episode,
        "contract": contract,
        "facts": facts,
        "provenance": list(_flat(episode.provenance)),
        "findings": [*findings, *timing.findings],
        "films": films,
        "every": every,
        "captions": {film.camera.name: _caption(film) for film in films},
        "timing": timing,
        "groups": groups,
        "kinds": kinds,
        "has_points": bool(points),
        "events": _events(episode, timing),
        "data": {
            "time_s": _base64(timing.time_s, "<f8"),
            "end_s": timing.end_s,
            "every": every,
            "films": [_film(film, episode) for film in films],
            "panels": [_panel(panel) for group in groups for panel in group["panels"]],
            "points": points,
            "breaks": [int(step) + 1 for step in timing.gaps],
            "invalid": [list(run) for run in runs(~episode.valid)],
            "done": np.flatnonzero(episode.done).tolist(),
            "rewards": np.flatnonzero(episode.reward > 0).tolist(),
        },
    }
    return render("episode/page.html.j2", view)


def _groups(episode: Episode, contract: Contract, timing: Timing) -> list[dict[str, Any]]:
    motion = _motion(episode, contract)
    if (episode.reward != 0).any():
        motion.append(Panel(name="reward", unit="", lines=(Line(kind="other", values=episode.reward),)))
    return [
        {"title": "State and action", "open": True, "panels": motion},
        {"title": "Timing", "open": timing.uneven, "panels": _timing_panels(episode, timing)},
        *(
            {"title": f"Signal {name}", "open": False, "panels": _signal_panels(dimensions, episode.signals[name])}
            for name, dimensions in contract.signals.items()
        ),
    ]


def _signal_panels(dimensions: Sequence[Dimension], values: np.ndarray) -> list[Panel]:
    return [
        Panel(name=d.name, unit=_unit(d), lines=(Line(kind="other", values=values[:, i]),), **_limits(d))
        for i, d in enumerate(dimensions)
    ]


def _motion(episode: Episode, contract: Contract) -> list[Panel]:
    """One panel for each dimension; a state and an action of the same name and unit share theirs."""
    actions = {(d.name, d.unit): i for i, d in enumerate(contract.action)}
    panels = []
    for i, dimension in enumerate(contract.state):
        lines = [Line(kind="state", values=episode.state[:, i])]
        column = actions.pop((dimension.name, dimension.unit), None)
        if column is not None:
            lines += _action_lines(episode, column)
        panels.append(Panel(name=dimension.name, unit=_unit(dimension), lines=tuple(lines), **_limits(dimension)))
    for column in actions.values():
        dimension = contract.action[column]
        lines = _action_lines(episode, column)
        panels.append(Panel(name=dimension.name, unit=_unit(dimension), lines=tuple(lines), **_limits(dimension)))
    return panels


def _action_lines(episode: Episode, column: int) -> list[Line]:
    """The label, and what was sent where that differs at any step."""
    label, sent = episode.action[:, column], episode.action_executed[:, column]
    lines = [Line(kind="action", values=label)]
    return lines if np.array_equal(label, sent) else [*lines, Line(kind="executed", values=sent)]


def _timing_panels(episode: Episode, timing: Timing) -> list[Panel]:
    panels = []
    if timing.uneven:
        interval_ms = np.diff(episode.time_ns, prepend=episode.time_ns[:1] - timing.typical_ns) / 1e6
        interval = Line(kind="other", values=interval_ms.astype(np.float32))
        panels.append(Panel(name="interval before the step", unit="ms", lines=(interval,)))
    delay_ms = (episode.command_time_ns - episode.time_ns) / 1e6
    if delay_ms.any():
        delay = Line(kind="other", values=delay_ms.astype(np.float32))
        panels.append(Panel(name="command after the step", unit="ms", lines=(delay,)))
    return panels


def _events(episode: Episode, timing: Timing) -> list[dict[str, str]]:
    """What the time strip marks: kind, words and number."""
    invalid = int((~episode.valid).sum())
    rewarded, done = np.flatnonzero(episode.reward > 0), np.flatnonzero(episode.done)
    events = []
    if invalid:
        events.append({"kind": "invalid", "text": f"not to learn from: {_count(invalid, 'step')}"})
    if len(rewarded):
        where = f"step {rewarded[0]}" if len(rewarded) == 1 else _count(len(rewarded), "step")
        events.append({"kind": "reward", "text": f"reward > 0: {where}"})
    if len(done):
        where = f"step {done[0]}" if len(done) == 1 else _count(len(done), "step")
        events.append({"kind": "done", "text": f"done: {where}"})
    if len(timing.gaps):
        longest_s = float(timing.gap_s.max())
        events.append({"kind": "gap", "text": f"{_count(len(timing.gaps), 'time gap')}, the longest {longest_s:.3g} s"})
    return events


def _points(episode: Episode, contract: Contract) -> list[dict[str, Any]]:
    """Signals that are given in images: ``camera.thing.row`` and ``.column``, to be drawn on that camera."""
    columns = {
        d.name: episode.signals[name][:, i]
        for name, signal in contract.signals.items()
        for i, d in enumerate(signal)
        if d.unit == "image"
    }
    points = []
    for camera in contract.cameras:
        for name, row in columns.items():
            thing = name.removeprefix(f"{camera.name}.").removesuffix(".row")
            column = columns.get(f"{camera.name}.{thing}.column")
            if name == f"{camera.name}.{thing}.row" and column is not None:
                values = {"row": _base64(row, "<f4"), "column": _base64(column, "<f4")}
                points.append({"camera": camera.name, "thing": thing, **values})
    return points


def _film(film: Film, episode: Episode) -> dict[str, Any]:
    return {
        "name": film.camera.name,
        "mime": film.mime,
        "of_step": _base64(film.of_step, "<i4"),
        "age_ms": _base64((episode.time_ns - film.time_ns[film.of_step]) / 1e6, "<f4"),
        "colours": [list(colour) for colour in film.colours],
        "near_m": film.near_m,
        "far_m": film.far_m,
        "pictures": [base64.b64encode(picture).decode() for picture in film.pictures],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    lines = [{"kind": line.kind, "values": _base64(line.values, "<f4")} for line in panel.lines]
    return {"lines": lines, "low": panel.low, "high": panel.high}


def _caption(film: Film) -> str:
    camera = film.camera
    parts = [f"{camera.width}×{camera.height}"]
    if (film.width, film.height) != (camera.width, camera.height):
        parts.append(f"shown at {film.width}×{film.height}")
    if camera.hz is not None:
        parts.append(f"{camera.hz:g} Hz, own clock")
    return ", ".join(parts)


def _limits(dimension: Dimension) -> dict[str, float]:
    """Only limits that say something."""
    finite = np.isfinite([dimension.low, dimension.high]).all() and dimension.low < dimension.high
    return {"low": dimension.low, "high": dimension.high} if finite else {}


def _unit(dimension: Dimension) -> str:
    return "" if dimension.unit == "1" else dimension.unit


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _base64(values: np.ndarray | Float64[np.ndarray, " t"], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested JSON as rows of dotted names and values."""
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{name}.")
        elif isinstance(item, list | tuple):
            yield name, ", ".join(map(str, item)) or "–"
        else:
            yield name, "–" if item is None or item == {} else str(item)
