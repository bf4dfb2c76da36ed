"""Charts as inline SVG that takes its fonts and colours from the page around it."""

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from vla.evaluation.conditions import Level

# Stand-ins that are replaced by the CSS variable of the same name, so that one chart serves light and dark.
COLOURS = {"ink": "#010101", "muted": "#020202", "rule": "#030303", "accent": "#040404", "second": "#050505"}
SIZE_INCH = (3.7, 2.35)
_STYLES = ("accent", "second", "muted", "ink")
_SMOOTH_FROM = 40
"""Points from which a line is drawn as its running mean over a faint original."""

_FEWEST_TICKS = 3
"""Numbers on an axis, below which nobody can read a value off it."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve."""

    label: str
    x: Float64[np.ndarray, " t"]
    y: Float64[np.ndarray, " t"]
    colour: Literal["ink", "muted", "accent", "second"]
    dots: bool = False
    """Few measurements: each is marked, and no mean is drawn."""


def series(
    points: Sequence[Mapping[str, Any]], key: str, *, label: str, colour: Any, dots: bool = False
) -> Series | None:
    """The values of ``key`` by step, without those that are missing or not finite; None if there are none."""
    found = [(p["step"], p[key]) for p in points if p.get(key) is not None and np.isfinite(p[key])]
    if not found:
        return None
    x, y = np.array(found, np.float64).T
    return Series(label=label, x=x, y=y, colour=colour, dots=dots)


def line_chart(
    name: str, curves: Sequence[Series | None], *, description: str, log: bool = False, zero: bool = False
) -> str | None:
    """Curves by training step as SVG, or None without any; ``zero`` begins the axis at 0."""
    drawn = [curve for curve in curves if curve is not None]
    if not drawn:
        return None
    with chart_axes(name) as (figure, axes):
        for curve in drawn:
            _draw(axes, curve)
        if log and any((curve.y > 0).any() for curve in drawn):
            _log_scale(axes)
        axes.set_xlabel("training step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(short_number))
        if zero:
            axes.set_ylim(0, 1.12 * max(float(curve.y.max()) for curve in drawn))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlim(0, max(float(curve.x.max()) for curve in drawn) * 1.02 or 1)
        if len(drawn) > 1:
            axes.legend(loc="best", frameon=False, handlelength=1.2, borderaxespad=0.2)
        return chart_svg(figure, description)


def length_chart(name: str, succeeded: Sequence[int], failed: Sequence[int], *, description: str) -> str | None:
    """How many steps episodes took, successes and failures stacked, as SVG."""
    if not (succeeded or failed):
        return None
    longest = max([*succeeded, *failed])
    width = max(1, -(-longest // 20))
    bins = np.arange(0, longest + 2 * width, width) + 0.5
    with chart_axes(name) as (figure, axes):
        axes.hist(
            [succeeded, failed],
            bins=bins.tolist(),
            stacked=True,
            rwidth=0.86,
            color=[COLOURS["accent"], COLOURS["second"]],
            label=["success", "failure"],
        )
        axes.set_xlabel("steps")
        axes.set_ylabel("episodes")
        axes.set_xlim(0, bins[-1])
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.legend(loc="best", frameon=False, handlelength=0.8, handleheight=0.8, borderaxespad=0.2)
        return chart_svg(figure, description)


def level_chart(name: str, curves: Sequence[tuple[str, Sequence[Level]]], *, unit: str, description: str) -> str | None:
    """Success by the level of a disturbance with 95 % intervals, one line for each named curve; None without any."""
    if not curves:
        return None
    with chart_axes(name) as (figure, axes):
        for number, (label, points) in enumerate(curves):
            colour = COLOURS[_STYLES[number % len(_STYLES)]]
            levels = [point.level for point in points]
            low, rate, high = ([100 * getattr(p.success, key) for p in points] for key in ("low", "rate", "high"))
            axes.fill_between(levels, low, high, color=colour, alpha=0.13, lw=0)
            axes.plot(levels, rate, color=colour, lw=1.5, marker="o", ms=3.4, label=label, clip_on=False)
        axes.set_ylim(0, 102)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
        axes.set_xlim(left=0)
        axes.set_xlabel(unit)
        if len(curves) > 1:
            axes.legend(loc="best", frameon=False, handlelength=1.2, borderaxespad=0.2)
        return chart_svg(figure, description)


def evidence_chart(name: str, log10_e: Sequence[float], *, alpha: float, description: str) -> str | None:
    """How the evidence of a sequential test grew from scene to scene, and the bound that decides."""
    if not log10_e:
        return None
    bound = -math.log10(alpha)
    with chart_axes(name) as (figure, axes):
        axes.axhline(bound, color=COLOURS["second"], lw=1.0, ls=(0, (4, 3)))
        axes.text(0, bound, f" decided: E = {1 / alpha:g}", va="bottom", ha="left", color=COLOURS["second"])
        axes.plot(range(len(log10_e) + 1), [0.0, *log10_e], color=COLOURS["accent"], lw=1.5, drawstyle="steps-post")
        axes.set_xlim(0, max(2, len(log10_e)))
        low, high = min(-0.5, *log10_e), max(bound, *log10_e)
        axes.set_ylim(low - 0.1, high + 0.12 * (high - low))
        ticks = [t for t in range(math.floor(low), math.ceil(high) + 1) if low - 0.1 <= t]
        axes.set_yticks(ticks[:: max(1, len(ticks) // 5)])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:g}"))
        axes.set_xlabel("scenes")
        axes.set_ylabel("evidence E")
        return chart_svg(figure, description)


def _draw(axes: Axes, curve: Series) -> None:
    colour = COLOURS[curve.colour]
    if curve.dots:
        axes.plot(curve.x, curve.y, color=colour, lw=1.0, marker="o", ms=3.2, label=curve.label)
    elif len(curve.x) < _SMOOTH_FROM:
        axes.plot(curve.x, curve.y, color=colour, lw=1.5, label=curve.label)
    else:
        axes.plot(curve.x, curve.y, color=colour, lw=0.7, alpha=0.3)
        axes.plot(curve.x, smoothed(curve.y), color=colour, lw=1.5, label=curve.label)


def smoothed(y: Float64[np.ndarray, " t"]) -> Float64[np.ndarray, " t"]:
    """The running mean of a curve that has points enough for one; a shorter one as it is."""
    return y if len(y) < _SMOOTH_FROM else _running_mean(y)


def _running_mean(y: Float64[np.ndarray, " t"]) -> Float64[np.ndarray, " t"]:
    """The mean of the neighbours, as many on the left as on the right, so that the ends are not bent."""
    reach = max(1, len(y) // 40)
    sums = np.concatenate([[0.0], y.cumsum()])
    index = np.arange(len(y))
    side = np.minimum(reach, np.minimum(index, len(y) - 1 - index))
    means: np.ndarray = (sums[index + side + 1] - sums[index - side]) / (2 * side + 1)
    return means


def _log_scale(axes: Axes) -> None:
    """Powers of ten, with twos and fives between them where those are few, and even steps where there are none."""
    axes.set_yscale("log", nonpositive="mask")
    low, high = axes.get_ylim()
    for locator in (LogLocator(10), LogLocator(10, subs=(1, 2, 5)), MaxNLocator(4)):
        if sum(low <= tick <= high for tick in locator.tick_values(low, high)) >= _FEWEST_TICKS:
            break
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def short_number(value: float, _: int | None) -> str:
    """``12k`` for 12,000: what stands on an axis."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


@contextmanager
def chart_axes(name: str) -> Iterator[tuple[Figure, Axes]]:
    """One figure in the page's manner; ``name`` keeps the identifiers of its SVG apart from the other charts'."""
    with chart_panels(name, 1) as (figure, (axes,)):
        yield figure, axes


@contextmanager
def chart_panels(name: str, count: int) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """The same with ``count`` charts side by side."""
    style: Any = {
        "svg.fonttype": "none",  # letters stay letters, set in the page's own font
        "svg.hashsalt": name,
        "font.size": 8.5,
        "text.color": COLOURS["ink"],
        "axes.edgecolor": COLOURS["rule"],
        "axes.labelcolor": COLOURS["muted"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": COLOURS["rule"],
        "grid.linewidth": 0.6,
        "xtick.color": COLOURS["rule"],
        "ytick.color": COLOURS["rule"],
        "xtick.labelcolor": COLOURS["muted"],
        "ytick.labelcolor": COLOURS["muted"],
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "legend.fontsize": 8.5,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(count * SIZE_INCH[0], SIZE_INCH[1]), layout="constrained")
        yield figure, [figure.add_subplot(1, count, i + 1) for i in range(count)]


def chart_svg(figure: Figure, description: str) -> str:
    """The figure as an SVG element for HTML: no namespaces, metadata, global styles or needless identifiers."""
    file = io.StringIO()
    metadata = {"Creator": None, "Date": None, "Format": None, "Type": None}
    figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace("xlink:href", "href")
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for name, stand_in in COLOURS.items():
        text = text.replace(stand_in, f"var(--{name})")
    box = re.search(r'viewBox="[^"]*"', text)
    assert box, "matplotlib writes a viewBox"
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(r"^<svg[^>]*>", f'<svg {box[0]} role="img" aria-label="{label}">', text).strip()
