"""Numbers as people read them, the same on the page and in Markdown."""

from collections.abc import Mapping
from typing import Any

GAP = "\u202f"
"""The narrow space between a number and its unit, where no line breaks."""


def percent(rate: float | int) -> str:
    """``87 %``; only nothing and everything are ``0 %`` and ``100 %``."""
    text = f"{rate * 100:.0f}"
    if text in ("0", "100") and 0 < rate < 1:
        text = f"{min(99.9, max(0.1, rate * 100)):.1f}"
    return f"{text}{GAP}%"


def interval(success: Mapping[str, Any]) -> str:
    """``81–91 %`` for a success rate's 95 % interval."""
    return f"{percent(success['low']).removesuffix(GAP + '%')}–{percent(success['high'])}"


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
