"""A package that is not there is one line that says what to install."""

import tomllib
from pathlib import Path

import pytest

from vla.core.machine.packages import EXTRAS, MissingPackageError, is_installed, needed_packages

ROOT = Path(__file__).resolve().parents[3]


def test_every_extra_is_one_of_ours() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(extras)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'ray'", name="ray"), r"engine: the package ray .*'vla\[ray\]'"),
        (ModuleNotFoundError("No module named 'av.video'", name="av.video"), r"the package av .*'vla\[sim\]'"),
        (ModuleNotFoundError("No module named 'theirs'", name="theirs"), r"theirs is needed .*pip install it for"),
        (ImportError("libGL.so.1: cannot open shared object file", name="cv2"), r"\(libGL.so.1: .*\); install the sys"),
        (
            ImportError("cannot import name 'x'", name="h5py"),
            r"h5py is installed and .*reinstall it: .*formats",
        ),
    ],
)
def test_the_line_follows_from_the_cause(error: ImportError, words: str) -> None:
    with pytest.raises(MissingPackageError, match=words), needed_packages("engine"):
        raise error


def test_modules_of_ours_are_no_packages() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"vla\.nothing"), needed_packages("engine"):
        raise ModuleNotFoundError("No module named 'vla.nothing'", name="vla.nothing")


def test_what_is_installed_is_found_without_importing_it() -> None:
    assert is_installed("numpy")
    assert not is_installed("no_such_package")
    assert not is_installed("no_such_package.inside")
