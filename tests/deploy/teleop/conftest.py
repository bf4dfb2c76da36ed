from collections.abc import Iterator

import pytest

from tests.deploy.punctual import punctual


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    with punctual():
        yield
