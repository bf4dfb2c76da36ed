"""What a checkpoint says of itself, read from its documents."""

import shutil
import zipfile
from pathlib import Path

import pytest

from vla.core.errors import CheckpointError
from vla.models.checkpoint import load_model
from vla.models.info import checkpoint_info
from vla.models.upgrade import upgrade_checkpoint

VERSION1 = Path(__file__).parents[1] / "version1"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("info") / "checkpoint"
    with zipfile.ZipFile(VERSION1 / "checkpoint.zip") as archive:
        archive.extractall(path)
    upgrade_checkpoint(path)
    return path


def test_everything_is_told(checkpoint: Path) -> None:
    info = checkpoint_info(checkpoint)
    _, model = load_model(checkpoint)
    assert info.parameters == sum(p.numel() for p in model.parameters())
    assert (info.kind, info.horizon, info.execute, info.history) == ("unified", 8, 4, 1)
    (robot,) = info.robots
    assert (robot.name, robot.control_hz) == ("tabletop-panda", 10.0)
    assert robot.relative_to == (*(f"joint{i}" for i in range(1, 8)), None)
    assert {"red", "blue", "plate", "put"} <= set(info.words)
    assert info.signals == ("grounding", "pointing")
    assert [(v.path, v.manifest) for v in info.datasets] == [("dataset", 1)]
    assert info.training["step"] == 6


@pytest.mark.parametrize("name", ["weights.safetensors", "preprocessor.json", "tokenizer.json"])
def test_a_missing_file_is_named(name: str, checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        checkpoint_info(copy)
