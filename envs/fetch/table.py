"""The Fetch environments by name."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vla.core.config import from_dict
from vla.envs.spec import EnvSpec, RobotEnv


def _make(task: str, settings: Mapping[str, Any]) -> RobotEnv:
    from vla.envs.adapter.env import GymnasiumEnv
    from vla.envs.fetch.setups import FetchConfig, fetch_setup

    return GymnasiumEnv(fetch_setup(task, from_dict(FetchConfig, dict(settings), where=f"fetch/{task}")))


def _reach(env: Any) -> Any:
    from vla.envs.fetch.expert import ReachExpert

    return ReachExpert(env)


def _pick_and_place(env: Any) -> Any:
    from vla.envs.fetch.expert import PickAndPlaceExpert

    return PickAndPlaceExpert(env)


def _push(env: Any) -> Any:
    from vla.envs.fetch.expert import PushExpert

    return PushExpert(env)


def _spec(task: str, instruction: str, expert: Any) -> EnvSpec:
    return EnvSpec(
        make=partial(_make, task),
        expert=expert,
        summary=f"{instruction} (gymnasium-robotics)",
        robot="fetch",
        instruction=instruction,
        max_steps=50,
        needs="fetch",
        module="gymnasium_robotics",
    )


FETCH: dict[str, EnvSpec] = {
    "fetch/reach": _spec("reach", "move the gripper to the red ball", _reach),
    "fetch/push": _spec("push", "push the block to the red ball", _push),
    "fetch/pick-and-place": _spec("pick-and-place", "bring the block to the red ball", _pick_and_place),
    "fetch/slide": _spec("slide", "hit the puck so that it slides to the red ball", None),
}
