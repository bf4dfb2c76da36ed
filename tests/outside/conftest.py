"""The example package as if it were installed: its folder holds its metadata."""

import importlib
import os
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "package"


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> Path:
    """On the path of this process and of those that it starts."""
    monkeypatch.syspath_prepend(PACKAGE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")]))
    importlib.invalidate_caches()
    yield PACKAGE
    for name in [name for name in sys.modules if name.partition(".")[0] == "vla_example"]:
        del sys.modules[name]
