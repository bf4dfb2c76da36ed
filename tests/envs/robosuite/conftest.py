"""One quick robosuite environment for all tests: building one takes seconds."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from vla.envs.robosuite.config import RobosuiteConfig
from vla.envs.robosuite.env import RobosuiteEnv


@pytest.fixture(scope="session", autouse=True)
def _needs_robosuite() -> None:
    if find_spec("robosuite") is None:
        pytest.skip("robosuite is not installed: pip install 'vla[robosuite]'")


@pytest.fixture(scope="session")
def lift(_needs_robosuite: None) -> Iterator[RobosuiteEnv]:
    env = RobosuiteEnv("lift", RobosuiteConfig(collision_geometry=True, image_size=64))
    yield env
    env.close()
