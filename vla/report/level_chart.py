"""Success rates against the level of a disturbance, with their intervals, as SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter

from vla.report.charts import COLOURS, chart_axes, chart_svg

_STYLES = ("accent", "second", "muted", "ink")


def level_chart(
    name: str, curves: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], *, unit: str, description: str
) -> str | None:
    """One line for each named curve of ``{"level", "success"}`` points; None without any."""
    if not curves:
        return None
    with chart_axes(name) as (figure, axes):
        for number, (label, points) in enumerate(curves):
            colour = COLOURS[_STYLES[number % len(_STYLES)]]
            levels = [point["level"] for point in points]
            low, rate, high = ([100 * point["success"][key] for point in points] for key in ("low", "rate", "high"))
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
    import math

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
