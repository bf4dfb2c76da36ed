"""Object pixels: what differs from the median picture of its camera, in the one place that says so."""

import numpy as np

from tests.models.pictures.scenes import pictures, scenes, table
from vla.models.pictures.pictures import DIFFERENT, Pictures, object_pixels


def test_blocks_are_object_pixels_and_the_table_is_none() -> None:
    found = pictures(60)
    objects = found.objects()
    away = np.abs(found.images.astype(int) - table(32)).max(axis=-1)
    assert (objects == (away > DIFFERENT)).mean() > 0.999
    assert 0.02 < objects.mean() < 0.1


def test_the_threshold_is_beyond_it_and_bytes_do_not_wrap_around() -> None:
    background = np.full((1, 1, 4, 3), 10, np.uint8)
    image = background.copy()
    image[0, 0, 1, 2] = 10 + DIFFERENT
    image[0, 0, 2, 1] = 10 + DIFFERENT + 1
    image[0, 0, 3] = 0
    assert object_pixels(image, background)[0, 0].tolist() == [False, False, True, False]
    assert object_pixels(background, image)[0, 0].tolist() == [False, False, True, False]
    assert object_pixels(np.full_like(image, 255), background).all()


def test_each_picture_is_compared_with_its_own_camera() -> None:
    """A camera that sees everything darker has no objects for that."""
    front, dark = scenes(30), scenes(30) // 2
    both = Pictures.of_cameras({"front": front, "wrist": dark})
    assert both.cameras == ("front", "wrist")
    assert both.camera.tolist() == [0] * 30 + [1] * 30
    assert np.array_equal(both.objects()[:30], Pictures.of_cameras({"front": front}).objects())
    assert both.objects()[30:].mean() < 0.1
    wrong = Pictures(
        images=both.images, camera=1 - both.camera, cameras=both.cameras, backgrounds=both.backgrounds, means=both.means
    )
    assert wrong.objects().mean() > 0.9


def test_some_of_them_keep_the_background_of_all() -> None:
    everything = pictures(40)
    some = everything.of(np.array([3, 1]))
    assert np.array_equal(some.images, everything.images[[3, 1]])
    assert np.array_equal(some.objects(), everything.objects()[[3, 1]])
