"""Ratios are the textbook's, of all pixels and of object pixels, beside the mean picture."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.models.pictures.scenes import pictures, scenes
from vla.models.pictures.config import PatchCodesConfig
from vla.models.pictures.measures import measure, ratios
from vla.models.pictures.patches import PatchCodes
from vla.models.pictures.sheet import contact_sheet


@pytest.fixture(scope="module")
def codec() -> PatchCodes:
    return PatchCodesConfig(codes=32).fit(pictures(50), lambda fraction, text: None)  # type: ignore[return-value]


def test_ratios_are_those_of_the_textbook() -> None:
    true = scenes(3)
    objects = np.zeros(true.shape[:3], bool)
    objects[0, :4] = True
    found = true.copy()
    found[0, :4] = np.where(true[0, :4] > 100, true[0, :4] - 10, true[0, :4] + 10)
    got = ratios(found, true, objects)
    assert got.objects == pytest.approx(10 * np.log10(255**2 / 100))
    assert got.whole == pytest.approx(10 * np.log10(255**2 / (100 * objects.mean())))
    assert ratios(true, true, objects).whole == float("inf")
    assert np.isnan(ratios(true, true, np.zeros_like(objects)).objects)


def test_a_codec_that_gives_back_one_colour_is_measured_as_that() -> None:
    codec = PatchCodesConfig(codes=2).build((32, 32))
    codec.codebook[:] = 100
    held_out = pictures(20, seed=1)
    found = measure(codec, held_out)
    expected = np.square(held_out.images.astype(float) - 100)
    assert found.coded.whole == pytest.approx(10 * np.log10(255**2 / expected.mean()), abs=1e-4)
    assert found.coded.objects == pytest.approx(10 * np.log10(255**2 / expected[held_out.objects()].mean()), abs=1e-4)
    assert (found.used, found.codes, found.tokens) == (1, 2, 16)
    assert found.perplexity == pytest.approx(1.0)


def test_perplexity_counts_codes_that_are_used_alike() -> None:
    codec = PatchCodesConfig(codes=8).build((32, 32))
    for code in range(8):
        codec.codebook[code] = 30 * code
    flat = np.repeat(np.repeat(np.arange(16).reshape(1, 4, 4) % 4 * 30, 8, 1), 8, 2)[..., None].repeat(3, -1)
    held_out = replace(pictures(1), images=flat.astype(np.uint8))
    assert measure(codec, held_out).perplexity == pytest.approx(4.0)


def test_the_mean_picture_is_that_of_each_camera(codec: PatchCodes) -> None:
    held_out = pictures(20, seed=1)
    found = measure(codec, held_out)
    assert found.mean_image == ratios(np.repeat(held_out.means, 20, axis=0), held_out.images, held_out.objects())
    assert found.coded.objects > found.mean_image.objects
    assert list(found.cameras) == ["front"]
    assert found.cameras["front"] == found.coded


def test_json_knows_what_is_not_known(codec: PatchCodes) -> None:
    held_out = pictures(4)
    nothing = replace(held_out, images=np.repeat(held_out.backgrounds, 4, axis=0))
    value = measure(codec, nothing).to_json()
    assert value["coded"]["objects"] is None
    assert value["object_pixels_differ_by"] == 24


def test_a_sheet_has_pictures_over_what_became_of_them(codec: PatchCodes) -> None:
    held_out = pictures(12, seed=1)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(codec, held_out, each=3))))
    scale = sheet.shape[1] // (3 * 36)
    small = sheet[::scale, ::scale]
    assert np.array_equal(small[:32, :32], held_out.images[0])
    assert np.array_equal(small[:32, 72:104], held_out.images[11])
    assert small.shape == (72, 108, 3)
    below = small[36:68, :32].astype(float)
    assert 0 < np.abs(below - held_out.images[0]).mean() < 20
