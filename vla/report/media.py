"""Videos of evaluated episodes for a report."""

from collections.abc import Sequence

from vla.core.video import encode_mp4
from vla.envs.registry import env_spec
from vla.evaluation.settings import EvaluationConfig
from vla.evaluation.trials import EpisodeResult
from vla.evaluation.video import film_strip, replay_frames
from vla.report.page import Clip


def record_clips(
    results: Sequence[EpisodeResult], config: EvaluationConfig, *, condition: str, successes: int, failures: int
) -> list[Clip]:
    """Replay the first successes and the first failures, by seed: chosen before anybody looked at them."""
    ran = [result for result in results if result.crash is None]
    chosen = [r for r in ran if r.success][:successes] + [r for r in ran if not r.success][:failures]
    env = env_spec(config.env).make(config.settings)
    clips = []
    try:
        for result in chosen:
            frames = replay_frames(env, result, language=config.language)
            clips.append(
                Clip(
                    condition=condition,
                    seed=result.seed,
                    instruction=result.instruction,
                    success=result.success,
                    mp4=encode_mp4(frames, env.contract.control_hz),
                    strip=film_strip(frames),
                )
            )
    finally:
        env.close()
    return clips
