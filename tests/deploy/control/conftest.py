from collections.abc import Iterator

import pytest

from tests.deploy.punctual import punctual


@pytest.fixture(autouse=True)
def in_time(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.module.__name__.endswith("test_realtime"):
        yield  # about the priority itself
        return
    with punctual():
        yield
