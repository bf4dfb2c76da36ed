"""One tabletop for the tests of a module: building it is quick, its GL context is not."""

from collections.abc import Iterator

import pytest

from vla.envs.tabletop.env import TabletopEnv
from vla.envs.tabletop.tasks.place import PlaceConfig
from vla.envs.tabletop.tasks.table import FAMILIES


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv(FAMILIES["tabletop/place"], PlaceConfig())
    yield env
    env.close()
