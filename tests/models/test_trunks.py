"""The unified transformer on other trunks than the default: the same promises with every head."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.learning import learn, scaled
from vla.core.config import from_dict, to_dict
from vla.core.errors import ConfigError
from vla.models.codecs.config import BinsConfig
from vla.models.heads.config import BinsHeadConfig, HeadConfig, TokensHeadConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.trunk.cache import Cache, GrowingCache, Marks, StaticCache
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.inputs import Batch
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]
HEADS: dict[str, HeadConfig] = {
    "step": BinsHeadConfig(bins=16),
    "joint": BinsHeadConfig(bins=16, layout="joint"),
    "tokens": TokensHeadConfig(codec=BinsConfig(bins=16)),
}
MODERN: dict[str, Any] = {
    **{"rope": 1e4, "rope_sections": (2, 1, 1), "gated": True, "activation": "silu", "qk_norm": True, "kv_heads": 1}
}
PLAIN = TransformerConfig(width=24, layers=2, heads=3)
TRUNKS = {"plain": PLAIN, "modern": replace(PLAIN, **MODERN), "scaled": replace(PLAIN, embedding_scale=3.0)}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
every_trunk = pytest.mark.parametrize("trunk", TRUNKS.values(), ids=TRUNKS.keys())


_spread = partial(scaled, scale=0.4)


def _gradients(model: UnifiedTransformer, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    model.loss(batch.inputs, batch.targets)[0].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@every_head
@every_trunk
def test_acting_is_the_same_with_either_cache(
    head: HeadConfig, trunk: TransformerConfig, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    """With gradients the cache grows, without them it is static."""
    model, batch = _spread(make_model(head=head, trunk=trunk)).eval(), make_batch()
    ours, theirs = model.act(batch.inputs), model.predict(batch.inputs)
    assert len(ours.actions.unique(dim=0)) > 1
    torch.testing.assert_close(ours.actions, theirs.actions, atol=1e-5, rtol=1e-5)
    for name, belief in ours.signals.items():
        torch.testing.assert_close(belief, theirs.signals[name], atol=1e-5, rtol=1e-5)


@every_head
def test_acting_fills_the_room_that_the_head_asked_for(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that asked for none writes in a single pass, with the inputs."""
    model, batch = make_model(head=head), make_batch()
    lengths: list[tuple[int, int]] = []

    def watch(kind: type[Cache]) -> None:
        extended = kind.extended

        def watched(self: Any, new: Marks) -> Cache:
            longer = extended(self, new)
            lengths.append((longer.start + len(new), longer._room.length if kind is StaticCache else len(longer.marks)))
            return longer

        monkeypatch.setattr(kind, "extended", watched)

    watch(StaticCache if model.head.room else GrowingCache)
    model.act(batch.inputs)
    assert lengths[-1][0] == lengths[-1][1] == lengths[0][0] + model.head.room
    assert model.head.room or len(lengths) == 1


@every_head
def test_every_weight_of_a_modern_trunk_learns(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = _spread(make_model(head=head, trunk=TRUNKS["modern"]))
    gradients = _gradients(model, make_batch(size=16))
    assert [name for name, _ in model.trunk.named_parameters() if not gradients[f"trunk.{name}"].any()] == []


def test_a_modern_trunk_overfits_one_batch(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(head=HEADS["tokens"], trunk=TRUNKS["modern"]), make_batch(size=4)
    first, *_, last = learn(model, batch, steps=20, lr=1e-2)
    assert last["action_loss"] < 0.75 * first["action_loss"]
    matrices = {name.rsplit(".", 2)[-2] for name in model.matrices()}
    assert matrices == {"qkv", "out", "gate", "up", "down"}


@every_head
def test_computing_blocks_again_changes_no_gradient(
    head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    """Also of those that a head reads behind a prefix, whose keys and values are kept."""
    batch = make_batch()
    kept, again = (
        _gradients(_spread(make_model(head=head, trunk=replace(TRUNKS["modern"], recompute=r))), batch)
        for r in (False, True)
    )
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)


@every_head
def test_the_z_loss_is_added_once(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    """By hand: the mean squared logarithm of the normaliser, over what teaches, by its weight."""
    batch, seen = make_batch(), []
    plain, weighed = (_spread(make_model(head=head, auxiliaries={}, z_loss=z)) for z in (0.0, 0.3))
    cross_entropy = plain.table.cross_entropy
    plain.table.cross_entropy = lambda *args: (seen.append(args[0]), cross_entropy(*args))[1]  # type: ignore[method-assign]
    before, after = (model.loss(batch.inputs, batch.targets)[0] for model in (plain, weighed))
    (logits,) = seen
    torch.testing.assert_close(after - before, 0.3 * logits.exp().sum(dim=-1).log().square().mean())


def test_every_loss_over_the_vocabulary_has_it(make_model: MakeModel, make_batch: MakeBatch) -> None:
    batch = make_batch()
    plain, weighed = (_spread(make_model(z_loss=z)).loss(batch.inputs, batch.targets)[1] for z in (0.0, 0.3))
    higher = {name for name in plain if weighed[name] > plain[name] + 1e-3}
    assert higher == {"action_loss", "grounding_loss"}  # pointing is no vocabulary
    with pytest.raises(ConfigError, match=r"model.z_loss=-1.0 must be at least 0"):
        UnifiedConfig(z_loss=-1.0)


def test_what_is_written_of_old_trunks_reads_as_it_was() -> None:
    """A configuration of four numbers, as every checkpoint so far has, is the default of today."""
    old = {"trunk": {"width": 24, "layers": 2, "heads": 3, "mlp_ratio": 2.0}}
    assert from_dict(UnifiedConfig, old, where="old").trunk == PLAIN
    config = UnifiedConfig(trunk=TRUNKS["modern"], z_loss=1e-4)
    assert from_dict(UnifiedConfig, to_dict(config), where="new") == config


def test_a_recipe_says_it_in_a_line() -> None:
    line = {"trunk": {"rope": 10000.0, "gated": True, "qk_norm": True, "kv_heads": 2}}
    trunk = from_dict(UnifiedConfig, line, where="recipe").trunk
    assert (trunk.size, trunk.keys, trunk.hidden, trunk.rope) == (32, 2, 256, 10000.0)
