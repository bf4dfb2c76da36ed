"""From demonstrations that are asked where things are to a checkpoint that answers with boxes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla import collect
from vla.bench.modalities.bench import bench_modalities
from vla.bench.settings import ModalitiesConfig
from vla.cli.writing.ask import main as ask
from vla.cli.writing.scene import framed
from vla.core.errors import ConfigError
from vla.core.media.boxes import GRID, Box, read_box
from vla.core.types import BOX
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.windows import Windows
from vla.training.augmentation.config import AugmentationConfig
from vla.training.engines import train
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples
from vla.training.strata import STRATA

MakeRecipe = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations with questions of both kinds."""
    root = tmp_path_factory.mktemp("boxed") / "data"
    collect(root, env="tabletop/place", settings={"image_size": 32}, episodes=4, questions=2, boxes=3, workers=1)
    return root


@pytest.fixture
def recipe(boxed: Path, make_recipe: MakeRecipe) -> TrainConfig:
    strata = {"questions": 0.2, "boxes": 0.4}
    return make_recipe(
        data={"path": str(boxed), "validation": 0.25, "strata": strata},
        model={
            "trunk": {"width": 32, "layers": 1, "heads": 2},
            "readers": {"text": {"kind": "text"}, "images": {"kind": "images", "channels": 8, "tokens": 4}},
            "head": {"bins": 16},
            "auxiliaries": {"grounding": {"kind": "grounding", "bins": 8}},
            "writers": {"answers": {"kind": "text"}},
        },
        steps=2,
    )


def test_a_share_of_each_batch_is_boxes(boxed: Path, recipe: TrainConfig) -> None:
    data = Dataset.open(boxed)
    windows = Windows(data, 4, written=("answer",))
    asked = [q for _, found in data.episodes.questions() for q in found]
    own = STRATA["boxes"](windows)
    assert own.sum() == sum(q.kind == BOX for q in asked) == 4 * 3
    answers = [windows.answers[i] for i in windows.batch(np.flatnonzero(own))["answer"]]
    assert all(read_box(answer) is not None for answer in answers)
    others = [windows.answers[i] for i in windows.batch(np.flatnonzero(windows.asks() & ~own))["answer"]]
    assert others
    assert all(read_box(answer) is None for answer in others)
    samples = open_samples(recipe)
    preprocessor = samples.blueprint.preprocessor
    assert preprocessor.answer_tokens >= 5
    for answer in answers:
        assert preprocessor.tokenizer.decode(preprocessor.tokenizer.ids(answer)) == answer


@pytest.mark.parametrize("change", [{"shift": 0.05}, {"crop": 0.1}])
def test_pictures_that_are_moved_would_make_answers_wrong(
    recipe: TrainConfig, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"move what is seen, and answers of the data say where that is"):
        train(replace(recipe, augmentation=AugmentationConfig(**change)), tmp_path / "run")


def test_a_run_is_asked_where_things_are(recipe: TrainConfig, tmp_path: Path) -> None:
    checkpoint = train(recipe, tmp_path / "run")
    asked = [f"where is the {colour} {thing}?" for colour in ("red", "green", "blue") for thing in ("block", "plate")]
    files = {name: tmp_path / f"asked.{name}" for name in ("json", "png")}
    written = ["--json", str(files["json"]), "--out", str(files["png"])]
    assert ask([str(checkpoint), *asked, "--set", "image_size=32", *written]) == 0
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    rows = json.loads(files["json"].read_text())["answers"]
    known = [row["right"] for row in rows if row["right"]]
    assert known
    assert all(read_box(right) is not None for right in known)
    assert all("?" not in row["question"] for row in rows)
    config = ModalitiesConfig(checkpoint=str(checkpoint), scenes=1, questions=1, boxes=2)
    found = {row.name.split(",")[1].split(" (")[0].strip(): row for row in bench_modalities(config, lambda text: None)}
    titles = ("mean of 1 - intersection over union", "intersection over union below a half")
    for title in (*titles, "centre outside of the thing's"):
        assert 0 <= found[title].value <= 100
        assert found[title].against is not None


def test_a_frame_is_drawn_along_the_edge_of_a_box() -> None:
    picture = np.zeros((128, 256, 3), np.uint8)
    drawn = framed(picture, [Box(10, 20, 12, 22), Box(GRID - 1, GRID - 1, GRID - 1, GRID - 1)])
    rows, columns = np.nonzero(drawn.any(axis=-1))
    inner = (rows < 100, columns < 100)
    assert (rows[inner[0]].min(), rows[inner[0]].max(), columns[inner[1]].min(), columns[inner[1]].max()) == (
        *(40, 45),
        *(40, 51),
    )
    assert not drawn[41:45, 41:51].any()
    assert drawn[-1, -1].tolist() == [255, 0, 255]
    assert not picture.any()
