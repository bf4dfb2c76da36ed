"""Towers compute what transformers' do, from the same weights, and each plausible mistake is noticed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tests.models.learning import learn
from vla.core.config import from_dict, to_dict
from vla.core.errors import CheckpointError, ConfigError
from vla.models.model import Model
from vla.models.readers import tower_grafting
from vla.models.readers.config import HfTowerConfig, ReaderConfig, StateConfig, TextConfig
from vla.models.readers.hf_tower import HfTowerReader
from vla.models.readers.tower import Tower, TowerBlock
from vla.models.readers.tower_config import TowerConfig
from vla.models.readers.tower_grafting import read_tower_config, tower_from, tower_from_hf
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary

MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., Model]
_SIZES: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 4}
_MLP = {"intermediate_size": 20}
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "siglip": ("SiglipVision", {**_MLP, "image_size": 12}),
    "siglip2": ("Siglip2Vision", {**_MLP, "num_patches": 9}),
    "dinov2": ("Dinov2", {"mlp_ratio": 2, "image_size": 12}),
    "dinov2 swiglu": ("Dinov2", {"mlp_ratio": 2, "image_size": 12, "use_swiglu_ffn": True}),
    "clip": ("CLIPVision", {**_MLP, "image_size": 12}),
}
_IMAGES = torch.randint(0, 256, (3, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
every_family = pytest.mark.parametrize("family", _FAMILIES)


def _theirs(family: str) -> Any:
    import transformers

    name, sizes = _FAMILIES[family]
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**_SIZES, **sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def _expected(theirs: Any, tower: Tower) -> Tensor:
    """Its vectors of the patches, from pixels that are scaled here."""
    mean, std = (torch.tensor(values) for values in (tower.config.mean, tower.config.std))
    pixels = rearrange((_IMAGES / 255 - mean) / std, "b y x c -> b c y x")
    if theirs.config.model_type == "siglip2_vision_model":
        patches = F.unfold(pixels, 4, stride=4)  # (b, c y x, p)
        patches = rearrange(patches, "b (c y x) p -> b p (y x c)", c=3, y=4)
        shapes = torch.tensor([[3, 3]] * 3)
        hidden = theirs(patches, torch.ones(3, 9, dtype=torch.bool), shapes).last_hidden_state
    else:
        hidden = theirs(pixels).last_hidden_state
    found: Tensor = hidden[:, -9:]
    return found


@every_family
def test_vectors_of_patches_are_theirs(family: str) -> None:
    theirs = _theirs(family)
    tower = tower_from_hf(theirs)
    assert tower.config.mean != (0.5,) * 3 or family.startswith("siglip")
    torch.testing.assert_close(tower(_IMAGES), _expected(theirs, tower), atol=1e-5, rtol=1e-5)


def _columns_first(tower: Tower) -> None:
    weight = tower.project.weight
    tower.project.weight = nn.Parameter(rearrange(weight.detach(), "e (y x c) -> e (x y c)", y=4, x=4))


def _other_heads(tower: Tower) -> None:
    for block in tower.blocks:
        assert isinstance(block, TowerBlock)
        block.heads = 4


def _unscaled(tower: Tower) -> None:
    tower.config = replace(tower.config, mean=(0.4,) * 3)


def _places(tower: Tower) -> None:
    tower.position.weight = nn.Parameter(tower.position.weight.detach().flip(0))


def _one_norm(tower: Tower) -> None:
    for block in tower.blocks:
        assert isinstance(block, TowerBlock)
        block.norm_mlp = block.norm_attention


def _other_gelu(tower: Tower) -> None:
    for block in tower.blocks:
        assert isinstance(block, TowerBlock)
        block.activation, block.gate = "quick_gelu" if block.activation != "quick_gelu" else "gelu", None


@every_family
@pytest.mark.parametrize("mistake", [_columns_first, _other_heads, _unscaled, _places, _one_norm, _other_gelu])
@torch.no_grad()
def test_a_mistake_is_noticed(family: str, mistake: Callable[[Tower], None]) -> None:
    theirs = _theirs(family)
    tower = tower_from_hf(theirs)
    mistake(tower)
    assert (tower(_IMAGES) - _expected(theirs, tower_from_hf(theirs))).abs().max() > 1e-3


@every_family
def test_a_tensor_too_many_or_too_few_is_named(family: str) -> None:
    theirs = _theirs(family)
    config, weights = tower_from_hf(theirs).config, theirs.state_dict()
    with pytest.raises(CheckpointError, match=r"too many \['encoder.registers'\]"):
        tower_from(weights | {"encoder.registers": torch.zeros(2)}, config)
    left = ("head.", "embeddings.mask_token", *(["post_layernorm"] if family == "clip" else []))
    for name in weights:
        fewer = {key: value for key, value in weights.items() if key != name}
        if name.startswith(left):
            tower_from(fewer, config)
            continue
        with pytest.raises(CheckpointError, match="missing"):
            tower_from(fewer, config)
    up = next(name for name in weights if ".0.mlp." in name and ("fc1.bias" in name or "up_proj.bias" in name))
    with pytest.raises(CheckpointError, match=r"wrong shape \['blocks.0.up.bias \(3,\), not"):
        tower_from(weights | {up: torch.zeros(3)}, config)


@every_family
def test_a_folder_is_read_and_its_pixels_are_as_it_says(family: str, tmp_path: Path) -> None:
    theirs = _theirs(family)
    theirs.save_pretrained(tmp_path)
    tower = tower_from_hf(tmp_path)
    assert read_tower_config(tmp_path) == tower.config
    torch.testing.assert_close(tower(_IMAGES), _expected(theirs, tower), atol=1e-5, rtol=1e-5)
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert read_tower_config(tmp_path).mean == (0.1, 0.2, 0.3)
    assert tower_from_hf(tmp_path).config.std == (0.5, 0.6, 0.7)


def test_the_tower_of_a_whole_model_is_taken(tmp_path: Path) -> None:
    import transformers

    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**_SIZES, **_MLP, "image_size": 12}, projection_dim=6
    )
    torch.manual_seed(0)
    theirs = transformers.CLIPModel(config).eval()
    theirs.save_pretrained(tmp_path)
    tower = tower_from_hf(tmp_path)
    torch.testing.assert_close(tower(_IMAGES), _expected(theirs.vision_model, tower), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(model_type="llama"), "family llama, not one of siglip, siglip2, dinov2, clip"),
        (lambda said: said.pop("model_type"), "names no model_type"),
        (lambda said: said.update(hidden_act="relu"), "activation relu, not one of"),
        (lambda said: said.update(num_channels=4), "4 channels, not 3"),
        (lambda said: said.update(image_size=13), "pictures of 13 pixels, which patches of 4 do not fill"),
    ],
)
def test_what_is_not_computed_is_refused(change: Callable[[Any], object], message: str, tmp_path: Path) -> None:
    _theirs("siglip").save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    change(said)
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=message):
        read_tower_config(tmp_path)


def test_a_folder_that_is_missing_or_without_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere holds no config\.json"):
        HfTowerConfig(folder=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="name the folder of a vision model"):
        HfTowerConfig()
    _theirs("clip").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="its weights cannot be read"):
        tower_from_hf(tmp_path)
    for changes, message in (({"heads": 5}, "must be a multiple of heads=5"), ({"std": (0.5, 0.5, 0.0)}, "std")):
        with pytest.raises(ConfigError, match=message):
            replace(TowerConfig(width=12, layers=1, heads=3, hidden=8, patch=4, image=12), **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _theirs("siglip").save_pretrained(tmp_path / "tower")
    return tmp_path / "tower"


def _config(folder: Path) -> HfTowerConfig:
    return HfTowerConfig(folder=str(folder))


@torch.no_grad()
def test_tokens_are_the_tower_s_of_each_moment_and_camera(
    folder: Path, interface: Interface, make_batch: MakeBatch
) -> None:
    """Pictures of another size are stretched; a camera that is not there has tokens that nobody sees."""
    twice = replace(interface, history=2)
    batch, reader = make_batch(interface=twice, size=2), HfTowerReader(_config(folder), twice, 8)
    reader.begin()
    table = TokenTable(Vocabulary({"special": len(SPECIALS)}), 8)
    valid = torch.tensor([[True, False], [True, True]])
    segment = reader(replace(batch.inputs, camera_valid=valid), {}, table, {})
    assert segment.x.shape == (2, 2 * 2 * 9, 8)
    found = segment.x.view(2, 2, 2, 9, 8)
    tower = tower_from_hf(folder)
    for moment in range(2):
        for camera in range(2):
            seen = reader.project(tower(batch.inputs.images[:, moment, camera]))
            expected = seen + reader.view.weight[camera] + reader.time[moment]
            torch.testing.assert_close(found[:, moment, camera], expected, atol=1e-5, rtol=1e-5)
    assert segment.valid.view(2, 2, 2, 9).all(dim=-1)[:, 0].tolist() == valid.tolist()


def test_a_model_begins_with_it_learns_beside_it_and_needs_no_folder_afterwards(
    folder: Path, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    readers = {"text": TextConfig(heads=3), "images": _config(folder), "state": StateConfig(dropout=0.0)}
    model, batch = make_model(readers=readers, auxiliaries={}), make_batch()
    model.begin()
    theirs = {f"readers.images.tower.{name}": value for name, value in tower_from_hf(folder).state_dict().items()}
    own = model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in theirs.items())
    fresh = make_model(readers=readers, auxiliaries={}).state_dict()
    assert not any(torch.equal(fresh[name], value) for name, value in theirs.items() if "qkv" in name)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".tower." not in name)
    losses = learn(model, batch, steps=12, lr=3e-3)
    assert losses[-1]["action_loss"] < 0.9 * losses[0]["action_loss"]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in theirs.items())
    said = to_dict(readers["images"])
    for file in folder.iterdir():
        file.unlink()
    again = from_dict(HfTowerConfig, said, where="a checkpoint")
    assert again == readers["images"]
    assert isinstance(again, ReaderConfig)


def test_a_folder_with_another_tower_than_the_recipe_says_is_refused(folder: Path, interface: Interface) -> None:
    config = _config(folder)
    assert config.tower is not None
    other = HfTowerConfig(folder=str(folder), tower=replace(config.tower, layers=1))
    with pytest.raises(CheckpointError, match="holds another tower than the recipe says"):
        HfTowerReader(other, interface, 8).begin()


def test_what_each_family_was_trained_on_is_known() -> None:
    assert tower_grafting._HALF == ((0.5,) * 3, (0.5,) * 3)
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    assert list(map(list, tower_grafting._IMAGENET)) == [IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD]
    assert list(map(list, tower_grafting._CLIP)) == [OPENAI_CLIP_MEAN, OPENAI_CLIP_STD]
