"""For all tests: seeded hypothesis, and reasons for what is not run."""

import pytest
from hypothesis import settings

settings.register_profile("seeded", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("seeded")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that take minutes, and those that want a GPU where there is none, unless ``-m`` asks for them."""
    chosen = config.getoption("markexpr")
    for item in items:
        if item.get_closest_marker("long") and "long" not in chosen:
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with -m long"))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
