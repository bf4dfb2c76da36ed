"""A dataset and a checkpoint of a tiny model, made once, and the command in this process and in another."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny import TINY
from vla.cli.main import main
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.core.config import load_recipe
from vla.training.engines import train
from vla.training.recipe import TrainConfig


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """``vla ARGUMENTS`` in this process."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["vla", *map(str, arguments)])
        capsys.readouterr()
        try:
            code = main()
        except SystemExit as end:  # help, and mistakes that tyro finds
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture
def shell() -> Call:
    """``vla ARGUMENTS`` in a process of its own."""

    def run(*arguments: object, env: dict[str, str] | None = None, before: Callable[[], None] | None = None) -> Answer:
        command = [sys.executable, "-m", "vla.cli.main", *map(str, arguments)]
        if before is not None:  # a full disk would cut short what it compiles, for all that come after
            env = {**(env or os.environ), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=env, preexec_fn=before, capture_output=True, text=True, timeout=250)
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file of a tiny model that trains for two steps."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demonstrations") / "place"
    collect(CollectConfig(episodes=4, workers=1, settings={"image_size": 32}), root)
    return root


@pytest.fixture(scope="session")
def trained(dataset: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for images of 32 pixels; do not change it."""
    import dataclasses

    config = load_recipe(TrainConfig, recipe)
    data = dataclasses.replace(config.data, path=str(dataset))
    return train(dataclasses.replace(config, data=data), tmp_path_factory.mktemp("run"))


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint."""
    import shutil

    return Path(shutil.copytree(trained, tmp_path / "checkpoint"))


@pytest.fixture
def edit_contract(checkpoint: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """The checkpoint with a changed contract, sealed again."""
    from vla.core.sealed import seal_folder

    def edit(change: Callable[[dict[str, Any]], object]) -> Path:
        path = checkpoint / "contract.json"
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))
        seal_folder(checkpoint)
        return checkpoint

    return edit
