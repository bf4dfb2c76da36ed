"""The robosuite environments by name."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vla.core.config import from_dict
from vla.envs.robosuite.config import RobosuiteConfig
from vla.envs.robosuite.words import WORDS
from vla.envs.spec import EnvSpec, RobotEnv


def _make(task: str, settings: Mapping[str, Any]) -> RobotEnv:
    from vla.envs.robosuite.env import RobosuiteEnv

    return RobosuiteEnv(task, from_dict(RobosuiteConfig, dict(settings), where=f"robosuite/{task}"))


def _expert(env: Any) -> Any:
    from vla.envs.robosuite.experts.table import make_expert

    return make_expert(env)


ROBOSUITE: dict[str, EnvSpec] = {
    f"robosuite/{task}": EnvSpec(
        make=partial(_make, task),
        expert=_expert,
        summary=words.summary,
        robot="robosuite-panda",
        instruction=words.phrases[0],
        max_steps=words.max_steps,
        needs="robosuite",
        module="robosuite",
    )
    for task, words in WORDS.items()
}
