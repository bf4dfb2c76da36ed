"""Evaluated episodes again, as pictures: physics is deterministic, so a seed and the actions are a recording."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vla.core.errors import VlaError
from vla.envs.spec import RobotEnv
from vla.evaluation.scenes.beginning import begin
from vla.evaluation.trials import Condition, EpisodeResult

STRIP_PIXELS = 160
"""Height of one picture of a film strip."""
STRIP_GAP = 2
"""Pixels between the pictures of a film strip."""
_SAME = 1e-3
"""By which the progress at the end of a replay may differ from the recorded one."""


def replay_frames(
    env: RobotEnv, result: EpisodeResult, condition: Condition | None = None, *, camera: str | None = "wrist"
) -> UInt8[np.ndarray, "t y x 3"]:
    """Run a recorded episode again; one frame for the start and one after each step.

    A frame is the environment's picture for people and, beside it, what the policy saw through ``camera``, its pixels
    enlarged. ``env`` needs the settings that the episode was evaluated with; split, words and disturbance are those of
    ``condition``, by default none but the environment's own. A replay that does not end as recorded is an error.
    """
    return np.stack([_frame(env, raw["images"], camera) for raw, _ in replayed(env, result, condition)])


def replayed(
    env: RobotEnv, result: EpisodeResult, condition: Condition | None = None
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What the policy saw and ``info``, at the start and after each step, `env` standing there; see `replay_frames`."""
    who = f"replay of seed {result.seed}"
    if result.crash is not None:
        raise VlaError(f"{who}: the episode crashed ({result.crash}); only episodes that ended can be replayed")
    condition = condition or Condition(env="")
    begun = begin(env, result.seed, **condition.circumstances)
    info = begun.info
    if begun.instruction != result.instruction:
        raise VlaError(
            f"{who}: recorded instruction {result.instruction!r}, got {begun.instruction!r}; use the settings, the "
            f"split (now {condition.split or 'none'}) and the language (now {condition.language!r}) of the evaluation"
        )
    yield begun.raw, info
    ended_at, step = None, 0
    for step, action in enumerate(result.actions, start=1):
        raw, _, terminated, truncated, info = begun.env.step(action)
        yield raw, info
        if terminated or truncated:
            ended_at = step
            break
    success = bool(info.get("success", False))
    ended = None if result.failure else result.steps  # the environment would have gone on
    progress = float(info.get("progress", success))
    alike = abs(progress - result.progress) < _SAME
    if success != result.success or ended_at != ended or step != result.steps or not alike:
        raise VlaError(
            f"{who}: recorded success={result.success} and progress {result.progress:.3f} after {result.steps} steps, "
            f"got success={success} and {progress:.3f} after {step}; use the settings, the disturbance and the "
            "versions (vla, mujoco) of the evaluation"
        )


def film_strip(frames: UInt8[np.ndarray, "t y x 3"], count: int = 6, *, views: int = 2) -> bytes:
    """A JPEG of ``count`` evenly spaced frames, first and last included, side by side.

    A frame that shows ``views`` pictures side by side is folded: its pictures stand one below the other.
    """
    from PIL import Image

    _require_frames(frames)
    height, width = frames.shape[1:3]
    if count < 1 or views < 1 or width % views:
        raise VlaError(f"film_strip: count={count} must be positive, and views={views} must divide the width {width}")
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    size = (round(STRIP_PIXELS * width / views / height), STRIP_PIXELS)
    step_x, step_y = size[0] + STRIP_GAP, size[1] + STRIP_GAP
    strip = Image.new("RGB", (count * step_x - STRIP_GAP, views * step_y - STRIP_GAP), "white")
    for column, index in enumerate(chosen):
        for row, picture in enumerate(np.split(frames[index], views, axis=1)):
            scaled = Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.LANCZOS)
            strip.paste(scaled, (column * step_x, row * step_y))
    file = io.BytesIO()
    strip.save(file, "JPEG", quality=82, optimize=True)
    return file.getvalue()


def _require_frames(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise VlaError(f"frames: expected at least one, uint8 (t, y, x, 3), got {frames.dtype} {frames.shape}")


def _frame(env: RobotEnv, images: dict[str, np.ndarray], camera: str | None) -> np.ndarray:
    """(y, x, 3): the picture for people, and the policy's own beside it."""
    front = env.render()
    if camera is None:
        return front
    if camera not in images:
        raise VlaError(
            f"replay: camera {camera!r} is not one of {', '.join(images)}; choose one, or None for no camera"
        )
    return np.concatenate([front, _enlarge(images[camera], len(front))], axis=1)


def _enlarge(image: np.ndarray, height: int) -> np.ndarray:
    """Scaled to ``height`` by repeating pixels, so that the policy's resolution stays visible."""
    old_height, old_width = image.shape[:2]
    width = round(old_width * height / old_height)
    rows = np.arange(height) * old_height // height
    columns = np.arange(width) * old_width // width
    enlarged: np.ndarray = image[rows][:, columns]
    return enlarged
