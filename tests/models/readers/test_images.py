"""Image tokens say what and where."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vla.models.readers.config import ImagesConfig
from vla.models.readers.images import ImagesReader, ImageTokenizer
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary

MakeBatch = Callable[..., Batch]


def _tokenizer() -> ImageTokenizer:
    torch.manual_seed(0)
    return ImageTokenizer(ImagesConfig(channels=4, tokens=3), 8)


def _words(batch: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Words (b, l, e), which of them are valid, and their mean."""
    words = torch.randn(batch, 5, 8, generator=torch.Generator().manual_seed(seed))
    return words, torch.ones(batch, 5, dtype=torch.bool), words.mean(dim=1)


@pytest.mark.parametrize("size", [(16, 16), (20, 36), (64, 64)])
def test_any_size_gives_the_same_number_of_tokens(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    assert _tokenizer()(image, *_words(2))[0].shape == (2, 3, 8)


def test_moving_a_spot_changes_the_tokens() -> None:
    image = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    image[0, 4:12, 4:12] = 255
    image[1, 20:28, 20:28] = 255
    words = tuple(part[:1].expand(2, *part.shape[1:]) for part in _words(2))
    first, second = _tokenizer()(image, *words)[0]
    assert (first - second).abs().max() > 1e-3


def test_the_instruction_moves_the_seekers_and_not_the_fixed_maps() -> None:
    tokenizer = _tokenizer()
    image = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
    change = (tokenizer(image, *_words(1))[0] - tokenizer(image, *_words(1, seed=1))[0]).abs().amax(dim=(0, 2))
    assert change[0] > 1e-4  # one of the three tokens seeks
    assert change[1:].max() == 0  # until FiLM has learned
    tokenizer(image, *_words(1))[0].square().sum().backward()
    gradient = tokenizer.films[0].weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_padding_is_not_read_even_of_a_blank_instruction() -> None:
    tokenizer = _tokenizer()
    image = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    words, valid, condition = _words(2)
    valid[0], valid[1, 3:] = False, False
    other = torch.where(valid[..., None], words, 7.0)
    torch.testing.assert_close(
        tokenizer(image, words, valid, condition)[0], tokenizer(image, other, valid, condition)[0]
    )


def test_a_flat_map_points_at_the_centre() -> None:
    tokenizer = _tokenizer()
    image = torch.zeros(1, 64, 32, 3, dtype=torch.uint8)
    with torch.no_grad():
        tokenizer.score.weight.zero_()
        tokenizer.look.weight.zero_()
        tokenizer.look.bias.zero_()
        _, maps, where = tokenizer(image, *_words(1))
    assert maps.shape == (1, 1, 16, 8)
    torch.testing.assert_close(where, torch.zeros(1, 1, 2), atol=1e-5, rtol=0)


@pytest.fixture
def seen_twice(interface: Interface) -> Interface:
    return replace(interface, history=2)


def _read(batch: Batch, interface: Interface) -> tuple[ImagesReader, Segment, dict[str, Tensor]]:
    torch.manual_seed(0)
    reader = ImagesReader(ImagesConfig(channels=4, tokens=4), interface, 8)
    with torch.no_grad():
        reader.time.normal_()
    table = TokenTable(Vocabulary({"special": len(SPECIALS)}), 8)
    words = torch.randn(7, 6, 8, generator=torch.Generator().manual_seed(1))
    context = {"text": Segment(x=words, valid=batch.inputs.text_valid, block=0)}
    activations: dict[str, Tensor] = {}
    return reader, reader(batch.inputs, context, table, activations), activations


def test_every_moment_and_camera_has_its_tokens(seen_twice: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(interface=seen_twice)
    _, segment, activations = _read(batch, seen_twice)
    assert segment.x.shape == (7, 2 * 2 * 4, 8)
    assert activations["images.scores"].shape == (7, 2, 2, 5, 6)
    assert activations["images.points"].shape == (7, 2, 2, 2)


def test_the_order_is_moments_then_cameras_then_tokens(seen_twice: Interface, make_batch: MakeBatch) -> None:
    """Token by token, each moment of each camera alone gives what it gives among the others."""
    batch = make_batch(interface=seen_twice)
    reader, segment, activations = _read(batch, seen_twice)
    x = segment.x.view(7, 2, 2, 4, 8)
    words = torch.randn(7, 6, 8, generator=torch.Generator().manual_seed(1))
    known = batch.inputs.text_valid
    weight = known[..., None].float()
    sentence = (words * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    for t in range(2):
        for camera, tokenizer in enumerate(reader.cameras):
            tokens, maps, points = tokenizer(batch.inputs.images[:, t, camera], words, known, sentence)
            torch.testing.assert_close(x[:, t, camera], tokens + reader.position[camera] + reader.time[t])
            if t == 1:  # the maps are those of the present
                torch.testing.assert_close(activations["images.scores"][:, camera], maps)
                torch.testing.assert_close(activations["images.points"][:, camera], points)


def test_what_was_not_seen_is_not_valid(seen_twice: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(interface=seen_twice)
    batch.inputs.observed[1, 0] = False
    batch.inputs.camera_valid[2, 1] = False
    _, segment, _ = _read(batch, seen_twice)
    valid = segment.valid.view(7, 2, 2, 4)
    assert not valid[1, 0].any()
    assert not valid[2, :, 1].any()
    assert int((~valid).sum()) == 8 + 8
