"""The fifty tasks of Meta-World by name, ``metaworld/drawer-open`` and so on.

The published protocol: 50 demonstrations of each task train one policy; it is tried 10 times in each task; the score of
the suite is the mean of its four groups, however many tasks each has (SmolVLA, arXiv 2506.01844). The pictures of
published results are those of camera ``corner4``: they move ``corner2`` there.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vla.core.config import from_dict
from vla.envs.metaworld.tasks import TASKS
from vla.envs.spec import EnvSpec, RobotEnv


def _make(task: str, settings: Mapping[str, Any]) -> RobotEnv:
    from vla.envs.metaworld.env import MetaworldConfig, MetaworldEnv

    return MetaworldEnv(task, from_dict(MetaworldConfig, dict(settings), where=f"metaworld/{task}"))


def _expert(env: Any) -> Any:
    from vla.envs.metaworld.expert import MetaworldExpert

    return MetaworldExpert(env)


METAWORLD: dict[str, EnvSpec] = {
    f"metaworld/{name}": EnvSpec(
        make=partial(_make, name),
        expert=_expert,
        summary=f"{task.sentences[0]} (Meta-World, {task.group})",
        robot="metaworld-sawyer",
        instruction=task.sentences[0],
        max_steps=500,
        suite="MT50",
        group=task.group,
        needs="metaworld",
        module="metaworld",
    )
    for name, task in TASKS.items()
}
