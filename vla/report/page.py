"""The report: one HTML file with its charts, film strips and videos inside, and no request to anywhere."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vla.envs.tabletop.scene.mjcf import COLOURS
from vla.report import findings, numbers
from vla.report.charts import length_chart, line_chart, series
from vla.report.template import render

Facts = Mapping[str, Any]
_UNMEASURED = {"grasped": None, "mean_steps": None, "inference_ms": None, "crashes": 0, "note": None}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One replayed episode."""

    condition: str
    """The row that it belongs to, a key of the facts' ``episodes``."""
    seed: int
    instruction: str
    success: bool
    mp4: bytes
    strip: bytes
    """A JPEG that `vla.evaluation.video.film_strip` made."""


def render_report(facts: dict[str, Any], media: Sequence[Clip]) -> str:
    """The page for these facts; parts that they lack are left out."""
    return render(
        "page.html.j2",
        _view(facts, media),
        percent=numbers.percent,
        interval=numbers.interval,
        duration=numbers.duration,
        count=numbers.count,
        outcome_words=findings.OUTCOMES,
    )


def _view(facts: Facts, media: Sequence[Clip]) -> dict[str, Any]:
    main = findings.main_row(facts)
    return {
        "title": facts["title"],
        "success": facts["success"],
        "verdict": findings.verdict(facts),
        "subject": main["name"] if main else "policy",
        "chance": findings.chance(facts),
        "rows": [{**_UNMEASURED, **row} for row in facts.get("rows") or []],
        "training": facts.get("training"),
        "curves": _training_charts(facts.get("training") or {}),
        "clips": _clips(facts, media),
        "grid": findings.goal_grid(facts),
        "instructions": facts.get("instructions") or [],
        "swatches": {
            name: "rgb({:.0f} {:.0f} {:.0f})".format(*(255 * c for c in rgb)) for name, rgb in COLOURS.items()
        },
        "outcomes": findings.outcomes(facts),
        "lengths": _length_chart(facts),
        "phases": _phases(facts),
        "provenance": _flat(facts.get("provenance") or {}),
        "config": _flat(facts.get("config") or {}),
        "reproduce": _reproduce(facts.get("provenance") or {}),
    }


def _training_charts(training: Facts) -> list[dict[str, str]]:
    curves, held_out = training.get("curves") or [], training.get("validation") or []
    loss = [
        series(curves, "action_loss", label="action, train", colour="accent"),
        series(curves, "grounding_loss", label="grounding, train", colour="muted"),
        series(held_out, "action_loss", label="action, held out", colour="second", dots=True),
    ]
    error_mm = [
        series(curves, "grounding_error_m", label="train", colour="accent", scale=1e3),
        series(held_out, "first_frame_error_m", label="held out, first frame", colour="second", scale=1e3, dots=True),
    ]
    speed = [series(curves, "samples_per_s", label="samples/s", colour="accent")]
    charts = [
        ("Loss", "log scale", line_chart("loss", loss, log=True, description="Loss by training step")),
        (
            "Grounding error",
            "mm, log scale",
            line_chart("grounding", error_mm, log=True, description="Grounding error in mm by training step"),
        ),
        (
            "Throughput",
            "samples per second",
            line_chart("throughput", speed, zero=True, description="Samples per second by training step"),
        ),
    ]
    return [{"title": title, "unit": unit, "svg": svg} for title, unit, svg in charts if svg]


def _length_chart(facts: Facts) -> str | None:
    main = findings.main_row(facts)
    episodes = (facts.get("episodes") or {}).get(main["name"], []) if main else []
    steps = [(e["success"], e["steps"]) for e in episodes if e.get("crash") is None]
    succeeded = [n for success, n in steps if success]
    failed = [n for success, n in steps if not success]
    return length_chart("lengths", succeeded, failed, description="Distribution of the steps that episodes took")


def _clips(facts: Facts, media: Sequence[Clip]) -> list[dict[str, Any]]:
    """Successes first; within each, the conditions in the order of the rows."""
    order = {row["name"]: i for i, row in enumerate(facts.get("rows") or [])}
    episodes = {
        (condition, episode["seed"]): episode
        for condition, results in (facts.get("episodes") or {}).items()
        for episode in results
    }
    views = []
    for clip in sorted(media, key=lambda c: (not c.success, order.get(c.condition, len(order)), c.seed)):
        episode = episodes.get((clip.condition, clip.seed))
        width, height = _jpeg_size(clip.strip)
        key = findings.outcome(episode) if episode else "success" if clip.success else None
        views.append(
            {
                "condition": clip.condition,
                "seed": clip.seed,
                "instruction": clip.instruction or "(no instruction)",
                "success": clip.success,
                "steps": episode["steps"] if episode else None,
                "outcome": findings.OUTCOMES[key] if key else "failure",
                "strip": _data_uri("image/jpeg", clip.strip),
                "width": width,
                "height": height,
                "video": _data_uri("video/mp4", clip.mp4),
            }
        )
    return views


def _phases(facts: Facts) -> list[dict[str, Any]]:
    phases = facts.get("phases") or []
    total = sum(phase["seconds"] for phase in phases) or 1.0
    return [{"note": None, **phase, "share": phase["seconds"] / total} for phase in phases]


def _reproduce(provenance: Facts) -> dict[str, Any] | None:
    """The commands that ask for the same result again, and what stands in the way."""
    command, git = provenance.get("command"), provenance.get("git")
    if not command:
        return None
    checkout = [f"git checkout {git.removesuffix('+dirty')}"] if git else []
    return {"lines": [*checkout, command], "dirty": git is not None and git.endswith("+dirty")}


def _flat(value: Facts, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as rows of dotted names and values."""
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            rows += _flat(item, f"{name}.")
        elif isinstance(item, list | tuple):
            rows.append((name, ", ".join(map(str, item)) or "–"))
        else:
            rows.append((name, "–" if item is None or item == {} else str(item)))
    return rows


def _jpeg_size(data: bytes) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.size


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
