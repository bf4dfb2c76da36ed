"""Towers with weights of CLIP, SigLIP and ALIGN compute what theirs do, and each plausible mistake is noticed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.contrastive.theirs import FAMILIES, pairs, theirs, wrong
from vla.core.errors import CheckpointError
from vla.models.contrastive import grafting
from vla.models.contrastive.grafting import pair_from, pair_from_hf
from vla.models.contrastive.pair import Pair
from vla.models.contrastive.towers import efficientnet, transformer, transformer_grafting, vit
from vla.models.contrastive.towers.config import TransformerTowerConfig
from vla.models.contrastive.towers.transformer import TransformerTower
from vla.models.trunk.initialisation import account

every_family = pytest.mark.parametrize("family", FAMILIES)
Change = Callable[[Pair], None]


@every_family
@torch.no_grad()
def test_vectors_logits_and_loss_are_theirs(family: str) -> None:
    model = theirs(family)
    ours = pair_from_hf(model)
    given = pairs(family)
    assert wrong(ours, model, given) == set()
    # Pictures and sentences are told apart, or nothing above would show anything.
    for vectors in (ours.images(given.images), ours.texts(given.ids, given.valid)):
        assert float((vectors[:, None] - vectors).norm(dim=-1)[~torch.eye(5, dtype=torch.bool)].min()) > 1e-3


def _text(**changes: Any) -> Change:
    def change(ours: Pair) -> None:
        assert isinstance(ours.text, TransformerTower)
        ours.text.config = replace(ours.text.config, **changes)

    return change


def _unnormed(ours: Pair) -> None:
    assert isinstance(ours.image, vit.VitTower)
    ours.image.norm = torch.nn.Identity()  # type: ignore[assignment]


def _padded_before(ours: Pair) -> None:
    for unit in ours.modules():
        if isinstance(unit, efficientnet.Unit):
            unit._padding = unit._padding[::-1]


def _always_added(ours: Pair) -> None:
    for block in ours.modules():
        if isinstance(block, efficientnet.MobileBlock) and block.each.conv.stride == (1, 1):
            before = (block.expand or block.each).conv.in_channels
            block._added = block._added or before == block.project.conv.out_channels


def _norms_before(ours: Pair) -> None:
    for block in ours.modules():
        if isinstance(block, transformer.TextBlock):
            block._after = not block._after


def _counted(ours: Pair) -> None:
    """Statistics of this batch, as in training."""
    for part in ours.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.training = True


def _multiplied(ours: Pair) -> None:
    scale: Any = ours.contrast
    with torch.no_grad():
        scale.log_scale.value.neg_().add_(0.5)


MISTAKES: dict[str, tuple[Change, set[str]]] = {
    "clip not causal": (_text(causal=False), {"texts"}),
    "clip first word": (_text(pool="first"), {"texts"}),
    "clip mean of words": (_text(pool="mean"), {"texts"}),
    "clip norm left out": (_unnormed, {"images"}),
    "clip scale": (_multiplied, {"logits", "loss"}),
    "siglip causal": (_text(causal=True), {"texts"}),
    "siglip norms behind": (_norms_before, {"texts"}),
    "align last word": (_text(pool="end"), {"texts"}),
    "align norms before": (_norms_before, {"texts"}),
    "align padding in front": (_padded_before, {"images"}),
    "align first blocks added": (_always_added, {"images"}),
    "align statistics of the batch": (_counted, {"images"}),
    "align temperature multiplied": (_multiplied, {"logits", "loss"}),
}
"""What is changed in ours, and what no longer is theirs: with a vector its logits and the loss."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_what_is_computed_is_noticed(mistake: str) -> None:
    family = mistake.partition(" ")[0]
    model = theirs(family)
    ours = pair_from_hf(model)
    change, shows = MISTAKES[mistake]
    change(ours)
    assert wrong(ours, model, pairs(family)) >= shows


@pytest.mark.parametrize(
    ("family", "table", "changes"),
    [
        ("clip", "_CLIP", {"self_attn.q_proj": "k", "self_attn.k_proj": "q"}),
        ("siglip", "_CLIP", {"layer_norm1": "norm_mlp", "layer_norm2": "norm_attention"}),
        ("align", "_BERT", {"attention.self.key": "v", "attention.self.value": "k"}),
    ],
)
def test_a_mistake_in_a_table_is_noticed(
    family: str, table: str, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrongly = getattr(transformer_grafting, table) | changes
    monkeypatch.setitem(transformer_grafting._NAMES, family, wrongly)  # type: ignore[arg-type]
    model = theirs(family)
    assert "texts" in wrong(pair_from_hf(model), model, pairs(family))


def test_keys_and_values_of_the_query_are_not_mistaken(monkeypatch: pytest.MonkeyPatch) -> None:
    look = grafting._look

    def swapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        own = look(weights)
        return own | {name: x.roll(len(x) // 2, dims=0) for name, x in own.items() if "keys_values" in name}

    monkeypatch.setattr(grafting, "_look", swapped)
    model = theirs("siglip")
    assert "images" in wrong(pair_from_hf(model), model, pairs("siglip"))


@every_family
def test_activations_are_told_apart(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = theirs(family)
    monkeypatch.setattr(transformer, "activate", lambda x, _: torch.nn.functional.silu(x))
    monkeypatch.setattr(vit, "activate", lambda x, _: torch.nn.functional.silu(x))
    monkeypatch.setattr(efficientnet, "activate", lambda x, _: torch.nn.functional.relu(x))
    shown = {"clip": {"texts"}, "siglip": {"texts", "images"}, "align": {"texts", "images"}}[family]
    assert wrong(pair_from_hf(model), model, pairs(family)) >= shown


@every_family
def test_what_surrounds_a_sentence_is_not_read(family: str) -> None:
    """Whatever stands on places that are not valid, and however many there are."""
    ours, given = pair_from_hf(theirs(family)), pairs(family)
    with torch.no_grad():
        texts = ours.texts(given.ids, given.valid)
        noise = given.ids.where(given.valid, 7)
        torch.testing.assert_close(ours.texts(noise, given.valid), texts)
        wider = [torch.nn.functional.pad(x, (0, 3)) for x in (given.ids, given.valid)]
        torch.testing.assert_close(ours.texts(*wider), texts)
        nothing = ours.texts(given.ids[:1], torch.zeros_like(given.valid[:1]))
        assert nothing.isfinite().all()


@every_family
def test_a_tensor_too_many_or_too_few_is_named(family: str) -> None:
    model = theirs(family)
    weights = model.state_dict()
    with pytest.raises(CheckpointError, match=r"too many \['.*odd.weight'\]"):
        pair_from(weights | {"text_model.encoder.odd.weight": torch.zeros(3)}, model.config)
    used = [name for name in weights if not name.startswith("text_model.pooler.") and "position_ids" not in name]
    for name in used[:: max(1, len(used) // 8)]:
        with pytest.raises(CheckpointError, match=r"missing|lack"):
            pair_from({k: v for k, v in weights.items() if k != name}, model.config)


@every_family
def test_a_folder_is_read(family: str, tmp_path: Path) -> None:
    model = theirs(family)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    assert wrong(pair_from_hf(tmp_path), model, pairs(family)) == set()
    with pytest.raises(CheckpointError, match=r"missing holds no config\.json"):
        pair_from_hf(tmp_path / "missing")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="family bert, not one of clip, siglip, align"):
        pair_from_hf(tmp_path)


@pytest.mark.parametrize(
    ("family", "text", "vision", "message"),
    [
        ("clip", {"hidden_act": "relu"}, {}, "activation relu, not one of gelu, gelu_pytorch_tanh, quick_gelu"),
        ("align", {}, {"depthwise_padding": [3]}, r"depthwise_padding is \[3\], not \[\]"),
        ("align", {}, {"hidden_act": "gelu"}, "hidden_act is gelu, not swish"),
    ],
)
def test_what_is_not_computed_is_refused(
    family: str, text: dict[str, Any], vision: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        pair_from_hf(theirs(family, text=text, vision=vision))


@every_family
def test_what_is_grafted_learns(family: str) -> None:
    ours, given = pair_from_hf(theirs(family)), pairs(family)
    account(ours)
    ours.train()
    ours(given.images, given.ids, given.valid).backward()
    untaught = {name for name, p in ours.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert untaught == set()


def test_marks_are_set_around_sentences() -> None:
    """As tokenizers of the published models do, which here give words alone."""
    config = TransformerTowerConfig(
        words=60, length=8, width=16, layers=1, heads=2, hidden=16, pool="mean", marks=(58, 59)
    )
    torch.manual_seed(0)
    tower = config.build()
    bare = replace(config, marks=()).build()
    bare.load_state_dict(tower.state_dict())
    ids, valid = torch.tensor([[5, 6, 0], [7, 0, 0]]), torch.tensor([[True, True, False], [True, False, False]])
    marked = torch.tensor([[58, 5, 6, 59], [58, 7, 59, 0]])
    torch.testing.assert_close(tower(ids, valid), bare(marked, torch.arange(4) < torch.tensor([[4], [3]])))
