"""Numbers as people read them, the same on the page and in Markdown."""

from collections.abc import Mapping

from vla.evaluation.statistics import Difference, SuccessRate

GAP = "\u202f"
"""The narrow space between a number and its unit, where no line breaks."""


def percent(rate: float | int) -> str:
    """``87 %``; only nothing and everything are ``0 %`` and ``100 %``."""
    text = f"{rate * 100:.0f}"
    if text in ("0", "100") and 0 < rate < 1:
        text = f"{min(99.9, max(0.1, rate * 100)):.1f}"
    return f"{text}{GAP}%"


def interval(success: SuccessRate) -> str:
    """``81–91 %`` for a success rate's 95 % interval."""
    return f"{percent(success.low).removesuffix(GAP + '%')}–{percent(success.high)}"


def points(difference: float) -> str:
    """A difference of rates in percentage points, with its sign and a true minus."""
    text = f"{100 * difference:+.0f}"
    return "0" if text in ("+0", "-0") else text.replace("-", "−")


def points_interval(gap: Difference) -> str:
    """``−3 to +12`` for its 95 % interval."""
    return f"{points(gap.low)} to {points(gap.high)}"


def p_value(p: float) -> str:
    """``0.03``, ``< 0.0001``."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def number(value: float | None, pattern: str = "%.1f") -> str:
    """By a pattern, or a dash where there is none."""
    return "–" if value is None else pattern % value


def measurement(name: str, value: float | None) -> str:
    """A metric by its name, which ends with its unit: ``distance_m`` in millimetres, one without a unit as a share."""
    if value is None:
        return "–"
    for suffix, (scale, unit) in _UNITS.items():
        if name.endswith(suffix):
            return f"{value * scale:.3g}{GAP}{unit}"
    return f"{value:.3g}"


_UNITS: Mapping[str, tuple[float, str]] = {"_m": (1e3, "mm"), "_rad": (1.0, "rad"), "_s": (1.0, "s"), "_n": (1.0, "N")}


def duration(seconds: float | int) -> str:
    """``42 s``, ``2 min 11 s`` or ``1 h 05 min``."""
    whole = round(seconds)
    if seconds < 10:
        return f"{seconds:.1f}{GAP}s"
    if whole < 60:
        return f"{whole}{GAP}s"
    if whole < 3600:
        return f"{whole // 60}{GAP}min {whole % 60:02d}{GAP}s"
    return f"{whole // 3600}{GAP}h {whole % 3600 // 60:02d}{GAP}min"


def count(number: float | int) -> str:
    """``63,210`` for numbers of things, ``1.9 M`` from a million on."""
    if number >= 1e6:
        return f"{number / 1e6:.3g}{GAP}M" if number < 1e9 else f"{number / 1e9:.3g}{GAP}B"
    return f"{number:,.0f}"
