"""Queries from files and frames, and what is said of those that cannot be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.search.colours import ColourEmbedder
from vla.core.errors import ConfigError
from vla.datasets.dataset import Dataset
from vla.search.embedding import fitted
from vla.search.query import embed_query, picture_of_file, picture_of_frame


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", ".png"), ("RGBA", ".png"), ("L", ".png"), ("LA", ".png"), ("RGB", ".jpg"), ("L", ".jpg")],
)
def test_pictures_of_every_common_kind_are_rgb(mode: str, suffix: str, tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((20, 30, 3), (200, 30, 30), np.uint8)).convert(mode)
    picture.save(tmp_path / f"a{suffix}")
    found = picture_of_file(tmp_path / f"a{suffix}")
    expected = np.asarray(picture.convert("RGB"))
    assert np.abs(found.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut short"])
def test_a_file_that_is_no_picture_is_one_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ConfigError, match="expected a PNG or JPEG"):
        picture_of_file(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        picture_of_file(tmp_path / "b.png")


def test_a_frame_is_named_by_episode_step_and_camera(dataset: Path) -> None:
    opened = Dataset.open(dataset)
    start = int(opened.episode_starts[3])
    np.testing.assert_array_equal(picture_of_frame(opened, "3:5"), opened.frame("front", start + 5))
    np.testing.assert_array_equal(picture_of_frame(opened, "3:5:wrist"), opened.frame("wrist", start + 5))


@pytest.mark.parametrize(
    ("said", "why"),
    [("3", "expected EPISODE:STEP"), ("99:0", "12 episodes"), ("0:9999", "counted from 0"), ("0:0:top", "a camera of")],
)
def test_a_frame_that_is_not_there_is_one_line(said: str, why: str, dataset: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        picture_of_frame(Dataset.open(dataset), said)


def test_a_photo_is_cut_to_the_middle_and_not_stretched() -> None:
    photo = np.zeros((60, 100, 3), np.uint8)
    photo[:, 20:80] = 255
    assert (fitted(photo, (32, 32)) == 255).all()
    assert fitted(photo, (30, 60)).shape == (30, 60, 3)


def test_words_and_pictures_have_vectors_of_one_length(dataset: Path) -> None:
    embedder = ColourEmbedder()
    photo = np.full((300, 200, 3), (217, 26, 26), np.uint8)
    red, picture = (embed_query(embedder, query) for query in ("the red one", photo))
    assert red.shape == picture.shape == (embedder.width,)
    assert red @ picture > 0.9 > embed_query(embedder, "the blue one") @ picture
    with pytest.raises(ConfigError, match="is empty"):
        embed_query(embedder, " ")
