"""How an evaluated episode begins, again and again alike: its scene, what disturbs it, and the words that are said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from vla.core.config import from_dict
from vla.envs.spec import LANGUAGES, Language, RobotEnv
from vla.evaluation.scenes.phrasing import rephrase


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """An environment before its first step."""

    env: RobotEnv
    """As it is disturbed; what follows is stepped through this."""
    raw: Mapping[str, Any]
    info: dict[str, Any]
    said: str | None
    """What is said instead of the environment's own instruction; None where that is said."""

    @property
    def instruction(self) -> str:
        """What the policy is told."""
        return self.env.instruction if self.said is None else self.said


def begin(env: RobotEnv, seed: int, *, language: Language, split: str, perturbation: Mapping[str, Any]) -> Beginning:
    """Lay the scene of ``seed`` out in ``env``; a language or a split that it does not know is its `ConfigError`."""
    options: dict[str, Any] = {"language": language if language in LANGUAGES else "right"}
    if split:
        options["split"] = split
    disturbed = _perturbed(env, perturbation)
    raw, info = disturbed.reset(seed=seed, options=options)
    said = None
    if language not in LANGUAGES:
        said = rephrase(disturbed.instruction, disturbed.instruction_alternatives, language, seed)
    return Beginning(env=disturbed, raw=raw, info=info, said=said)


def _perturbed(env: RobotEnv, settings: Mapping[str, Any]) -> RobotEnv:
    if not settings:
        return env
    from vla.envs.perturbations import PerturbationConfig, perturbed

    return cast(RobotEnv, perturbed(env, from_dict(PerturbationConfig, dict(settings), where="perturbation")))
