"""The scene that a checkpoint is asked about, or of which it draws the end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vla.collection.learner import Learner
from vla.core.config import parse_settings
from vla.core.media.boxes import GRID, Box
from vla.core.types import Observation
from vla.envs.registry import env_spec
from vla.envs.spec import RobotEnv, to_observation
from vla.policies.learned import LearnedPolicy

_INCHES = 3.2
_FRAME = (255, 0, 255)
"""Magenta: nothing on the table has it."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An environment after some steps of the checkpoint's own."""

    env: RobotEnv
    policy: LearnedPolicy
    observation: Observation
    success: bool


def open_scene(checkpoint: Path, env: str, settings: Sequence[str], *, seed: int, steps: int) -> Scene:
    """Lay the scene out, load the checkpoint for its robot, and let it drive for ``steps``, or until it is done."""
    made = env_spec(env).build(parse_settings(settings))
    policy = LearnedPolicy(checkpoint, robot=made.contract)
    driver = Learner(policy)
    driver.begin(seed)
    raw, info = made.reset(seed=seed)
    seen, past, ended = to_observation(raw, info), [], False
    while steps and not ended:
        past.append(seen)
        raw, _, terminated, truncated, info = made.step(driver(seen))
        seen, ended, steps = to_observation(raw, info), terminated or truncated, steps - 1
    spec = policy.contract.policy
    before = (spec.history if spec else 1) - 1
    observation = replace(seen, history=tuple(past[len(past) - min(before, len(past)) :]))
    return Scene(env=made, policy=policy, observation=observation, success=bool(info["success"]))


def framed(picture: UInt8[np.ndarray, "y x 3"], boxes: Sequence[Box]) -> UInt8[np.ndarray, "y x 3"]:
    """A copy with a line along the inner edge of each box."""
    height, width = picture.shape[:2]
    framed = picture.copy()
    for box in boxes:
        top, bottom = (row * height // GRID for row in (box.top, box.bottom + 1))
        left, right = (column * width // GRID for column in (box.left, box.right + 1))
        inside = framed[top + 1 : bottom - 1, left + 1 : right - 1].copy()
        framed[top:bottom, left:right] = _FRAME
        framed[top + 1 : bottom - 1, left + 1 : right - 1] = inside
    return framed


def captioned(title: str, pictures: Sequence[tuple[str, Any]]) -> bytes:
    """A PNG of pictures (y, x, 3) side by side, each under its caption."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(_INCHES * len(pictures), _INCHES + 0.7), layout="constrained", dpi=120)
    axes: np.ndarray = np.atleast_1d(np.array(figure.subplots(1, len(pictures))))
    for place, (caption, picture) in zip(axes, pictures, strict=True):
        place.imshow(picture, interpolation="nearest")
        place.set_title(caption, fontsize=10)
        place.set_axis_off()
    figure.suptitle(title, fontsize=12)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
