"""Pictures through a tower and one projection, then text, read as PaliGemma does; and each mistake is noticed."""

from copy import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor

from vla.models.fusion.projections import Linear
from vla.models.grafting import trunk_from
from vla.models.heads.head import ACTION_BLOCK
from vla.models.readers.config import ConnectedConfig
from vla.models.readers.connected import ConnectedReader
from vla.models.readers.tower_grafting import tower_from_hf
from vla.models.trunk.inputs import Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Reading, Segment, causal
from vla.models.trunk.vocabulary import TokenTable

PREFIX, SUFFIX, WORDS, PATCHES = 5, 4, 60, 9
INTERFACE = Interface(
    **{"cameras": ("front",), "history": 1, "state": 1, "action": 1, "horizon": 1},
    **{"words": WORDS, "text": PREFIX, "embodiments": 1, "signals": {}},
)
IDS = torch.randint(0, WORDS - 1, (2, PREFIX + SUFFIX), generator=torch.Generator().manual_seed(0))
IMAGES = torch.randint(0, 256, (2, 12, 12, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def theirs() -> Any:
    from transformers import GemmaConfig, PaliGemmaConfig, PaliGemmaForConditionalGeneration, SiglipVisionConfig

    vision = SiglipVisionConfig(
        **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"image_size": 12, "patch_size": 4, "vision_use_head": False, "projection_dim": 24},
    )
    text = GemmaConfig(
        **{"vocab_size": WORDS, "hidden_size": 24, "intermediate_size": 56, "num_hidden_layers": 2, "head_dim": 8},
        **{"num_attention_heads": 3, "num_key_value_heads": 1},
    )
    config = PaliGemmaConfig(vision_config=vision, text_config=text, projection_dim=24, image_token_index=WORDS - 1)
    torch.manual_seed(0)
    model = PaliGemmaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def _expected(theirs: Any, ids: Tensor = IDS, images: Tensor = IMAGES) -> Tensor:
    """Logits at all places; the first are those of the picture."""
    slots = torch.full((len(ids), PATCHES), WORDS - 1)
    kind = torch.tensor([0] * (PATCHES + PREFIX) + [1] * SUFFIX).expand(len(ids), -1)
    pixels = rearrange(images, "b y x c -> b c y x") / 127.5 - 1
    logits: Tensor = theirs(input_ids=torch.cat([slots, ids], dim=1), pixel_values=pixels, token_type_ids=kind).logits
    return logits


def _reader(theirs: Any) -> ConnectedReader:
    tower = tower_from_hf(theirs.model.vision_tower)
    reader = ConnectedReader(ConnectedConfig(tower=tower.config), INTERFACE, 24)
    reader.tower.load_state_dict(tower.state_dict())
    assert isinstance(reader.connector, Linear)
    reader.connector.project.load_state_dict(theirs.model.multi_modal_projector.linear.state_dict())
    with torch.no_grad():
        reader.view.weight.zero_()  # one camera, which theirs has no word for
    return reader


@torch.no_grad()
def _logits(theirs: Any, mistake: str = "", ids: Tensor = IDS, images: Tensor = IMAGES) -> Tensor:
    named = {f"model.{name}": value for name, value in theirs.model.language_model.state_dict().items()}
    config = copy(theirs.config.text_config)
    config.use_bidirectional_attention = None  # who sees whom is said by the segments here
    trunk, table = trunk_from(named, config)
    picture = _reader(theirs)(_inputs(images), {}, table, {})
    segments = {"images": picture, "prefix": _words(table, ids[:, :PREFIX], 0)}
    if mistake == "pictures scaled as words":
        segments["images"] = replace(picture, x=picture.x * table.scale)
    if mistake == "causal prefix":
        segments = causal(segments)
    if mistake == "pictures see no text":
        segments["images"] = replace(picture, block=-1)
    if mistake == "text first":
        segments = dict(reversed(segments.items()))
    block = 0 if mistake == "suffix in both directions" else torch.arange(SUFFIX) + ACTION_BLOCK
    segments["suffix"] = _words(table, ids[:, PREFIX:], block)
    hidden = Reading(trunk, segments).hidden
    return table.logits("text", torch.cat([hidden[name] for name in ("images", "prefix", "suffix")], dim=1))


def _words(table: TokenTable, ids: Tensor, block: int | Tensor) -> Segment:
    return Segment.of(table.embed("text", ids), block)


def _inputs(images: Tensor) -> Inputs:
    b, yes = len(images), torch.ones(len(images), 1, dtype=torch.bool)
    nothing = torch.zeros(b, 1, dtype=torch.long)
    return Inputs(
        **{"images": images[:, None, None], "camera_valid": yes, "state": torch.zeros(b, 1, 1), "state_valid": yes},
        **{"observed": yes, "text": nothing, "text_valid": yes, "embodiment": nothing[:, 0]},
    )


def test_the_whole_is_paligemma(theirs: Any) -> None:
    """Theirs counts places from 1, ours from 0: rotary positions know differences alone."""
    torch.testing.assert_close(_logits(theirs), _expected(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "mistake",
    [
        *("pictures scaled as words", "causal prefix", "pictures see no text"),
        *("text first", "suffix in both directions"),
    ],
)
def test_a_mistake_is_noticed(theirs: Any, mistake: str) -> None:
    assert (_logits(theirs, mistake) - _expected(theirs)).abs().max() > 1e-3


def test_nothing_before_a_word_of_the_suffix_knows_it_and_pictures_know_the_prefix(theirs: Any) -> None:
    logits = _logits(theirs)
    last = IDS.clone()
    last[:, -1] = (last[:, -1] + 1) % (WORDS - 1)
    assert torch.equal(_logits(theirs, ids=last)[:, :-1], logits[:, :-1])
    prefix = IDS.clone()
    prefix[:, PREFIX - 1] = (prefix[:, PREFIX - 1] + 1) % (WORDS - 1)
    assert (_logits(theirs, ids=prefix) - logits)[:, :PATCHES].abs().max() > 1e-4
