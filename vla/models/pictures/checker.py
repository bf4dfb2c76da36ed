"""The public check of image codecs: what each promises, tried on pictures and on whatever a model might sample."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from vla.core.errors import ContractError
from vla.models.pictures.codec import ImageCodec


def check_image_codec(codec: ImageCodec, images: UInt8[Tensor, "b y x 3"], *, most_off: float, seed: int = 0) -> None:
    """Check what every image codec promises, on two pictures or more; an `AssertionError` says what does not hold.

    ``most_off`` is the largest mean distance, in levels of 255, of pictures that were encoded and decoded.
    """
    ids, coded = _check_shapes(codec, images)
    off = (coded.float() - images.float()).abs().mean().item()
    assert off <= most_off, f"decode(encode(x)) is {off:.3g} levels away from x in the mean, more than {most_off:.3g}"
    for number in range(len(images)):
        one = codec.encode(images[number : number + 1])
        assert torch.equal(one[0], ids[number]), "encode: the ids of a picture rest upon those beside it"
    _check_modes(codec, images)
    random = torch.Generator().manual_seed(seed)
    _check_decoding(codec, torch.randint(0, codec.size, ids.shape, generator=random), images)
    edges = torch.tensor([0, codec.size - 1]).expand(len(images), codec.length // 2 + 1, 2).flatten(1)
    _check_decoding(codec, edges[:, : codec.length].contiguous(), images)
    _check_refusals(codec, images, ids)


def _check_shapes(codec: ImageCodec, images: Tensor) -> tuple[Tensor, Tensor]:
    assert images.shape[1:3] == codec.image_size, f"pictures of {codec.image_size} are wanted to check this codec"
    ids = codec.encode(images)
    assert ids.dtype == torch.int64, f"encode: expected int64, got {ids.dtype}"
    assert ids.shape == (len(images), codec.grid[0] * codec.grid[1]), f"encode: {tuple(ids.shape)} for {codec.grid}"
    assert ((ids >= 0) & (ids < codec.size)).all(), f"encode: ids outside of [0, {codec.size})"
    return ids, _check_decoding(codec, ids, images)


def _check_decoding(codec: ImageCodec, ids: Tensor, images: Tensor) -> Tensor:
    coded = codec.decode(ids)
    assert coded.shape == images.shape, f"decode: expected {tuple(images.shape)}, got {tuple(coded.shape)}"
    assert coded.dtype == torch.uint8, f"decode: expected uint8, got {coded.dtype}"
    return coded


def _check_modes(codec: ImageCodec, images: Tensor) -> None:
    """A model that trains puts its parts into training mode and casts: codes must not notice, nor learn."""
    ids, before = codec.encode(images), {name: value.clone() for name, value in codec.state_dict().items()}
    training = codec.training
    for mode in (True, False):
        codec.train(mode)
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            assert torch.equal(codec.encode(images), ids), "encode: ids rest upon the mode or upon autocast"
            codec.decode(ids)
    codec.train(training)
    after = codec.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "its state changes when it is used"


def _check_refusals(codec: ImageCodec, images: Tensor, ids: Tensor) -> None:
    wrong = ids.clone()
    wrong[0, 0] = codec.size
    refused = {
        "pictures of another size": lambda: codec.encode(images[:, 1:]),
        "an id that is not its own": lambda: codec.decode(wrong),
        "a negative id": lambda: codec.decode(wrong - codec.size - 1),
        "too few ids": lambda: codec.decode(ids[:, 1:]),
    }
    for what, call in refused.items():
        try:
            call()
        except ContractError:
            continue
        raise AssertionError(f"{what}: expected a ContractError, and it was taken")
