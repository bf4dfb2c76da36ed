"""Towers of any kind as sides of a two-tower model: they learn, or stay bit for bit what they were."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.learning import learn
from tests.pretrained import IMAGE, TEXT, pretrained, write_pretrained
from vla.core.config import from_dict, to_dict
from vla.core.errors import CheckpointError, ConfigError
from vla.models.contrastive.towers.config import EfficientNetConfig, VitConfig
from vla.models.contrastive.two_tower import TwoTower
from vla.models.freezing import Frozen
from vla.models.kinds.two_tower import (
    PictureTowerConfig,
    ProjectedPicturesConfig,
    ProjectedSentencesConfig,
    SentenceTowerConfig,
    TwoTowerConfig,
)
from vla.models.readers.tower_config import TowerConfig
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface

MakeBatch = Callable[..., Batch]
_VIT = TowerConfig(width=12, layers=1, heads=2, hidden=16, patch=8, image=16)
TOWERS = {
    "vit": VitConfig(tower=_VIT),
    "efficientnet": EfficientNetConfig(widths=0.125, depths=0.34, image=32, head=16),
}
LIT = ("pictures.tower.*",)


def _config(**changes: Any) -> TwoTowerConfig:
    sentences = ProjectedSentencesConfig(tower=replace(TEXT, words=40, length=8))
    pictures = ProjectedPicturesConfig(tower=TOWERS["vit"])
    values: dict[str, Any] = {"horizon": 3, "embedding": 16, "pictures": pictures, "sentences": sentences}
    return TwoTowerConfig(**values | {"hidden": 24, "layers": 1} | changes)


def _model(interface: Interface, **changes: Any) -> TwoTower:
    torch.manual_seed(0)
    model = _config(**changes).build(interface, {})
    assert isinstance(model, TwoTower)
    return model


def test_recipes_and_checkpoints_without_a_kind_mean_the_own_towers() -> None:
    values = {"pictures": {"width": 32, "heads": 2}, "sentences": {"layers": 3}}
    config = from_dict(TwoTowerConfig, values, where="a checkpoint")
    assert config.pictures == PictureTowerConfig(width=32, heads=2)
    assert config.sentences == SentenceTowerConfig(layers=3)
    again = from_dict(TwoTowerConfig, to_dict(_config()), where="a checkpoint")
    assert again == _config()
    with pytest.raises(ConfigError, match=r"unknown kind of model\.pictures 'towers': did you mean 'tower'"):
        from_dict(TwoTowerConfig, {"pictures": {"kind": "towers"}}, where="recipe.yaml")


@pytest.mark.parametrize("name", TOWERS)
def test_any_tower_learns(name: str, interface: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(6)
    model = _model(interface, pictures=ProjectedPicturesConfig(tower=TOWERS[name]))
    model.loss(batch.inputs, batch.targets)[0].backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    found = learn(model, batch, steps=25, lr=3e-3)
    assert found[-1]["contrast_loss"] < 0.8 * found[0]["contrast_loss"]
    assert set(model.blocks()) <= set(model.modules())
    assert len(model.blocks()) > TEXT.layers


def test_a_camera_is_told_from_another(interface: Interface) -> None:
    model = _model(interface).eval()
    picture = torch.randint(0, 256, (1, 20, 24, 3), dtype=torch.uint8).expand(2, -1, -1, -1)
    one, other = model.images(picture, torch.arange(2))
    torch.testing.assert_close(one, other)
    with torch.no_grad():
        model.pictures.view[1] += 1.0  # type: ignore[index, operator]
    one, other = model.images(picture, torch.arange(2))
    assert (one - other).abs().max() > 0.1


def _steps(model: TwoTower, frozen: Frozen, batch: Batch) -> set[str]:
    """What three steps have moved."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    for _ in range(3):
        frozen.train(model)
        optimiser.zero_grad()
        model.loss(batch.inputs, batch.targets)[0].backward()
        optimiser.step()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_tower_stays_and_keeps_nothing(interface: Interface, make_batch: MakeBatch) -> None:
    """Weights and statistics bit for bit; the very same steps without freezing move both."""
    pictures, batch = ProjectedPicturesConfig(tower=TOWERS["efficientnet"]), make_batch(4)
    model = _model(interface, pictures=pictures, action=0.0)
    seen = batch.inputs.images[:, -1, 0]
    frozen = Frozen(model, LIT)
    moved = _steps(model, frozen, batch)
    assert not [name for name in moved if name.startswith("pictures.tower.")]
    assert {"pictures.project.weight", "sentences.tower.words.weight"} <= moved
    vector = model.pictures.tower(seen)  # type: ignore[operator, union-attr]
    assert (vector.requires_grad, vector.grad_fn) == (False, None), "no graph: no activation is kept"
    model.eval()
    torch.testing.assert_close(model.pictures.tower(seen), vector, rtol=0, atol=0)  # type: ignore[operator, union-attr]
    whole = _model(interface, pictures=pictures, action=0.0)
    assert {"pictures.tower.stem.norm.running_mean", "pictures.tower.stem.conv.weight"} <= _steps(
        whole, Frozen(whole, ()), batch
    )


def test_a_run_begins_with_the_folders(interface: Interface, tmp_path: Path) -> None:
    config = from_dict(TwoTowerConfig, pretrained(tmp_path), where="recipe").resolved()
    assert config.sentences.knows_language
    model = config.build(replace(interface, words=TEXT.words), {})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.begin()
    torch.manual_seed(11)
    expected = IMAGE.build().state_dict()
    assert torch.equal(model.state_dict()["pictures.tower.stem.conv.weight"], expected["stem.conv.weight"])
    begun = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in begun} == {"pictures.tower", "sentences.tower"}
    words = replace(config, tokenizer=TwoTowerConfig().tokenizer)
    with pytest.raises(ConfigError, match=r"kind': 'words'}: the tower of sentences in .*text knows the tokens of its"):
        words.build(interface, {}).begin()


def test_what_does_not_fit_is_named(interface: Interface, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="knows 12 tokens and reads 6 of them at once, got a tokenizer of 40 and sen"):
        _model(interface, sentences=ProjectedSentencesConfig(tower=replace(TEXT, words=12, length=8)))
    nowhere = from_dict(
        TwoTowerConfig, {"pictures": {"kind": "tower", "tower": {"folder": str(tmp_path / "no")}}}, where=""
    )
    with pytest.raises(CheckpointError, match="no does not exist; make one with: vla tower"):
        nowhere.resolved()
    with pytest.raises(ConfigError, match="name the folder that vla tower wrote"):
        from_dict(TwoTowerConfig, {"pictures": {"kind": "tower"}}, where="").resolved()


def test_a_tower_of_another_width_is_refused(interface: Interface, tmp_path: Path) -> None:
    """The folder was made anew between the recipe and the run."""
    config = from_dict(TwoTowerConfig, pretrained(tmp_path), where="recipe").resolved()
    model = config.build(replace(interface, words=TEXT.words), {})
    for name in ("image", "text"):
        shutil.rmtree(tmp_path / name)
    write_pretrained(tmp_path, width=24)
    with pytest.raises(
        CheckpointError, match=r"text holds another tower than the recipe says: expected .*got .*'width': 24"
    ):
        model.begin()


def test_a_vit_is_what_sees_for_a_language_model(interface: Interface) -> None:
    model = _model(interface)
    assert model.meaning("pictures.tower.tower.blocks.0.qkv.weight") == "readers.images.tower.blocks.0.qkv.weight"
    assert model.meaning("pictures.tower.norm.weight") == "pictures.tower.norm.weight"
