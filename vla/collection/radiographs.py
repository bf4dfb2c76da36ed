"""Synthetic pictures with known findings, and the report of each: for models that describe. Synthetic, not clinical.

Two dark fields in a grey body stand for lungs; findings are drawn into them: a kind, a side, a size. Nothing about them
is anatomy, and what a model says of them is worth nothing about a patient. The reports are sentences of a fixed form,
so which findings one names can be counted::

    a small nodule on the left, a large effusion on the right
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from vla.core.contract import Camera, Contract, Dimension
from vla.core.types import Episode, Question
from vla.datasets.dataset import create_dataset
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

SYNTHETIC = "synthetic, not clinical"
CAMERA, TASK = "radiograph", "radiographs/report"
QUESTION = "report the findings"
PIXELS = 64
SIDES, SIZES = ("left", "right"), ("small", "large")
NONE = "nothing"
_MOST, _STEPS = 3, 2
_CENTRES = {"left": (20.0, 30.0), "right": (44.0, 30.0)}
"""(x, y) of each field in the picture, pixels; its left is the picture's."""
_HALF = (9.0, 19.0)
_SHADE = {"body": 120.0, "field": 45.0, "finding": 75.0}

Mask = Float64[np.ndarray, "y x"]


@dataclass(frozen=True, order=True)
class Finding:
    """Something that is drawn."""

    side: str
    kind: str
    size: str

    @property
    def words(self) -> str:
        """As a report names it."""
        return f"a {self.size} {self.kind} on the {self.side}"


def report(findings: tuple[Finding, ...]) -> str:
    """All of them, from left to right."""
    return ", ".join(finding.words for finding in sorted(findings)) or NONE


def draw_findings(rng: np.random.Generator) -> tuple[Finding, ...]:
    """None to three, no two of one kind on one side."""
    every = [(side, kind) for side in SIDES for kind in KINDS]
    chosen = rng.permutation(len(every))[: rng.integers(0, _MOST + 1)]
    drawn = [(*every[i], SIZES[rng.integers(2)]) for i in sorted(chosen)]
    return tuple(Finding(side=side, kind=kind, size=size) for side, kind, size in drawn)


def draw_picture(rng: np.random.Generator, findings: tuple[Finding, ...]) -> UInt8[np.ndarray, "y x 3"]:
    """The picture of these findings, grey, with noise and a body that is never twice the same."""
    y, x = np.mgrid[:PIXELS, :PIXELS].astype(np.float64)
    shift = rng.uniform(-2, 2, 2)
    body = _ellipse(x, y, (32 + shift[0], 34 + shift[1]), (29.0, 32.0))
    shade = 20 + _SHADE["body"] * body * rng.uniform(0.9, 1.1)
    fields = {side: _field(x, y, side, shift) for side in SIDES}
    for field in fields.values():
        shade -= _SHADE["field"] * field
    for finding in findings:
        drawn = KINDS[finding.kind](rng, x, y, finding, shift) * fields[finding.side]
        shade += _SHADE["finding"] * drawn
    grey = np.clip(shade + rng.normal(0, 4, shade.shape), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _ellipse(x: Mask, y: Mask, centre: tuple[float, float], half: tuple[float, float]) -> Mask:
    """1 inside, 0 outside, with an edge of about a pixel."""
    far = np.hypot((x - centre[0]) / half[0], (y - centre[1]) / half[1])
    inside: Mask = np.clip((1 - far) * min(half), 0, 1)
    return inside


def _field(x: Mask, y: Mask, side: str, shift: np.ndarray) -> Mask:
    cx, cy = _CENTRES[side]
    return _ellipse(x, y, (cx + shift[0], cy + shift[1]), _HALF)


def _round(radii: dict[str, float]) -> "Drawing":
    def draw(rng: np.random.Generator, x: Mask, y: Mask, finding: Finding, shift: np.ndarray) -> Mask:
        cx, cy = _CENTRES[finding.side]
        spot = cx + shift[0] + rng.uniform(-3, 3), cy + shift[1] + rng.uniform(-9, 4)
        radius = radii[finding.size]
        return _ellipse(x, y, spot, (radius, radius))

    return draw


def _effusion(rng: np.random.Generator, x: Mask, y: Mask, finding: Finding, shift: np.ndarray) -> Mask:
    """The lower part of the field, level on top."""
    share = {"small": 0.2, "large": 0.45}[finding.size]
    level = _CENTRES[finding.side][1] + shift[1] + _HALF[1] * (1 - 2 * share)
    wet: Mask = np.clip(y - level + rng.uniform(-1, 1), 0, 1)
    return wet


def _stripes(rng: np.random.Generator, x: Mask, y: Mask, finding: Finding, shift: np.ndarray) -> Mask:
    """Slanted lines, thin or thick."""
    thin = {"small": 0.6, "large": -0.1}[finding.size]
    lines: Mask = np.clip(np.cos(2 * np.pi * ((x + y) / 8.0 + rng.random())) - thin, 0, 1)
    return lines


Drawing = Callable[[np.random.Generator, Mask, Mask, Finding, np.ndarray], Mask]
KINDS: dict[str, Drawing] = {
    "nodule": _round({"small": 2.2, "large": 3.4}),
    "effusion": _effusion,
    "banding": _stripes,
}
"""How each kind is drawn, as a mask of the picture."""


def contract() -> Contract:
    """One picture, a state that says nothing, and as action how many findings there are, as a share of the most."""
    view = Dimension(name="view", unit="1", low=-1.0, high=1.0)
    findings = Dimension(name="findings", unit="1", low=0.0, high=1.0)
    camera = Camera(name=CAMERA, height=PIXELS, width=PIXELS)
    return Contract(robot="synthetic-radiographs", cameras=(camera,), state=(view,), action=(findings,), control_hz=1.0)


def draw_episode(seed: int) -> Episode:
    """One picture with its report, as the question that asks for it."""
    rng = np.random.default_rng([seed, 0x72616469])
    findings = draw_findings(rng)
    frames = np.stack([draw_picture(np.random.default_rng([seed, step]), findings) for step in range(_STEPS)])
    count, zeros = np.full((_STEPS, 1), len(findings) / _MOST, np.float32), np.zeros((_STEPS, 1), np.float32)
    times = np.arange(_STEPS, dtype=np.int64) * 1_000_000_000
    return Episode(
        images={CAMERA: frames},
        state=zeros,
        action=count,
        action_executed=count.copy(),
        reward=zeros[:, 0],
        done=np.arange(_STEPS) == _STEPS - 1,
        valid=np.ones(_STEPS, np.bool_),
        time_ns=times,
        command_time_ns=times.copy(),
        instruction=QUESTION,
        task=TASK,
        split="train",
        seed=seed,
        success=None,
        questions=tuple(
            Question(kind="findings", text=QUESTION, answer=report(findings), step=i) for i in range(_STEPS)
        ),
        provenance={"what": SYNTHETIC},
    )


def write_radiographs(root: Path, count: int, *, seed: int = 0) -> None:
    """A new dataset of so many, published; each says that it is synthetic."""
    create_dataset(root, contract())
    with SegmentWriter(root, contract(), {"what": SYNTHETIC, "seed": seed}) as writer:
        for number in range(seed, seed + count):
            writer.append(draw_episode(number))
        publish(root, [writer.seal()], f"{count} pictures with findings, {SYNTHETIC}")
