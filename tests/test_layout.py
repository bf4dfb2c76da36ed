"""The five folders: linked into the package, safe to stand in the repository's root, and complete in a wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("envs", "datasets", "policies", "deploy", "configs")
SHIPPED = (".py", ".yaml", ".j2", ".html", ".typed")


@pytest.mark.parametrize("name", FOLDERS)
def test_links_are_relative_and_point_home(name: str) -> None:
    link = ROOT / "vla" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == ROOT / name
    assert link.is_dir()


@pytest.mark.parametrize("name", FOLDERS)
def test_roots_are_no_packages(name: str) -> None:
    assert not (ROOT / name / "__init__.py").exists()


def test_the_facade_is_lazy_and_offers_what_it_says() -> None:
    code = (
        "import sys, vla; heavy = {'torch', 'numpy', 'ray', 'mujoco'} & set(sys.modules); assert not heavy, heavy; "
        "assert not [m for m in sys.modules if m.startswith('vla.')]; "
        "print(all(getattr(vla, name) for name in vla.__all__))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"


def _which_datasets(root: Path, site: Path) -> str:
    """What ``import datasets`` finds in a process that runs in ``root`` with ``site`` behind it on the path."""
    (site / "datasets").mkdir(parents=True)
    (site / "datasets" / "__init__.py").write_text("WHOSE = 'theirs'\n")
    code = "import sys; assert sys.path[0] == ''; import datasets; print(getattr(datasets, 'WHOSE', 'ours'))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_hugging_face_datasets_is_not_shadowed(tmp_path: Path) -> None:
    assert _which_datasets(ROOT, tmp_path / "site") == "theirs"


def test_an_init_file_would_shadow_it(tmp_path: Path) -> None:
    (tmp_path / "root" / "datasets").mkdir(parents=True)
    (tmp_path / "root" / "datasets" / "__init__.py").touch()
    assert _which_datasets(tmp_path / "root", tmp_path / "site") == "ours"


def _shipped() -> set[str]:
    """Every file that must be in a wheel, as its path there."""
    folders = [path for path in (ROOT / "vla").iterdir() if path.is_dir()]
    files = [
        file for folder in folders for file in folder.rglob("*") if file.suffix in SHIPPED or file.name == "py.typed"
    ]
    return {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts}


def test_a_wheel_holds_everything(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("vla", *FOLDERS):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.toml"), *ROOT.glob("README.md"), *ROOT.glob("LICENSE*")):
        shutil.copy(file, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(tmp_path), str(source)], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "vla/envs/tabletop/tasks/place.py" in names
    assert "vla/core/py.typed" in names
    assert _shipped() - names == set()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"vla"}
    _finds_its_recipes(wheel, tmp_path)


def _finds_its_recipes(wheel: Path, tmp_path: Path) -> None:
    """What is installed from a wheel, run in an empty folder: a recipe by name, and the names where one is wrong."""
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(installed)
    empty.mkdir()
    for recipe, said in (("demo", "nowhere is no dataset"), ("dmo", "did you mean demo?")):
        command = [sys.executable, "-m", "vla.cli.main", "train", recipe, "--data.path", "nowhere"]
        run = subprocess.run(
            command,
            cwd=empty,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert (run.returncode, said in run.stderr, len(run.stderr.splitlines())) == (2, True, 1), run.stderr
