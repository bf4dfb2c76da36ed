"""The patch codebook: exact where it can be, better with more codes, and the same everywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange

from tests.models.pictures.scenes import pictures, scenes
from vla.core.errors import ConfigError, ContractError
from vla.models.pictures.checker import check_image_codec
from vla.models.pictures.codec import ImageCodec, require_pictures
from vla.models.pictures.config import PatchCodesConfig
from vla.models.pictures.measures import measure
from vla.models.pictures.pictures import Pictures


def _fit(found: Pictures, **settings: int) -> ImageCodec:
    return PatchCodesConfig(**settings).fit(found, lambda fraction, text: None)


@pytest.mark.parametrize(("side", "tokens"), [(8, 16), (4, 64)])
def test_it_keeps_what_every_codec_promises(side: int, tokens: int) -> None:
    codec = _fit(pictures(60), side=side, codes=128)
    assert (codec.length, codec.size) == (tokens, 128)
    check_image_codec(codec, torch.from_numpy(scenes(9, seed=1)), most_off=6.0)


def test_each_square_is_the_nearest_code_by_a_plain_search() -> None:
    codec = _fit(pictures(60), side=8, codes=40)
    images = torch.from_numpy(scenes(5, seed=2))
    patches = rearrange(images, "b (r y) (k x) c -> b (r k) (y x c)", y=8, x=8).double()
    distance = (patches[:, :, None] - codec.codebook.double()).square().sum(dim=-1)
    assert torch.equal(distance.gather(2, codec.encode(images)[..., None])[..., 0], distance.amin(dim=-1))


def test_distances_are_whole_numbers_so_every_device_finds_the_same() -> None:
    """The largest sums there can be stay below 2**24, up to which float32 counts by ones."""
    codec = PatchCodesConfig(side=8, codes=3).build((8, 8))
    codec.codebook.copy_(torch.tensor([[255] * 192, [254] + [255] * 191, [0] * 192], dtype=torch.uint8))
    white = torch.full((1, 8, 8, 3), 255, dtype=torch.uint8)
    almost = white.clone()
    almost[0, 0, 0, 0] = 254
    assert [int(codec.encode(image)) for image in (white, almost, torch.zeros_like(white))] == [0, 1, 2]


def test_squares_that_were_all_seen_come_back_exactly() -> None:
    flat = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8), 8, 1), 8, 2)
    codec = _fit(Pictures.of_cameras({"front": flat}), side=8, codes=96)
    images = torch.from_numpy(flat)
    assert torch.equal(codec.decode(codec.encode(images)), images)


def test_more_codes_and_smaller_squares_are_better_and_all_beat_the_mean_picture() -> None:
    train, held_out = pictures(120), pictures(30, seed=1)
    found = {
        (side, codes): measure(_fit(train, side=side, codes=codes), held_out).coded.objects
        for side, codes in ((8, 16), (8, 128), (4, 128))
    }
    assert measure(_fit(train, side=8, codes=16), held_out).mean_image.objects < found[8, 16]
    assert found[8, 16] + 2 < found[8, 128] < found[4, 128] - 2


def test_few_codes_go_to_objects_and_not_to_the_table() -> None:
    """Noise on the table makes every square of it different, and there are many: it is not what codes are for."""
    train, held_out = (Pictures.of_cameras({"front": scenes(n, seed=n, noise=20)}) for n in (150, 40))
    blind = replace(train, backgrounds=np.zeros_like(train.backgrounds))  # then everything is an object
    ours, theirs = (measure(_fit(found, side=8, codes=24), held_out).coded for found in (train, blind))
    assert ours.objects > theirs.objects + 0.2


def test_the_same_pictures_and_seed_give_the_same() -> None:
    one, same, other = (_fit(pictures(50), side=8, codes=20, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.codebook, same.codebook)
    assert not torch.equal(one.codebook, other.codebook)


def test_sides_that_leave_a_rest_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"patches of 7 x 7 pixels do not fill pictures of 32 x 32"):
        _fit(pictures(3), side=7, codes=4)
    with pytest.raises(ConfigError, match=r"image codec\.codes=0 must be at least 1"):
        PatchCodesConfig(codes=0)


def test_other_pictures_and_ids_are_refused_with_both_values() -> None:
    codec = PatchCodesConfig(codes=8).build((16, 24))
    for images, got in (
        (torch.zeros(2, 24, 16, 3, dtype=torch.uint8), r"uint8 \(2, 24, 16, 3\)"),
        (torch.zeros(2, 16, 24, 3), r"float32 \(2, 16, 24, 3\)"),
    ):
        with pytest.raises(ContractError, match=rf"expected uint8 pictures \(b, 16, 24, 3\) .*, got {got}"):
            require_pictures(images, codec)
    with pytest.raises(ContractError, match="expected 6 ids for each picture, 2 rows of 3, got ids of shape"):
        codec.decode(torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(ContractError, match="expected ids from 0 to 7, got 0 to 8"):
        codec.decode(torch.tensor([[0, 1, 2, 3, 4, 8]]))
