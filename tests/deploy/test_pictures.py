"""JPEG and PNG on the wire: the same image, and nothing larger than the contract says is ever decoded."""

import resource
import time
from typing import Any

import imagecodecs
import numpy as np
import pytest

from vla.core.contract import Camera
from vla.core.errors import ServeError
from vla.deploy.client import PolicyClient
from vla.deploy.pictures import decode_picture

FRONT = Camera(name="front", height=8, width=6)
IMAGE = np.random.default_rng(0).integers(0, 256, FRONT.shape, np.uint8)


def test_png_is_the_same_and_jpeg_nearly() -> None:
    np.testing.assert_array_equal(decode_picture(bytes(imagecodecs.png_encode(IMAGE)), FRONT), IMAGE)
    smooth = np.broadcast_to(np.arange(0, 240, 40, dtype=np.uint8)[None, :, None], FRONT.shape)
    decoded = decode_picture(bytes(imagecodecs.jpeg8_encode(smooth.copy(), level=95)), FRONT)
    assert np.abs(decoded.astype(int) - smooth).max() < 6


def test_depth_travels_as_png() -> None:
    camera = Camera(name="depth", height=8, width=6, kind="depth")
    depth = np.random.default_rng(0).integers(0, 1 << 16, camera.shape, np.uint16)
    np.testing.assert_array_equal(decode_picture(bytes(imagecodecs.png_encode(depth[:, :, 0])), camera), depth)


@pytest.mark.parametrize(
    "data",
    [
        bytes(imagecodecs.png_encode(np.zeros((8, 6), np.uint8))),
        bytes(imagecodecs.png_encode(np.zeros((8, 6, 4), np.uint8))),
        bytes(imagecodecs.png_encode(np.zeros((8, 6, 3), np.uint16))),
        bytes(imagecodecs.png_encode(np.zeros((6, 8, 3), np.uint8))),
        bytes(imagecodecs.jpeg8_encode(np.zeros((16, 6, 3), np.uint8))),
        bytes(imagecodecs.png_encode(IMAGE))[:60],
        b"\xff\xd8\xff" + bytes(100),
        b"GIF89a",
        b"",
    ],
    ids=["grey", "alpha", "deep", "turned", "tall", "cut", "empty jpeg", "gif", "nothing"],
)
def test_others_are_refused_in_a_line(data: bytes) -> None:
    with pytest.raises(ServeError, match="image of camera front: expected") as caught:
        decode_picture(data, FRONT)
    assert "\n" not in " ".join(str(caught.value).split())


def test_a_small_file_that_is_a_huge_image_gets_no_memory() -> None:
    bombs = [bytes(imagecodecs.png_encode(np.zeros((12_000, 12_000, 3), np.uint8), level=9))]
    bombs.append(bytes(imagecodecs.jpeg8_encode(np.zeros((8_000, 8_000, 3), np.uint8))))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for bomb in bombs:
        with pytest.raises(ServeError):
            decode_picture(bomb, FRONT)
    assert time.process_time() - began < 0.2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_they_are_served(address: str, observation: Any, policy: Any) -> None:
    message = observation()
    wrist = np.full((4, 4, 3), 9, np.uint8)
    nested = {"front": bytes(imagecodecs.png_encode(IMAGE)), "wrist": bytes(imagecodecs.png_encode(wrist))}
    with PolicyClient(address) as client:
        client.infer({**message, "observation/front": nested["front"]})
        np.testing.assert_array_equal(policy.seen[-1].images["front"], IMAGE)
        client.infer({"images": nested, "state": message["observation/state"], "prompt": "reach"})
        np.testing.assert_array_equal(policy.seen[-1].images["wrist"], wrist)
        with pytest.raises(ServeError, match="expected an array, or JPEG or PNG as bytes, got other bytes"):
            client.infer({**message, "observation/front": b"x"})
