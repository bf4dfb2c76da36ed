"""What is asked of a two-tower model: each sentence that should be told from another is false."""

from pathlib import Path

import numpy as np
import pytest

from vla import collect
from vla.bench.towers.captions import captions, exchanged, opposite, pictures, resting, swapped, turned, unique_scenes
from vla.bench.towers.retrieval import ranks
from vla.core.types import SCENE
from vla.datasets.dataset import Dataset


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("described") / "data"
    collect(root, env="tabletop/place", settings={"image_size": 16}, episodes=10, captions=3, parts=6, workers=1)
    return Dataset.open(root)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("a red block on a blue plate", "a blue block on a red plate"),
        ("a red block on a red plate", None),
        ("a red block left of a blue block", None),
        ("a red block held", None),
        ("a red block held, a blue plate left of a red plate", "a blue block held, a red plate left of a red plate"),
    ],
)
def test_colours_are_exchanged(text: str, other: str | None) -> None:
    assert swapped(text) == other


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("a red block left of a blue plate", "a red block right of a blue plate"),
        ("a red block behind a blue plate", "a red block in front of a blue plate"),
        ("a red block left of and behind a blue plate, which is left of a green block", None),
        ("a red block on a blue plate", None),
    ],
)
def test_sides_are_turned_round(text: str, other: str | None) -> None:
    assert opposite(text) == other


def test_pairs_are_of_true_sentences_and_false_ones(described: Dataset) -> None:
    every = captions(described, np.arange(len(described.episodes)))
    said = {(c.episode, c.question.step): c.text for c in every if c.question.kind == SCENE}
    lying, whole, beside = ([*kind(every)] for kind in (resting, exchanged, turned))
    assert lying
    assert whole
    assert beside
    assert all(" on " in caption.text and other != caption.text for caption, other in lying)
    assert {caption.question.text for caption, _ in lying} == {"what lies on what"}
    assert {caption.question.text for caption, _ in beside} == {"what is beside what"}
    own: dict[int, set[str]] = {}
    for caption in every:
        own.setdefault(caption.episode, set()).add(caption.text)
    assert not any(other in own[caption.episode] for pairs in (lying, beside) for caption, other in pairs)
    assert not any(said[caption.episode, caption.question.step] == other for caption, other in whole)


def test_scenes_are_unique_and_one_of_an_episode(described: Dataset) -> None:
    every = captions(described, np.arange(len(described.episodes)))
    scenes = unique_scenes(every, 8, seed=0)
    assert 5 < len(scenes) <= 8
    assert len({scene.text for scene in scenes}) == len({scene.episode for scene in scenes}) == len(scenes)
    twice = [*every, *(c for c in every)]
    assert {s.text for s in unique_scenes(twice, 8, seed=0)} <= {c.text for c in every}
    found = pictures(described, "front", scenes)
    for scene, picture in zip(scenes, found, strict=True):
        frames = described.read_episode(scene.episode).images["front"]
        np.testing.assert_array_equal(picture, frames[scene.question.step])


def test_ranks_count_nearer_pictures_and_take_ties_for_errors() -> None:
    images = np.eye(4, dtype=np.float32)
    texts = np.array([[1, 0, 0, 0], [0.9, 0.5, 0.6, 0], [0, 0, 1, 0], [0.5, 0.5, 0.5, 0.5]], np.float32)
    assert ranks(images, texts).tolist() == [0, 2, 0, 2]


def test_a_dataset_without_captions_has_none(dataset: Path) -> None:
    assert captions(Dataset.open(dataset), np.arange(3)) == []
