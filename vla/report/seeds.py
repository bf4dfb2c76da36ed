"""The curves of several seeds as one picture: what they have in common, and how far apart they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vla.core.files import write_atomic
from vla.report.charts import COLOURS, chart_panels, chart_svg, short_number, smoothed
from vla.training.metrics import read_metrics

PICTURE = "seeds.svg"
_POINTS = 200
_MOST_PANELS = 4
_PAPER = {"ink": "#1b1c1e", "muted": "#65686d", "rule": "#dfdfda", "accent": "#22577a", "second": "#c8691c"}
"""The colours of the pages by day: a picture that stands alone has no page to take them from."""

Curve = tuple[Float64[np.ndarray, " _"], Float64[np.ndarray, " _"]]
"""Steps and values."""


def write_picture(group: Path, runs: Sequence[Path]) -> Path | None:
    """Draw the losses of the action while training, and what was held out; None where no run has a line of either."""
    lines = [read_metrics(run) for run in runs]
    panels = [
        (title, curves)
        for title, kind, name in _titles(lines)
        if (curves := [c for own in lines if (c := _curve(own, kind, name)) is not None])
    ][:_MOST_PANELS]
    if not panels:
        return None
    with chart_panels("seeds", len(panels)) as (figure, every):
        for axes, (title, curves) in zip(every, panels, strict=True):
            _draw(axes, title, curves)
        svg = chart_svg(figure, f"Curves of {len(runs)} seeds: mean, and the band from the least to the most")
    for name, colour in _PAPER.items():
        svg = svg.replace(f"var(--{name})", colour)
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" ', 1)
    svg = svg.replace(">", '><rect width="100%" height="100%" fill="#fdfdfb"/>', 1)
    write_atomic(group / PICTURE, svg.encode())
    return group / PICTURE


def _titles(lines: Sequence[Sequence[dict[str, Any]]]) -> list[tuple[str, str, str]]:
    """Title, kind of line and metric of each panel: the action's loss, then the errors of first frames."""
    held_out = dict.fromkeys(name for own in lines for line in own if line["kind"] == "validation" for name in line)
    errors = [name for name in held_out if name.startswith("first_frame_")]
    return [
        ("action loss, training", "train", "action_loss"),
        ("action loss, held out", "validation", "action_loss"),
        ("success beside the training", "closed_loop", "success"),
        *((f"{name.replace('_', ' ')}, held out", "validation", name) for name in errors),
    ]


def _curve(lines: Sequence[dict[str, Any]], kind: str, name: str) -> Curve | None:
    points = [(line["step"], line[name]) for line in lines if line["kind"] == kind and name in line]
    if not points:
        return None
    steps, values = np.array(points, np.float64).T
    return steps, smoothed(values)


def _draw(axes: Axes, title: str, curves: Sequence[Curve]) -> None:
    """Each curve faintly, their mean, and the band between the least and the most, where all of them are."""
    for steps, values in curves:
        alone = "o" if len(steps) == 1 else ""
        axes.plot(steps, values, color=COLOURS["accent"], lw=0.7, alpha=0.35, marker=alone, ms=3.2)
    start, stop = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    if stop >= start:
        # Runs are validated by the clock, so each at other steps: between its own a curve is straight.
        grid = np.linspace(start, stop, _POINTS)
        every = np.stack([np.interp(grid, steps, values) for steps, values in curves])
        axes.fill_between(grid, every.min(axis=0), every.max(axis=0), color=COLOURS["accent"], alpha=0.15, lw=0)
        axes.plot(grid, every.mean(axis=0), color=COLOURS["accent"], lw=1.5)
    axes.set_title(title, fontsize=8.5, loc="left", color=COLOURS["ink"])
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
