"""Raw patches: a projection as vision transformers have it, at the places that Qwen2-VL gives them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor

from tests.models.learning import learn, scaled
from vla.core.errors import ConfigError
from vla.models.codecs.config import BinsConfig
from vla.models.heads.config import TokensHeadConfig
from vla.models.model import Model
from vla.models.readers.config import PatchesConfig, StateConfig, TextConfig
from vla.models.readers.patches import PatchesReader, patch_positions
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment, joined
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary

MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., Model]
ROTARY = TransformerConfig(width=24, layers=2, heads=3, rope=1e4, rope_sections=(2, 1, 1))
READERS = {"text": TextConfig(heads=3), "images": PatchesConfig(size=4), "state": StateConfig(dropout=0.0)}
POINTLESS: dict[str, Any] = {"readers": READERS, "auxiliaries": {}}


@pytest.fixture
def seen_twice(interface: Interface) -> Interface:
    return replace(interface, history=2)


def _reader(interface: Interface) -> PatchesReader:
    torch.manual_seed(0)
    return scaled(PatchesReader(PatchesConfig(size=4), interface, 8))


def _read(reader: PatchesReader, batch: Batch) -> Segment:
    table = TokenTable(Vocabulary({"special": len(SPECIALS)}), 8)
    segment = reader(batch.inputs, {}, table, {})
    assert isinstance(segment, Segment)
    return segment


@torch.no_grad()
def test_a_token_is_what_a_vision_transformer_makes_of_the_patch(seen_twice: Interface, make_batch: MakeBatch) -> None:
    """Order of moments, cameras, rows, columns and pixels, against the published embedding of patches."""
    from transformers import ViTConfig
    from transformers.models.vit.modeling_vit import ViTPatchEmbeddings

    batch, reader = make_batch(interface=seen_twice), _reader(seen_twice)
    for part in (reader.place.weight, reader.place.bias, reader.view.weight, reader.time):
        part.zero_()
    theirs = ViTPatchEmbeddings(ViTConfig(image_size=(20, 24), patch_size=4, hidden_size=8))  # type: ignore[arg-type]
    theirs.projection.weight.copy_(rearrange(reader.project.weight, "e (y x c) -> e c y x", y=4, x=4))
    theirs.projection.bias.copy_(reader.project.bias)
    found = _read(reader, batch).x.view(7, 2, 2, 30, 8)
    for moment in range(2):
        for camera in range(2):
            pixels = rearrange(batch.inputs.images[:, moment, camera], "b y x c -> b c y x") / 127.5 - 1
            torch.testing.assert_close(found[:, moment, camera], theirs(pixels))


def _theirs(text: int, grid: tuple[int, int], more: int) -> Tensor:
    """Positions (l, 3) of words, one picture, and words, as Qwen2-VL counts them."""
    from transformers import Qwen2VLConfig, Qwen2VLModel

    vision = {"depth": 1, "embed_dim": 8, "num_heads": 1, "spatial_merge_size": 1, "hidden_size": 8}
    text_config = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
                   "num_key_value_heads": 1, "vocab_size": 8}  # fmt: skip
    with torch.device("meta"):
        model = Qwen2VLModel(Qwen2VLConfig(vision_config=vision, text_config=text_config))
    kinds = torch.tensor([[0] * text + [1] * (grid[0] * grid[1]) + [0] * more])
    thw = torch.tensor([[1, *grid]])
    positions, _ = model.get_rope_index(torch.zeros_like(kinds), kinds, image_grid_thw=thw)
    return positions[:, 0].T


@pytest.mark.parametrize("grid", [(5, 6), (6, 2), (1, 4)])
def test_places_are_those_of_qwen2_vl(grid: tuple[int, int]) -> None:
    """Sides differ, so rows taken for columns are noticed, and what follows, behind the longer side."""

    def segment(length: int, position: Tensor | None = None) -> Segment:
        return replace(Segment.of(torch.zeros(1, length, 8), 0), position=position)

    places = patch_positions(1, *grid, torch.device("cpu"))
    ours = joined([segment(3), segment(grid[0] * grid[1], places), segment(4)]).position
    expected = _theirs(3, grid, 4)
    assert ours is not None
    assert torch.equal(ours, expected)
    mistaken = joined([segment(3), segment(grid[0] * grid[1], places[:, [0, 2, 1]]), segment(4)]).position
    assert mistaken is not None
    assert not torch.equal(mistaken, expected)


def test_pictures_stand_one_behind_the_other() -> None:
    cpu = torch.device("cpu")
    two, first = patch_positions(2, 2, 3, cpu), patch_positions(1, 2, 3, cpu)
    assert torch.equal(two, torch.cat([first, first + 3]))


def test_cameras_and_moments_are_told_apart_and_what_is_not_seen_is_not_valid(
    seen_twice: Interface, make_batch: MakeBatch
) -> None:
    batch, reader = make_batch(interface=seen_twice), _reader(seen_twice)
    batch.inputs.images[:] = batch.inputs.images[:, :1, :1].clone()
    batch.inputs.observed[1, 0] = False
    batch.inputs.camera_valid[2, 1] = False
    segment = _read(reader, batch)
    x, valid = segment.x.view(7, 4, 30, 8), segment.valid.view(7, 2, 2, 30)
    for one in range(4):
        for other in range(one):
            assert (x[:, one] - x[:, other]).abs().amax(dim=(1, 2)).min() > 1e-3
    assert not valid[1, 0].any()
    assert not valid[2, :, 1].any()
    assert int((~valid).sum()) == 60 + 60


def test_the_same_patch_elsewhere_is_another_token_also_without_rotary_positions(
    interface: Interface, make_batch: MakeBatch
) -> None:
    batch, reader = make_batch(size=1), _reader(interface)
    batch.inputs.images[:] = 90
    x = _read(reader, batch).x[0].view(2, 30, 8)[0]
    apart = (x[:, None] - x).norm(dim=-1) + 10 * torch.eye(30)
    assert apart.min() > 1e-2


def test_pictures_that_patches_do_not_fill_are_refused(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model(**POINTLESS | {"readers": READERS | {"images": PatchesConfig(size=8)}})
    batch = make_batch()
    with pytest.raises(ConfigError, match=r"patches of 8 x 8 pixels do not fill pictures of 20 x 24: set size"):
        model.loss(batch.inputs, batch.targets)


@pytest.mark.parametrize("trunk", [TransformerConfig(width=24, layers=2, heads=3), ROTARY], ids=["plain", "rotary"])
def test_every_weight_learns_and_a_batch_is_learned(
    trunk: TransformerConfig, make_model: MakeModel, make_batch: MakeBatch, seen_twice: Interface
) -> None:
    batch = make_batch(size=4, interface=seen_twice)
    model = make_model(trunk=trunk, interface=seen_twice, **POINTLESS)
    first, *_, last = learn(model, batch, steps=40, lr=1e-2)
    assert last["action_loss"] < 0.75 * first["action_loss"]
    model = scaled(make_model(trunk=trunk, interface=seen_twice, **POINTLESS))
    model.loss(batch.inputs, batch.targets)[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()] == []


@torch.no_grad()
def test_rotary_positions_see_rows_and_columns(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """Without the token's own word of its place, a picture and the same upside down are still two."""
    model, batch = scaled(make_model(trunk=replace(ROTARY, rope=10.0), **POINTLESS), 0.5), make_batch()
    blind = scaled(make_model(**POINTLESS), 0.5)
    for one in (model, blind):
        one.get_parameter("readers.images.place.weight").zero_()
    squares = rearrange(batch.inputs.images, "b t n (r y) (c x) k -> b t n r c y x k", y=4, x=4)
    for axis in (3, 4):  # whole patches change places; what is in them stays
        images = rearrange(squares.flip(axis), "b t n r c y x k -> b t n (r y) (c x) k")
        other = replace(batch.inputs, images=images)
        apart = (model.act(other).actions - model.act(batch.inputs).actions).abs().amax(dim=(1, 2))
        assert apart.min() > 1e-3
        torch.testing.assert_close(blind.act(other).actions, blind.act(batch.inputs).actions, atol=1e-4, rtol=1e-4)


def test_pointing_needs_maps(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(readers=READERS), make_batch()
    with pytest.raises(ConfigError, match=r"kind pointing teaches the maps of a reader of kind images.*pointing: null"):
        model.loss(batch.inputs, batch.targets)


def test_tokens_are_written_behind_patches_alike_with_either_cache(
    make_model: MakeModel, make_batch: MakeBatch, seen_twice: Interface
) -> None:
    """Token by token, at the places behind the farthest patch: one cache grows, the other is allocated at once."""
    trunk = replace(ROTARY, rope=10.0)
    head = TokensHeadConfig(codec=BinsConfig(bins=16))
    model = scaled(make_model(trunk=trunk, interface=seen_twice, head=head, **POINTLESS), 0.3).eval()
    inputs = make_batch(interface=seen_twice).inputs
    assert len(model.act(inputs).actions.unique(dim=0)) > 1
    torch.testing.assert_close(model.predict(inputs).actions.detach(), model.act(inputs).actions)
