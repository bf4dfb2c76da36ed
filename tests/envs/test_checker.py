"""Every registered environment keeps its promises; and the checker notices one that does not."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from vla.core.errors import VlaError
from vla.envs.checker import check_env
from vla.envs.registry import ENVS, env_spec

_SETTINGS: Mapping[str, dict[str, Any]] = {
    "tabletop": {"image_size": 32},
    "robosuite": {"image_size": 32, "collision_geometry": True},
    "metaworld": {"image_size": 32},
    "fetch": {"image_size": 32},
}
_QUICK = {
    *("metaworld/drawer-open", "metaworld/assembly", "metaworld/pick-place"),
    *(
        "robosuite/lift",
        "robosuite/stack",
        "robosuite/pick-place-can",
        "robosuite/nut-assembly-square",
        "robosuite/door",
    ),
}
"""Of Meta-World's fifty and robosuite's; the others are the same classes with other objects, and take a minute."""


def _marks(name: str) -> Any:
    slow = name.startswith(("metaworld/", "robosuite/")) and name not in _QUICK
    return pytest.param(name, marks=[pytest.mark.long] if slow else [])


@pytest.mark.parametrize("name", [_marks(name) for name in ENVS])
def test_every_environment(name: str) -> None:
    env = env_spec(name).make(_SETTINGS[name.split("/")[0]])
    try:
        check_env(env)
    finally:
        env.close()


def _broken(method: str, change: Any) -> Any:
    """A tabletop in which the results of one method are changed."""
    env = env_spec("tabletop/reach").make({"image_size": 32})
    original = getattr(env, method)
    setattr(env, method, lambda *args, **keywords: change(original(*args, **keywords)))
    return env


def _with_info(**values: Any) -> Any:
    return lambda result: (*result[:4], {**result[4], **values})


@pytest.mark.parametrize(
    ("method", "change", "words"),
    [
        ("step", _with_info(progress=1.5), "progress: expected 0 to 1"),
        ("step", _with_info(time_ns=0), "time_ns: expected steps of 100 ms"),
        ("step", lambda result: (*result[:2], True, *result[3:]), "terminated exactly at success"),
        ("restore", lambda seen: {**seen, "state": seen["state"] + np.float32(0.1)}, "a restored state: state"),
        ("sim_state", lambda state: state + np.random.default_rng().random(), "a restored state|not the one"),
    ],
)
def test_broken_promises_are_noticed(method: str, change: Any, words: str) -> None:
    env = _broken(method, change)
    try:
        with pytest.raises(VlaError, match=words):
            check_env(env)
    finally:
        env.close()
