"""One tabletop for the tests of a module: building it is quick, its GL context is not."""

from collections.abc import Iterator

import pytest

from vla.envs.tabletop.place import PlaceEnv


@pytest.fixture(scope="module")
def env() -> Iterator[PlaceEnv]:
    env = PlaceEnv()
    yield env
    env.close()
