"""The chain: a language model of the dataset's text, then a policy that begins with it and leaves it as it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vla.core.config import from_dict, to_dict
from vla.core.errors import ConfigError
from vla.models.checkpoint import load_model
from vla.models.language.model import LanguageModel
from vla.models.unified import UnifiedTransformer
from vla.training.engines import train
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples

MakeRecipe = Callable[..., TrainConfig]
TRUNK = {"width": 32, "layers": 2, "heads": 2, "rope": 10000.0, "gated": True}
FLAMINGO: dict[str, Any] = {
    "trunk": TRUNK,
    "causal": True,
    "cross_every": 1,
    "readers": {
        "text": {"kind": "text", "layers": 0, "behind": ["images"]},
        "images": {
            "kind": "connected",
            "tower": {"width": 16, "layers": 1, "heads": 2, "hidden": 16, "patch": 16, "image": 32},
            "connector": {"kind": "resampler", "latents": 4, "layers": 1, "heads": 2},
            "aside": True,
        },
    },
    "head": {"kind": "mip"},
    "auxiliaries": {"grounding": None, "pointing": {"kind": "matching", "channels": 16}},
    "writers": {"answers": {"kind": "text"}},
}


@pytest.fixture
def recipe(asked: Path, make_recipe: MakeRecipe) -> MakeRecipe:
    data = {"path": str(asked), "validation": 0.25, "strata": {"questions": 0.5}}

    def make(model: dict[str, Any], **changes: Any) -> TrainConfig:
        base = make_recipe(data=data, evaluators=["held_out"], **changes)
        return from_dict(TrainConfig, to_dict(base) | {"model": model}, where="a test")

    return make


@pytest.fixture
def language(recipe: MakeRecipe, tmp_path: Path) -> Path:
    config = recipe({"kind": "language", "trunk": TRUNK}, steps=40, optimiser={"lr": 1e-2})
    return train(config, tmp_path / "language")


def test_words_are_learned(language: Path, recipe: MakeRecipe) -> None:
    lines = [line for line in read_metrics(language.parent) if line["kind"] == "train"]
    for name in ("language_loss", "answer_loss"):
        assert lines[-1][name] < 0.7 * lines[0][name], name
    _, model = load_model(language)
    assert isinstance(model, LanguageModel)
    samples = open_samples(recipe({"kind": "language", "trunk": TRUNK}))
    batch = samples.held_out(torch.arange(4).numpy())
    model.eval()
    written = model.write("answers", batch.inputs)
    assert written.known.any()
    # It reads words in their order, and not what it would see.
    changed = batch.inputs.text.clone()
    changed[:, 2] = (changed[:, 2] + 1) % model.interface.words
    with torch.no_grad():
        one = model.read(batch.inputs).hidden["text"]
        two = model.read(replace(batch.inputs, text=changed)).hidden["text"]
    assert torch.equal(one[:, :2], two[:, :2])
    assert not torch.equal(one[:, 2:], two[:, 2:])
    with pytest.raises(ConfigError, match="does not act"):
        model.act(batch.inputs)


def test_a_policy_begins_with_it_and_leaves_it_as_it_is(language: Path, recipe: MakeRecipe, tmp_path: Path) -> None:
    frozen = ["trunk.blocks.*", "trunk.norm.*", "table.*"]
    heard: list[dict[str, Any]] = []
    config = recipe(FLAMINGO, init=str(language), freeze=frozen, steps=3)
    _, model = load_model(train(config, tmp_path / "flamingo", heard.append))
    _, began = load_model(language)
    assert isinstance(model, UnifiedTransformer)
    ours, theirs = model.state_dict(), began.state_dict()
    kept = [name for name in theirs if name.startswith(("trunk.", "table."))]
    assert len(kept) > 10
    assert all(torch.equal(ours[name], theirs[name]) for name in kept)
    (event,) = [line for line in heard if line["kind"] == "init"]
    left = [fate for fate in event["fates"] if fate["verdict"] == "left"]
    assert left == []  # all of the language model has its place
    assert model.trunk.between is not None
    assert all(gate.abs().sum() > 0 for name, gate in model.named_parameters() if name.endswith("_opening"))


def test_fusion_begins_with_what_two_towers_have_seen(recipe: MakeRecipe, tmp_path: Path) -> None:
    own = {"width": 16, "heads": 2}
    pictures = {**own, "channels": 6, "tokens": 2, "layers": 1}
    towers = {
        "kind": "two-tower",
        "embedding": 8,
        "pictures": pictures,
        "sentences": {**own, "layers": 1},
        "hidden": 16,
    }
    _, began = load_model(path := train(recipe(towers, steps=2), tmp_path / "towers"))
    readers = FLAMINGO["readers"]
    tower = readers["images"]["tower"] | {"channels": 6}
    changed = FLAMINGO | {
        "readers": readers | {"images": readers["images"] | {"tower": tower}},
        "auxiliaries": {"grounding": None, "pointing": {"kind": "matching", "channels": 6}},
    }
    stays = ["readers.images.tower.stem.*"]
    _, model = load_model(train(recipe(changed, init=str(path), freeze=stays, steps=2), tmp_path / "fusion"))
    theirs = {
        n.removeprefix("pictures.stem."): x for n, x in began.state_dict().items() if n.startswith("pictures.stem.")
    }
    ours = model.state_dict()
    assert len(theirs) == 8
    assert all(torch.equal(ours[f"readers.images.tower.stem.{name}"], value) for name, value in theirs.items())
