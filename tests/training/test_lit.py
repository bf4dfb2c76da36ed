"""A run begins with pretrained towers and teaches one to read the other; its checkpoint needs neither folder."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pretrained import pretrained
from tests.training.conftest import MakeRecipe
from vla.core.config import from_dict, load_recipe
from vla.core.errors import CheckpointError, ConfigError
from vla.datasets.dataset import Dataset
from vla.models.checkpoint import load_model, open_checkpoint, read_tensors
from vla.models.contrastive.embedder import Embedder
from vla.models.kinds.two_tower import TwoTowerConfig
from vla.training.engines import train
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig

Change = Callable[[dict[str, Any]], None]


def _lit(make_recipe: MakeRecipe, data: Path, towers: dict[str, Any], **changes: Any) -> TrainConfig:
    """The recipe that comes with the project, made small."""
    ours = load_recipe(TrainConfig, "lit")
    model = from_dict(TwoTowerConfig, {"action": 0.0, "embedding": 24, **towers}, where="a test")
    small = make_recipe(
        data={"path": str(data), "strata": ours.data.strata},
        freeze=list(ours.freeze),
        evaluators=["held_out"],
        **changes,
    )
    return replace(small, model=model, optimiser=ours.optimiser)


def test_frozen_pictures_stay_and_sentences_move(make_recipe: MakeRecipe, described: Path, tmp_path: Path) -> None:
    towers = pretrained(tmp_path / "towers")
    folders = {side: tmp_path / "towers" / name for side, name in (("pictures", "image"), ("sentences", "text"))}
    begun = {side: read_tensors(open_checkpoint(path), "weights.safetensors") for side, path in folders.items()}
    checkpoint = train(_lit(make_recipe, described, towers, steps=3), tmp_path / "run")
    shutil.rmtree(tmp_path / "towers")
    _, model = load_model(checkpoint)
    found = model.state_dict()
    same = {
        side: [np.array_equal(found[f"{side}.tower.{name}"], value) for name, value in own.items()]
        for side, own in begun.items()
    }
    assert all(same["pictures"]), "weights, and what its norms have counted"
    assert not all(same["sentences"])
    embedder, episode = Embedder.open(checkpoint, device="cpu"), Dataset.open(described).read_episode(0)
    vectors = embedder.images(episode.images[embedder.camera])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert embedder.unknown(["a crimson cube"]) == [], "its tower of sentences has read more than the captions"
    one, other = embedder.texts(["a crimson cube", "a red block"])
    assert not np.allclose(one, other)
    assert {"contrast_loss", "recall_at_1"} <= {key for line in read_metrics(tmp_path / "run") for key in line}


def _no_folder(towers: dict[str, Any]) -> None:
    shutil.rmtree(towers["pictures"]["tower"]["folder"])


def _words(towers: dict[str, Any]) -> None:
    towers["tokenizer"] = {"kind": "words"}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_no_folder, CheckpointError, "image does not exist; make one with: vla tower efficientnet-lite0"),
        (_words, ConfigError, r"model\.tokenizer={'kind': 'words'}: the tower of sentences in .*/text knows"),
    ],
)
def test_what_does_not_fit_ends_the_run_before_it_begins(
    change: Change, error: type[Exception], words: str, make_recipe: MakeRecipe, described: Path, tmp_path: Path
) -> None:
    towers = pretrained(tmp_path / "towers")
    change(towers)
    with pytest.raises(error, match=words):
        train(_lit(make_recipe, described, towers, steps=1), tmp_path / "run")
