"""The tabletop environments by name."""

from collections.abc import Mapping
from typing import Any

from vla.core.config import from_dict
from vla.envs.spec import EnvSpec, RobotEnv


def _make_place(settings: Mapping[str, Any]) -> RobotEnv:
    from vla.envs.tabletop.place import PlaceConfig, PlaceEnv

    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    return PlaceEnv(from_dict(PlaceConfig, listed, where="tabletop/place"))


def _place_expert(env: Any) -> Any:
    from vla.envs.tabletop.expert import PlaceExpert

    return PlaceExpert(env)


TABLETOP: dict[str, EnvSpec] = {
    "tabletop/place": EnvSpec(
        make=_make_place,
        expert=_place_expert,
        summary="put the named block on the named plate",
        robot="tabletop-panda",
        instruction="put the red block on the blue plate",
        horizon=80,
    ),
}
