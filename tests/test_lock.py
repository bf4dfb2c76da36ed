"""The lock files say what pyproject.toml asks for, each pin with its hashes."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-cuda.lock")
LEFT_OUT = {"rerun-sdk", "vla"}
"""What the header of the lock says is left out, and the project itself."""


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock", ROOT / "tools" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _asked() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    return [found for found in map(Requirement, texts) if canonicalize_name(found.name) not in LEFT_OUT]


@pytest.mark.parametrize("requirement", _asked(), ids=str)
def test_what_the_project_asks_for_is_pinned_as_it_asks(requirement: Requirement) -> None:
    pins = {canonicalize_name(name): version for name, version in _tool().read(ROOT / LOCKS[0])}
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_its_hashes(name: str) -> None:
    text = (ROOT / name).read_text()
    pins = _tool().read(ROOT / name)
    assert len(pins) == len(re.findall(r"^[^#\s].*==", text, re.MULTILINE)) > 10
    assert all(pins.values())


def test_torch_has_both_builds_and_both_pythons() -> None:
    hashes = next(found for (name, _), found in _tool().read(ROOT / LOCKS[0]).items() if name == "torch")
    assert len(hashes) >= 3  # of the CPU build for 3.11, and of PyPI's for each Python


def test_writing_what_was_read_changes_nothing(tmp_path: Path) -> None:
    tool = _tool()
    for name in LOCKS:
        text = (ROOT / name).read_text()
        header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
        tool.write(tmp_path / name, header, tool.read(ROOT / name))
        assert (tmp_path / name).read_text() == text


def test_the_set_up_checks_hashes() -> None:
    lines = [line.strip() for line in (ROOT / "tools" / "setup.sh").read_text().splitlines() if " -r " in line]
    assert [line.split(" -r ")[1].split()[0] for line in lines] == [".venv/torch-cpu.txt", *LOCKS]
    assert all("--require-hashes" in line for line in lines)
