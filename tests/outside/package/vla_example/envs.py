"""An environment: a task of the tabletop with small pictures and little time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vla.envs.spec import RobotEnv
from vla.envs.tabletop.table import TABLETOP

_PLACE = TABLETOP["tabletop/place"]


def _make(settings: Mapping[str, Any]) -> RobotEnv:
    return _PLACE.make({"image_size": 32, "max_steps": 5, **settings})


SMALL_PLACE = replace(_PLACE, make=_make, summary="tabletop/place in a hurry", max_steps=5)
