"""A two-tower model from demonstrations with captions to vectors that find them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.conftest import MakeRecipe
from vla.core.errors import CheckpointError, ConfigError, ContractError
from vla.core.types import PART, SCENE
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.windows import Windows
from vla.models.contrastive.embedder import Embedder
from vla.training.engines import train
from vla.training.strata import STRATA

TOWERS: dict[str, Any] = {
    "kind": "two-tower",
    "embedding": 24,
    "pictures": {"width": 16, "channels": 8, "tokens": 4, "layers": 1, "heads": 2},
    "sentences": {"width": 16, "layers": 1, "heads": 2},
    "hidden": 16,
    "layers": 1,
}


@pytest.fixture(scope="module")
def checkpoint(make_recipe: MakeRecipe, described: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(_recipe(make_recipe, described), tmp_path_factory.mktemp("towers") / "run")


def _recipe(make_recipe: MakeRecipe, data: Path, **changes: Any) -> Any:
    from dataclasses import replace

    from vla.core.config import from_dict
    from vla.models.kinds.two_tower import TwoTowerConfig

    model = from_dict(TwoTowerConfig, TOWERS | changes.pop("model", {}), where="a test")
    recipe = make_recipe(data={"path": str(data), "strata": {"scenes": 0.4, "parts": 0.2}}, **changes)
    return replace(recipe, model=model)


def test_strata_draw_captions_of_their_kind(described: Path) -> None:
    dataset = Dataset.open(described)
    windows = Windows(dataset, 3, written={"answer"})
    kinds = [q.kind for _, questions in dataset.episodes.questions() for q in questions]
    for name, kind in (("scenes", SCENE), ("parts", PART)):
        items = np.flatnonzero(STRATA[name](windows))
        assert len(items) == kinds.count(kind) > 0
        answers = {windows.answers[number] for number in windows.batch(items)["answer"]}
        said = {q.answer for _, questions in dataset.episodes.questions() for q in questions if q.kind == kind}
        assert answers == said
    assert not (STRATA["scenes"](windows) & STRATA["parts"](windows)).any()
    assert not STRATA["scenes"](Windows(dataset, 3)).any()


def test_captions_want_a_stratum(make_recipe: MakeRecipe, described: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    recipe = _recipe(make_recipe, described)
    with pytest.raises(ConfigError, match=r"or of captions alone: scenes: 0\.4, parts: 0\.2"):
        train(replace(recipe, data=replace(recipe.data, strata={"approach": 0.5})), tmp_path / "run")


def test_an_embedder_gives_vectors_that_rest_upon_nothing_else(checkpoint: Path, described: Path) -> None:
    embedder = Embedder.open(checkpoint, device="cpu")
    episode = Dataset.open(described).read_episode(0)
    pictures = episode.images[embedder.camera]
    found = embedder.images(pictures)
    assert found.shape == (len(episode), embedder.width) == (len(episode), 24)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(embedder.images(pictures[3:4]), found[3:4], atol=1e-5)
    sentences = ["a red block on a blue plate", episode.questions[0].answer, "a"]
    said = embedder.texts(sentences)
    np.testing.assert_allclose(np.linalg.norm(said, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(embedder.texts(sentences[:1]), said[:1], atol=1e-5)
    np.testing.assert_allclose(embedder.logits(found, said), found @ said.T / 0.07, rtol=0.05, atol=0.5)
    assert embedder.images(pictures[:0]).shape == embedder.texts([]).shape == (0, 24)
    assert embedder.unknown(["a purple block", "a red cup"]) == ["cup", "purple"]
    assert embedder.digest == Embedder.open(checkpoint).digest


def test_an_embedder_refuses_what_it_has_not_learned(checkpoint: Path, tmp_path: Path) -> None:
    embedder = Embedder.open(checkpoint)
    with pytest.raises(ContractError, match="sees pictures of 32x32, got 20x24; render or resize"):
        embedder.images(np.zeros((2, 20, 24, 3), np.uint8))
    with pytest.raises(ContractError, match="has 500 tokens"):
        embedder.texts(["red " * 500])
    with pytest.raises(CheckpointError, match="does not exist"):
        Embedder.open(tmp_path / "none")


@pytest.mark.parametrize("change", [{"contrast": 0.0}, None])
def test_an_embedder_refuses_other_models(
    change: dict[str, Any] | None, make_recipe: MakeRecipe, described: Path, dataset: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(steps=1) if change is None else _recipe(make_recipe, dataset, model=change, steps=1)
    with pytest.raises(CheckpointError, match="embeds nothing: expected a model of kind two-tower"):
        Embedder.open(train(recipe, tmp_path / "run"))


def test_one_that_only_embeds_is_measured_by_that(make_recipe: MakeRecipe, described: Path, tmp_path: Path) -> None:
    from vla.training.metrics import read_metrics

    with pytest.raises(ConfigError, match="the model does not act; let held_out alone measure it"):
        _recipe(make_recipe, described, model={"action": 0.0})
    run = tmp_path / "run"
    recipe = _recipe(make_recipe, described, model={"action": 0.0}, evaluators=["held_out"], steps=2)
    assert Embedder.open(train(recipe, run)).width == 24
    found = {key for line in read_metrics(run) for key in line}
    assert {"contrast_loss", "recall_at_1"} <= found
    assert "action_loss" not in found
