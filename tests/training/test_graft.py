"""A language model as the trunk of a recipe: its weights, its tokenizer, and no need of its folder afterwards."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla.core.errors import CheckpointError, ConfigError
from vla.core.types import Observation
from vla.models.checkpoint import load_model
from vla.models.grafting import from_hf
from vla.models.kinds.unified import UnifiedConfig
from vla.models.text.pieces import PieceTokenizer
from vla.models.trunk.config import TransformerConfig
from vla.policies.learned import LearnedPolicy
from vla.training.engines import train
from vla.training.recipe import TrainConfig

MakeRecipe = Callable[..., TrainConfig]
WORDS = ["put the red block on the blue plate", "open the drawer"]
READERS: dict[str, Any] = {"text": {"kind": "text", "layers": 0}, "images": {"kind": "images", "channels": 8}}


def _language_model(folder: Path, vocabulary: int) -> Path:
    import transformers

    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        **{"vocab_size": vocabulary, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "tie_word_embeddings": True},
    )
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(PieceTokenizer.fit(WORDS, 300).to_json())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _language_model(tmp_path / "lm", 320)


def _recipe(make_recipe: MakeRecipe, folder: Path, **changes: Any) -> TrainConfig:
    model = {"graft": str(folder), "readers": READERS, "head": {"bins": 16}, "auxiliaries": {"pointing": None}}
    config = make_recipe(**changes)
    return replace(config, model=_unified(model))


def _unified(values: dict[str, Any]) -> UnifiedConfig:
    from vla.core.config import from_dict

    return from_dict(UnifiedConfig, values, where="a test")


def test_it_learns_and_acts_without_the_folder(make_recipe: MakeRecipe, folder: Path, tmp_path: Path) -> None:
    recipe = _recipe(make_recipe, folder, steps=3, freeze=["trunk.*"])
    checkpoint = train(recipe, tmp_path / "run")
    theirs, words = from_hf(folder)
    shutil.rmtree(folder)
    blueprint, model = load_model(checkpoint)
    own = model.state_dict()
    for name, value in theirs.state_dict().items():
        assert torch.equal(own[f"trunk.{name}"], value), name
    tokens = len(blueprint.preprocessor.tokenizer)
    assert 256 < tokens <= 300
    assert not torch.equal(own["table.weight"][:tokens], words.weight[:tokens])  # it was not frozen
    torch.testing.assert_close(own["table.weight"][:tokens], words.weight[:tokens], atol=0.05, rtol=0)
    policy = LearnedPolicy(checkpoint)
    images = {c.name: np.zeros(c.shape, np.uint8) for c in policy.contract.cameras}
    state = np.zeros(len(policy.contract.state), np.float32)
    (chunk,) = policy.act([Observation(images=images, state=state, instruction=WORDS[0], time_ns=0)])
    assert chunk is not None
    assert np.isfinite(chunk.actions).all()


def test_low_ranks_adapt_it(make_recipe: MakeRecipe, folder: Path, tmp_path: Path) -> None:
    """What is merged into the checkpoint differs from theirs by a matrix of that rank."""
    recipe = _recipe(make_recipe, folder, steps=3, lora={"rank": 2, "train": ["head.*", "readers.*", "auxiliaries.*"]})
    checkpoint = train(recipe, tmp_path / "run")
    own, (theirs, words) = load_model(checkpoint)[1].state_dict(), from_hf(folder)
    assert torch.equal(own["table.weight"][:256], words.weight[:256])
    for name, value in theirs.state_dict().items():
        change = own[f"trunk.{name}"] - value
        assert (torch.linalg.matrix_rank(change) <= 2) if "norm" not in name else not change.any(), name
        assert change.any() or "norm" in name, name


def test_what_does_not_fit_is_refused(make_recipe: MakeRecipe, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere holds no config.json: give the folder of a model"):
        train(_recipe(make_recipe, tmp_path / "nowhere"), tmp_path / "a")
    sized = _recipe(make_recipe, folder)
    assert isinstance(sized.model, UnifiedConfig)
    wide = replace(sized, model=replace(sized.model, trunk=TransformerConfig(width=64)))
    with pytest.raises(ConfigError, match=r"says what the trunk is; leave its sizes out of model.trunk"):
        train(wide, tmp_path / "b")
    small = _language_model(tmp_path / "small", 200)
    with pytest.raises(CheckpointError, match=r"has a table of 200 tokens, and its tokenizer knows \d+; take the"):
        train(_recipe(make_recipe, small), tmp_path / "c")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"lm has no tokenizer.json"):
        train(_recipe(make_recipe, folder), tmp_path / "d")
