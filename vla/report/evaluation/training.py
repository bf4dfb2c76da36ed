"""Learning curves on a page of results, where the run that made the policy lies beside its checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.core.errors import VlaError
from vla.core.provenance import folder_digest
from vla.core.sealed import SealedFolder, parse_json
from vla.evaluation.result import EvaluationResult
from vla.report.charts import Series, line_chart, series
from vla.training.metrics import read_metrics

_PROVENANCE = "provenance.json"
_TRAIN, _HELD_OUT = ("accent", "muted", "ink"), ("second", "ink", "muted")
_PULLS = ("accent", "second", "muted", "ink")


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a run wrote down."""

    steps: int
    samples: int
    seconds: float
    parameters: int
    lines: Sequence[dict[str, Any]]
    """Of its metrics, in their order."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The lines of one kind: ``train`` or ``validation``."""
        return [line for line in self.lines if line["kind"] == kind]


def training_of(result: EvaluationResult) -> Training | None:
    """The run that the policy comes from; None where it is not known, or its checkpoint is another one by now."""
    checkpoint = Path(result.policy.name)
    if not result.policy.digest or not (checkpoint / _PROVENANCE).is_file():
        return None
    lines = read_metrics(checkpoint.parent)
    try:
        folder = SealedFolder.open(checkpoint, error=VlaError, fix="")
        origin = parse_json(folder.read(_PROVENANCE, error=VlaError, fix=""))
    except (FileNotFoundError, VlaError):  # of an earlier version, or damaged: it is not known
        return None
    if not lines or "training" not in origin or folder_digest(checkpoint) != result.policy.digest:
        return None
    position = origin["training"]
    return Training(
        steps=position["step"],
        samples=position["consumed"],
        seconds=position["seconds"],
        parameters=origin["parameters"],
        lines=lines,
    )


def training_charts(training: Training) -> list[dict[str, str]]:
    """Title, unit and SVG of each chart that the metrics are enough for: losses, errors, gradients, the speed."""
    speed = [series(training.of("train"), "samples_per_s", label="samples/s", colour="accent")]
    charts = [
        ("Loss", "log scale", line_chart("loss", _curves(training, "_loss"), log=True, description="Loss by step")),
        (
            "Error",
            "each in the units of its signal, log scale",
            line_chart("error", _curves(training, "_error"), log=True, description="Error by step"),
        ),
        (
            "Gradient",
            "norm of each loss's own, at what all of them share, log scale",
            line_chart("gradient", _pulls(training), log=True, description="Gradient norm of each loss by step"),
        ),
        (
            "Throughput",
            "samples per second",
            line_chart("throughput", speed, zero=True, description="Samples per second by step"),
        ),
    ]
    return [{"title": title, "unit": unit, "svg": svg} for title, unit, svg in charts if svg]


def _pulls(training: Training) -> list[Series | None]:
    """Of each loss whose own gradient was measured."""
    lines, start = training.of("train"), "gradient_norm/"
    names = list(dict.fromkeys(key for line in lines for key in line if key.startswith(start)))
    return [
        series(lines, name, label=name.removeprefix(start), colour=colour, dots=True)
        for name, colour in zip(names, _PULLS, strict=False)
    ]


def _curves(training: Training, suffix: str) -> list[Series | None]:
    """Every metric whose name ends so; of several losses that are held out, only the first."""
    curves = []
    for kind, where, colours in (("train", "train", _TRAIN), ("validation", "held out", _HELD_OUT)):
        lines = training.of(kind)
        names = list(dict.fromkeys(key for line in lines for key in line if key.endswith(suffix)))
        for i, name in enumerate(names[:1] if kind == "validation" and suffix == "_loss" else names):
            label = f"{name.removesuffix(suffix).replace('_', ' ')}, {where}"
            colour = colours[i % len(colours)]
            curves.append(series(lines, name, label=label, colour=colour, dots=kind == "validation"))
    return curves
