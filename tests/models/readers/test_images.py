"""Image tokens say what and where."""

import pytest
import torch
from torch import Tensor
from vla.models.vision import ImageTokenizer, pointing_loss

from vla.models.config import VisionConfig


def _tokenizer() -> ImageTokenizer:
    torch.manual_seed(0)
    return ImageTokenizer(VisionConfig(channels=4, tokens=3), 8, points=1)


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


def test_pointing_loss_is_least_where_the_map_points_and_ignores_what_is_out_of_view() -> None:
    target = torch.tensor([[[-0.5, 0.25]]])
    losses = []
    for row, column in [(2, 10), (2, 2), (7, 10)]:  # an 8 by 16 map; the first is the cell of the target
        scores = torch.zeros(1, 1, 8, 16)
        scores[0, 0, row - 1, column - 1] = scores[0, 0, row, column - 1] = 5.0
        losses.append(pointing_loss(scores, target)[0].item())
    assert losses[0] < min(losses[1:])
    loss, seen = pointing_loss(torch.randn(1, 2, 8, 16), torch.tensor([[[0.0, 1.2], [2.0, 2.0]]]))
    assert loss.item() == 0
    assert seen.item() == 0


def test_a_sharp_map_points_at_the_centre_of_its_cell() -> None:
    tokenizer = _tokenizer()
    image = torch.zeros(1, 64, 32, 3, dtype=torch.uint8)
    with torch.no_grad():
        tokenizer.score.weight.zero_()
        tokenizer.look.weight.zero_()
        tokenizer.look.bias.zero_()
        _, maps, where = tokenizer(image, *_words(1))
    assert maps.shape == (1, 1, 16, 8)
    torch.testing.assert_close(where, torch.zeros(1, 1, 2), atol=1e-5, rtol=0)  # a flat map means the centre
