"""How many of a picture's findings a model reports, beside itself without the picture. Synthetic, not clinical."""

from pathlib import Path

from vla.bench.measure import Note, Row
from vla.bench.settings import FindingsConfig
from vla.collection.radiographs import CAMERA, SYNTHETIC, draw_episode
from vla.core.errors import ConfigError
from vla.core.types import Observation, Question
from vla.paradigms.reports.describing import Score, describe, entity_f1
from vla.policies.learned import LearnedPolicy


def bench_findings(config: FindingsConfig, note: Note) -> list[Row]:
    """What is missing to an entity F1 of 1, in percent."""
    if not config.checkpoint:
        raise ConfigError("bench findings: which checkpoint? vla bench findings RUN/checkpoint")
    policy = LearnedPolicy(Path(config.checkpoint))
    note(f"reports of {config.pictures} pictures, {SYNTHETIC}")
    asked = [_asked(seed) for seed in range(config.seed, config.seed + config.pictures)]
    seeing, blind = (entity_f1(describe(policy, asked, blind=unseen)) for unseen in (False, True))
    title = f"findings, 1 − entity F1, {SYNTHETIC} ({_told(seeing)}), against the same model without pictures"
    value, against = (100 * (1 - score.f1.mean) for score in (seeing, blind))
    return [Row(name=title, value=value, unit="%", against=against)]


def _asked(seed: int) -> tuple[Observation, Question]:
    episode = draw_episode(seed)
    seen = Observation(
        images={CAMERA: episode.images[CAMERA][0]},
        state=episode.state[0],
        instruction=episode.instruction,
        time_ns=int(episode.time_ns[0]),
    )
    return seen, episode.questions[0]


def _told(score: Score) -> str:
    low, high = (100 * (1 - end) for end in (score.f1.high, score.f1.low))
    return f"{low:.1f} to {high:.1f}; {score.right} right of {score.said} said and {score.true} there"
