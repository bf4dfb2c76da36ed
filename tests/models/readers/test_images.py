"""Image tokens say what and where."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vla.core.errors import ConfigError
from vla.models.kinds.unified import UnifiedConfig
from vla.models.readers.config import ImagesConfig, StateConfig, TextConfig
from vla.models.readers.images import FurtherLook, ImagesReader, ImageTokenizer, Look
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary

MakeBatch = Callable[..., Batch]


def _tokenizer(config: ImagesConfig | None = None) -> ImageTokenizer:
    torch.manual_seed(0)
    return ImageTokenizer(config or ImagesConfig(channels=4, tokens=3), 8, finds=0)


def _look(tokenizer: ImageTokenizer, image: Tensor, words: Tensor, valid: Tensor, condition: Tensor) -> Look:
    """The first look."""
    return tokenizer.first(tokenizer.see(image, condition), words, valid)


def _words(batch: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Words (b, l, e), which of them are valid, and their mean."""
    words = torch.randn(batch, 5, 8, generator=torch.Generator().manual_seed(seed))
    return words, torch.ones(batch, 5, dtype=torch.bool), words.mean(dim=1)


@pytest.mark.parametrize("size", [(16, 16), (20, 36), (64, 64)])
def test_any_size_gives_the_same_number_of_tokens(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    assert _look(_tokenizer(), image, *_words(2)).tokens.shape == (2, 3, 8)


def test_moving_a_spot_changes_the_tokens() -> None:
    image = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    image[0, 4:12, 4:12] = 255
    image[1, 20:28, 20:28] = 255
    words = tuple(part[:1].expand(2, *part.shape[1:]) for part in _words(2))
    first, second = _look(_tokenizer(), image, *words).tokens
    assert (first - second).abs().max() > 1e-3


def test_the_instruction_moves_the_seekers_and_not_the_fixed_maps() -> None:
    tokenizer = _tokenizer()
    image = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
    one, other = (_look(tokenizer, image, *_words(1, seed=seed)).tokens for seed in (0, 1))
    change = (one - other).abs().amax(dim=(0, 2))
    assert change[0] > 1e-4  # one of the three tokens seeks
    assert change[1:].max() == 0  # until FiLM has learned
    one.square().sum().backward()
    gradient = tokenizer.films[0].weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_padding_is_not_read_even_of_a_blank_instruction() -> None:
    tokenizer = _tokenizer()
    image = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    words, valid, condition = _words(2)
    valid[0], valid[1, 3:] = False, False
    other = torch.where(valid[..., None], words, 7.0)
    read, ignored = (_look(tokenizer, image, said, valid, condition).tokens for said in (words, other))
    torch.testing.assert_close(read, ignored)


def test_a_flat_map_points_at_the_centre() -> None:
    tokenizer = _tokenizer()
    image = torch.zeros(1, 64, 32, 3, dtype=torch.uint8)
    with torch.no_grad():
        tokenizer.score.weight.zero_()
        tokenizer.look.weight.zero_()
        tokenizer.look.bias.zero_()
        look = _look(tokenizer, image, *_words(1))
    assert look.maps.shape == (1, 1, 16, 8)
    torch.testing.assert_close(look.points, torch.zeros(1, 1, 2), atol=1e-5, rtol=0)


def test_a_cell_says_where_it_is_only_if_asked_to() -> None:
    """Of a picture that is the same everywhere, cells differ by their place and by nothing else."""
    image = torch.full((1, 48, 64, 3), 90, dtype=torch.uint8)
    inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))  # the border sees what pads the picture
    for coordinates in (False, True):
        tokenizer = _tokenizer(ImagesConfig(channels=4, tokens=3, coordinates=coordinates))
        features = tokenizer.see(image, torch.zeros(1, 8))[inner].flatten(2)
        apart = (features - features[..., :1]).abs().amax(dim=1)[0, 1:]
        assert (apart.min() > 1e-3) == coordinates
        assert coordinates or apart.max() < 1e-6


@pytest.fixture
def seen_twice(interface: Interface) -> Interface:
    return replace(interface, history=2)


def _read(
    batch: Batch, interface: Interface, config: ImagesConfig | None = None
) -> tuple[ImagesReader, Segment, dict[str, Tensor]]:
    torch.manual_seed(0)
    reader = ImagesReader(config or ImagesConfig(channels=4, tokens=4), interface, 8)
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
    assert activations["images.scores"].shape == (7, 1, 2, 2, 5, 6)
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
            assert isinstance(tokenizer, ImageTokenizer)
            look = _look(tokenizer, batch.inputs.images[:, t, camera], words, known, sentence)
            torch.testing.assert_close(x[:, t, camera], look.tokens + reader.position[camera] + reader.time[t])
            if t == 1:  # the maps are those of the present
                torch.testing.assert_close(activations["images.scores"][:, 0, camera], look.maps)
                torch.testing.assert_close(activations["images.points"][:, camera], look.points)


def test_what_was_not_seen_is_not_valid(seen_twice: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(interface=seen_twice)
    batch.inputs.observed[1, 0] = False
    batch.inputs.camera_valid[2, 1] = False
    _, segment, _ = _read(batch, seen_twice)
    valid = segment.valid.view(7, 2, 2, 4)
    assert not valid[1, 0].any()
    assert not valid[2, :, 1].any()
    assert int((~valid).sum()) == 8 + 8


TWICE = ImagesConfig(channels=4, tokens=4, coordinates=True, looks=2)


def test_a_second_look_has_its_own_maps_and_as_many_tokens(seen_twice: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(interface=seen_twice)
    _, segment, activations = _read(batch, seen_twice, TWICE)
    assert segment.x.shape == (7, 2 * 2 * 4, 8)
    scores = activations["images.scores"]
    assert scores.shape == (7, 2, 2, 2, 5, 6)
    assert not torch.allclose(scores[:, 0], scores[:, 1])
    weights = torch.softmax(scores[:, 1].flatten(3), dim=-1)
    rows = (weights.unflatten(3, (5, 6)).sum(dim=-1) * ((2 * torch.arange(5.0) + 1) / 5 - 1)).sum(dim=-1)
    torch.testing.assert_close(activations["images.points"][..., 0], rows)  # the points are those of the last look


def test_a_second_look_asks_by_what_the_other_camera_saw(seen_twice: Interface, make_batch: MakeBatch) -> None:
    """A change of one camera's picture moves the other's second maps, never its first, nor those of another moment."""
    batch = make_batch(interface=seen_twice)
    reader, _, before = _read(batch, seen_twice, TWICE)
    for moment, moves in ((1, True), (0, False)):
        images = batch.inputs.images.clone()
        images[:, moment, 1] = 255 - images[:, moment, 1]
        changed = replace(batch, inputs=replace(batch.inputs, images=images))
        _, _, after = _read(changed, seen_twice, TWICE)
        apart = (after["images.scores"] - before["images.scores"]).abs().amax(dim=(0, 3, 4, 5))  # (looks, cameras)
        assert apart[0, 0] == 0
        assert (apart[1, 0] > 1e-4) == moves
    assert reader.mixers


def test_what_was_not_seen_takes_no_part_in_a_second_look(seen_twice: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(interface=seen_twice)
    batch.inputs.camera_valid[:, 1] = False
    batch.inputs.text_valid[:, 3:] = False
    _, segment, before = _read(batch, seen_twice, TWICE)
    batch.inputs.images[:, :, 1] = 255 - batch.inputs.images[:, :, 1]
    _, other, after = _read(batch, seen_twice, TWICE)
    torch.testing.assert_close(before["images.scores"][:, :, 0], after["images.scores"][:, :, 0])
    torch.testing.assert_close(segment.x[segment.valid], other.x[other.valid])


def test_cameras_share_an_encoder_and_are_told_apart(seen_twice: Interface, make_batch: MakeBatch) -> None:
    """No camera adds an encoder; the same picture looks other through another camera."""
    batch = make_batch(interface=seen_twice)
    shared = ImagesConfig(channels=4, tokens=4, shared=True, looks=2)
    reader, _, _ = _read(batch, seen_twice, shared)
    own = {name.split(".")[0] for name in reader.state_dict()}
    assert own == {"encoder", "view", "position", "time", "mixers"}
    batch.inputs.images[:, :, 1] = batch.inputs.images[:, :, 0]
    with torch.no_grad():
        reader.position.zero_()
        encoder = reader.encoder
        assert isinstance(encoder, ImageTokenizer)
        for film in encoder.films:
            torch.nn.init.normal_(film.weight, std=1.0)  # as learned: at first the view changes nothing
    words = torch.randn(7, 6, 8, generator=torch.Generator().manual_seed(1))
    activations: dict[str, Tensor] = {}
    table = TokenTable(Vocabulary({"special": len(SPECIALS)}), 8)
    reader(batch.inputs, {"text": Segment(x=words, valid=batch.inputs.text_valid, block=0)}, table, activations)
    front, wrist = activations["images.scores"][:, 0].unbind(1)
    assert (front - wrist).abs().max() > 1e-4


def test_a_further_look_finds_what_looks_alike_and_what_does_not() -> None:
    """Of four spots, two red and two blue, what was found is one of the red ones."""
    torch.manual_seed(0)
    encoder = ImageTokenizer(ImagesConfig(channels=32, tokens=2, looks=2, likeness=True), 8, finds=1)
    red, blue = torch.eye(32)[:2]
    cells = {(1, 1): red, (8, 8): red, (1, 8): blue, (8, 1): blue}
    features = torch.zeros(1, 32, 10, 10)
    for (row, column), colour in cells.items():
        features[0, :, row, column] = colour
    found = (features[:, :, 1, 1] - features.mean(dim=(2, 3)))[:, None]  # (b, 1, c)
    further = encoder.again[0]
    assert isinstance(further, FurtherLook)
    assert further.likeness is not None
    asked = torch.randn(1, 2, 8)
    plain = further(asked, found)
    assert torch.equal(plain, further.look(asked))  # at first, nothing is compared
    with torch.no_grad():
        torch.nn.init.zeros_(further.look.weight)
        further.likeness.weights.bias.fill_(1.0)
        liked = encoder.further(0, features, asked, found).maps[0, 0]
        further.likeness.weights.bias.fill_(-1.0)
        unlike = encoder.further(0, features, asked, found).maps[0, 0]
    of = {cell: liked[cell].item() for cell in cells}
    assert min(of[1, 1], of[8, 8]) > max(of[1, 8], of[8, 1])
    assert min(unlike[1, 8], unlike[8, 1]) > max(unlike[1, 1], unlike[8, 8])


@pytest.mark.parametrize("shared", [True, False])
def test_cameras_compare_with_each_other_where_they_share_an_encoder(
    shared: bool, seen_twice: Interface, make_batch: MakeBatch
) -> None:
    """With queries that only compare, the front's second maps follow the wrist's picture, or do not."""
    config = ImagesConfig(channels=4, tokens=4, shared=shared, looks=2, likeness=True)
    batch = make_batch(interface=seen_twice)
    images = batch.inputs.images.clone()
    images[:, 1, 1] = 255 - images[:, 1, 1]
    maps = []
    for pictures in (batch.inputs.images, images):
        torch.manual_seed(0)
        reader = ImagesReader(config, seen_twice, 8)
        for name, parameter in reader.named_parameters():
            if "again.0" in name:
                torch.nn.init.constant_(parameter, 1.0 if name.endswith("weights.bias") else 0.0)
        activations: dict[str, Tensor] = {}
        words = Segment(x=torch.ones(7, 6, 8), valid=batch.inputs.text_valid, block=0)
        table = TokenTable(Vocabulary({"special": len(SPECIALS)}), 8)
        reader(replace(batch.inputs, images=pictures), {"text": words}, table, activations)
        maps.append(activations["images.scores"][:, 1, 0])
    assert torch.allclose(*maps) != shared


def test_likeness_needs_a_look_before() -> None:
    with pytest.raises(ConfigError, match="looks=1 has none"):
        ImagesConfig(likeness=True)


def test_half_of_a_small_model_can_be_vision() -> None:
    """At the demo's trunk, with wider channels: at most three million weights, and most of them look."""
    images = ImagesConfig(channels=192, shared=True, coordinates=True, looks=2)
    config = UnifiedConfig(readers={"text": TextConfig(), "images": images, "state": StateConfig()})
    robot = Interface(
        cameras=("front", "wrist"), history=1, state=8, action=8, horizon=8, words=100, text=16, embodiments=1,
        signals={},
    )  # fmt: skip
    model = config.build(robot, config.fit(torch.rand(200, 8, 8) * 2 - 1))
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    seeing = sum(size for name, size in sizes.items() if name.startswith("readers.images."))
    assert seeing > 0.5 * sum(sizes.values())
    assert sum(sizes.values()) < 3e6
