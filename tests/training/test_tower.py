"""A run begins with a vision tower of Hugging Face, keeps it frozen, and goes on and is loaded without its folder."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vla.core.errors import CheckpointError
from vla.library import train as vla_train
from vla.models.checkpoint import load_model
from vla.models.readers.tower_grafting import tower_from_hf
from vla.policies.checker import check_policy
from vla.policies.learned import LearnedPolicy
from vla.training.engines import train
from vla.training.recipe import TrainConfig

MakeRecipe = Callable[..., TrainConfig]


def _tower(folder: Path) -> Path:
    transformers: Any = pytest.importorskip("transformers", reason="a tower of Hugging Face needs transformers")
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 16}
    torch.manual_seed(0)
    config = transformers.SiglipVisionConfig(**sizes, image_size=16, patch_size=8, vision_use_head=False)
    transformers.SiglipVisionModel(config).save_pretrained(folder)
    return folder


def test_it_is_taken_frozen_kept_and_needs_no_folder_afterwards(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    folder = _tower(tmp_path / "siglip")
    model = {
        "trunk": {"width": 32, "layers": 1, "heads": 2},
        "readers": {"images": {"kind": "hf-tower", "folder": str(folder)}},
        "head": {"bins": 16},
        "auxiliaries": {"grounding": {"bins": 8}, "pointing": None},
    }
    config = make_recipe(model=model, freeze=["readers.images.tower.*"], steps=2)
    theirs = tower_from_hf(folder).state_dict()
    checkpoint = train(config, tmp_path / "run")
    shutil.rmtree(folder)
    found = load_model(checkpoint)[1].state_dict()
    assert all(torch.equal(found[f"readers.images.tower.{name}"], value) for name, value in theirs.items())
    check_policy(LearnedPolicy(checkpoint))
    longer = vla_train(None, tmp_path / "run", resume=True, changes={"steps": 3})
    assert longer.steps == 3
    again = load_model(longer.checkpoint)[1].state_dict()
    assert all(torch.equal(again[f"readers.images.tower.{name}"], value) for name, value in theirs.items())
    assert not torch.equal(again["readers.images.project.weight"], found["readers.images.project.weight"])
    with pytest.raises(CheckpointError, match=r"siglip holds no config\.json: give the folder of a vision model"):
        train(config, tmp_path / "another")
