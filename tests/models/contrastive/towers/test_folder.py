"""A tower in a folder is the tower that was written, and anything else is said in one line."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from einops import rearrange

from vla.core.config import from_dict, to_dict
from vla.core.errors import CheckpointError, ConfigError
from vla.models.contrastive.pair import Pair
from vla.models.contrastive.presets import PairConfig
from vla.models.contrastive.towers.config import (
    EfficientNetConfig,
    FolderImageConfig,
    FolderTextConfig,
    ImageTowerConfig,
    TransformerTowerConfig,
    VitConfig,
)
from vla.models.contrastive.towers.efficientnet import EfficientNet
from vla.models.contrastive.towers.folder import read_tower_config, write_tower
from vla.models.readers.tower_config import TowerConfig

IMAGE = EfficientNetConfig(widths=0.25, image=32)
_VIT = {"width": 8, "layers": 1, "heads": 2, "hidden": 8, "patch": 4, "image": 16}
TEXT = TransformerTowerConfig(words=20, length=6, width=8, layers=1, heads=2, hidden=8)


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    image: ImageTowerConfig = field(default_factory=EfficientNetConfig)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A tower each, of random weights."""
    torch.manual_seed(5)
    write_tower(tmp_path / "image", IMAGE, IMAGE.build(), {"from": "a test"})
    write_tower(tmp_path / "text", TEXT, TEXT.build(), {"from": "a test"}, tokenizer="{}")
    return tmp_path


def _pair(folders: Path) -> Pair:
    image, text = FolderImageConfig(folder=str(folders / "image")), FolderTextConfig(folder=str(folders / "text"))
    return PairConfig(image=image, text=text, width=12).build()


def test_a_run_begins_with_what_was_written(folders: Path) -> None:
    torch.manual_seed(5)
    image, text = IMAGE.build(), TEXT.build()
    pair = _pair(folders)
    assert not torch.equal(pair.image.state_dict()["stem.conv.weight"], image.state_dict()["stem.conv.weight"])
    pair.begin()
    for ours, expected in ((pair.image, image), (pair.text, text)):
        assert ours.state_dict().keys() == expected.state_dict().keys()
        assert all(torch.equal(x, expected.state_dict()[name]) for name, x in ours.state_dict().items())
    assert (folders / "text" / "tokenizer.json").read_text() == "{}"


def test_settings_remember_what_a_tower_is(folders: Path) -> None:
    """From then on the folder need not be there, as in a checkpoint."""
    value = {"image": {"kind": "folder", "folder": str(folders / "image"), "image": 64, "cells": True}}
    image = from_dict(_Recipe, value, where="recipe").image.resolved()
    recipe, said = _Recipe(image=image), to_dict(_Recipe(image=image))
    for file in (folders / "image").iterdir():
        file.unlink()
    (folders / "image").rmdir()
    assert from_dict(_Recipe, said, where="checkpoint") == recipe
    tower = recipe.image.build()
    assert isinstance(tower, EfficientNet)
    assert (tower.config.image, tower.width) == (64, 4 * IMAGE.build().width)
    with torch.no_grad():
        whole = IMAGE.read_as(64, cells=False).build()
        whole.load_state_dict(tower.state_dict())
        pictures = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
        cells = rearrange(tower.eval()(pictures), "b (p e) -> b p e", p=4)
        torch.testing.assert_close(cells.mean(dim=1), whole.eval()(pictures))
        moved = rearrange(tower(pictures.roll(32, dims=2)), "b (p e) -> b p e", p=4)
    assert (moved - cells[:, [1, 0, 3, 2]]).abs().mean() < (moved - cells).abs().mean(), "cells go from left to right"


def _empty(folder: Path) -> None:
    (folder / "COMMIT.json").unlink()


def _cut(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def _odd(folder: Path) -> None:
    (folder / "tower.json").write_text('{"reads": "pictures", "tower": {"kind": "efficientnet", "image": 64}}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_empty, "image is no tower: it has no COMMIT.json"),
        (_cut, "weights.safetensors"),
        (_odd, "tower.json"),
    ],
)
def test_damage_is_noticed(folders: Path, damage: Callable[[Path], None], message: str) -> None:
    pair = _pair(folders)
    damage(folders / "image")
    with pytest.raises(CheckpointError, match=message):
        pair.begin()


def test_what_cannot_be_is_refused(folders: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"text holds a tower that reads sentences, and this is to be a kind of im"
    ):
        FolderImageConfig(folder=str(folders / "text")).resolved()
    with pytest.raises(CheckpointError, match="nothing does not exist; make one with: vla tower"):
        read_tower_config(folders / "nothing", ImageTowerConfig)
    with pytest.raises(ConfigError, match="name the folder that vla tower wrote"):
        FolderTextConfig().build()
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        write_tower(folders / "image", IMAGE, IMAGE.build(), {})
    other = FolderImageConfig(folder=str(folders / "image"), tower=EfficientNetConfig(widths=0.25, image=64))
    with pytest.raises(CheckpointError, match="holds another tower than the recipe says"):
        other.begin(other.build())
    with pytest.raises(ConfigError, match="image=8, cells=False: one of kind vit reads the size that it was made"):
        FolderImageConfig(image=8, tower=VitConfig(tower=TowerConfig(**_VIT))).build()
