"""Videos on a page of results: the first successes and failures of each condition, replayed."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.core.media.video import encode_mp4
from vla.envs.registry import env_spec
from vla.envs.spec import LANGUAGES
from vla.evaluation.folder import read_episodes
from vla.evaluation.result import EvaluationResult
from vla.evaluation.rows import plain_rows, task_rows
from vla.evaluation.trials import Condition, EpisodeResult
from vla.report.episode.frames import encode_jpeg
from vla.report.evaluation.facts import OUTCOMES, condition_name, outcome
from vla.report.evaluation.video import film_strip, replay_frames


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One replayed episode."""

    condition: Condition
    episode: EpisodeResult
    mp4: bytes
    strip: bytes
    """A JPEG that `vla.report.evaluation.video.film_strip` made."""
    poster: bytes
    """A JPEG of the first frame, for players that have not loaded the video."""


def record_clips(result: EvaluationResult, folder: Path, count: int) -> list[Clip]:
    """Replay the first ``count`` successes and failures of the task, and one of each where other words were said.

    They are the first by their seeds: chosen before anybody looked at them. A result of several tasks has none.
    """
    if len(task_rows(result.rows)) != 1 or not count:
        return []
    episodes: dict[str, list[EpisodeResult]] = {}
    for trial, episode in read_episodes(folder):
        episodes.setdefault(trial.condition.key, []).append(episode)
    conditions = [row.condition for row in plain_rows(result.rows)]
    spec = env_spec(conditions[0].env)
    env = spec.build(conditions[0].settings)
    clips = []
    try:
        for condition in conditions:
            if condition.language not in LANGUAGES or condition.split:
                continue  # words that the environment itself does not say, and scenes that it lays out elsewhere
            for episode in _chosen(episodes.get(condition.key, []), count if condition == conditions[0] else 1):
                frames = replay_frames(env, episode, condition)
                mp4 = encode_mp4(frames, env.contract.control_hz)
                strip, poster = film_strip(frames), encode_jpeg(frames[0])
                clips.append(Clip(condition=condition, episode=episode, mp4=mp4, strip=strip, poster=poster))
    finally:
        env.close()
    return clips


def clip_views(clips: Sequence[Clip]) -> list[Mapping[str, Any]]:
    """As the page shows them: successes first, conditions in their order."""
    return [
        {
            "condition": condition_name(clip.condition) or "right instruction",
            "seed": clip.episode.seed,
            "instruction": clip.episode.instruction or "(no instruction)",
            "success": clip.episode.success,
            "steps": clip.episode.steps,
            "outcome": OUTCOMES[outcome(clip.episode)],
            "strip": _data_uri("image/jpeg", clip.strip),
            "size": _jpeg_size(clip.strip),
            "poster": _data_uri("image/jpeg", clip.poster),
            "video": _data_uri("video/mp4", clip.mp4),
        }
        for clip in sorted(clips, key=lambda clip: not clip.episode.success)
    ]


def _chosen(episodes: Sequence[EpisodeResult], count: int) -> list[EpisodeResult]:
    ran = sorted((e for e in episodes if e.crash is None), key=lambda e: e.seed)
    return [e for e in ran if e.success][:count] + [e for e in ran if not e.success][:count]


def _jpeg_size(data: bytes) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.size


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
