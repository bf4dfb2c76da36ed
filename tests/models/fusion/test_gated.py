"""Gated cross-attention is IDEFICS', begins as the language model to the last bit, and sees the latest picture."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.core.config import from_dict
from vla.core.errors import ConfigError
from vla.models.freezing import Frozen
from vla.models.fusion import gated
from vla.models.fusion.config import ResamplerConfig
from vla.models.fusion.gated import GatedCrossAttention, GatedLayers
from vla.models.heads.config import MipHeadConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.model import Model
from vla.models.readers.config import ConnectedConfig, StateConfig, TextConfig
from vla.models.readers.tower_config import TowerConfig
from vla.models.trunk.attention import Transformer
from vla.models.trunk.block import Aside
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.filling import fill
from vla.models.trunk.inputs import Batch
from vla.models.trunk.sequence import Reading, Segment, causal
from vla.models.unified import UnifiedTransformer

MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., Model]
TRUNK = TransformerConfig(width=24, layers=3, heads=3, rope=1e4, gated=True, activation="silu", norm_eps=1e-6)
TOWER = TowerConfig(width=12, layers=1, heads=2, hidden=16, patch=6, image=12)
FLAMINGO: dict[str, Any] = {
    "trunk": TRUNK,
    "causal": True,
    "cross_every": 2,
    "readers": {
        "text": TextConfig(layers=0, behind=("images",)),
        "images": ConnectedConfig(tower=TOWER, connector=ResamplerConfig(latents=5, layers=1, heads=3), aside=True),
        "state": StateConfig(dropout=0.0),
    },
    "head": MipHeadConfig(),
    "auxiliaries": {},
}
LANGUAGE = ("trunk.blocks.*", "trunk.norm.*", "table.*")


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.no_grad()
def _opened(layers: GatedLayers | GatedCrossAttention) -> Any:
    torch.manual_seed(0)
    for parameter in layers.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return layers


def _idefics() -> Any:
    """Theirs, with gates that are open, and ours that is to be it."""
    from transformers import IdeficsConfig
    from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer

    config = IdeficsConfig(
        hidden_size=24,
        intermediate_size=48,
        num_attention_heads=3,
        qk_layer_norms=False,
        alpha_initializer="zeros",
        alpha_type="float",
        vision_config={"embed_dim": 12},
        attn_implementation="eager",
    )
    return _opened(IdeficsGatedCrossAttentionLayer(config, layer_idx=0).eval())


NAMES = {
    **{"cross_attn.q_proj": "attention.query", "cross_attn.k_proj": "attention.key"},
    **{"cross_attn.v_proj": "attention.value", "cross_attn.o_proj": "attention.out"},
    **{"mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down"},
    **{"input_layernorm": "norm_attention", "post_attention_layernorm": "norm_mlp"},
    **{"alpha_cross_attn": "attention_opening", "alpha_dense": "mlp_opening"},
}


def _ours(theirs: Any) -> GatedCrossAttention:
    own = GatedCrossAttention(TRUNK, 12)
    weights = {}
    for name, value in theirs.state_dict().items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        weights[name] = value
    fill(own, weights, what="a test")
    return own


@torch.no_grad()
def _both(change: Callable[[GatedCrossAttention], None] = lambda _: None) -> tuple[Tensor, Tensor]:
    """Two pictures of three tokens: the first word sees none, the second sees the first, the others the second."""
    theirs = _idefics()
    ours = _ours(theirs)
    change(ours)
    x, pictures = _random(2, 5, 24), _random(2, 6, 12)
    seen = torch.zeros(2, 5, 6, dtype=torch.bool)
    seen[:, 1, :3] = seen[:, 2:, 3:] = True
    expected = theirs(
        x,
        image_hidden_states=pictures,
        image_attention_mask=torch.zeros(2, 1, 5, 6).masked_fill(~seen[:, None], torch.finfo(torch.float32).min),
        cross_attention_gate=seen.any(dim=-1).float(),
    )
    return ours(x, pictures, seen), expected


def test_a_layer_is_that_of_idefics() -> None:
    torch.testing.assert_close(*_both(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mistake", ["no tanh", "one gate", "norms swapped", "gate and up", "blind rows"])
def test_a_mistake_is_noticed(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(ours: GatedCrossAttention) -> None:
        if mistake == "one gate":
            ours.mlp_opening = ours.attention_opening
        if mistake == "norms swapped":
            ours.norm_attention, ours.norm_mlp = ours.norm_mlp, ours.norm_attention
        if mistake == "gate and up":
            ours.gate, ours.up = ours.up, ours.gate  # type: ignore[assignment]

    if mistake == "no tanh":
        monkeypatch.setattr(gated, "torch", SimpleNamespace(tanh=lambda x: x, empty=torch.empty))
    if mistake == "blind rows":  # a word before every picture reads the mean of what it may not see
        monkeypatch.setattr("vla.models.fusion.attention.torch.where", lambda _, read, nothing: read)
    ours, expected = _both(change)
    assert (ours - expected).abs().max() > 1e-4


def test_a_token_sees_the_latest_picture_before_it() -> None:
    aside = Aside(
        x=_random(2, 6, 4),
        valid=torch.tensor([[True] * 6, [True] * 4 + [False] * 2]),
        place=torch.tensor([1, 1, 2, 2, 4, 4]),
    )
    first = [[0] * 6, [1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]
    second = [*first[:4], first[3]]  # its third picture is not there
    assert aside.seen(0, 5).int().tolist() == [first, second]
    assert aside.seen(3, 5).int().tolist() == [first[3:], second[3:]]


def _text(length: int) -> Segment:
    return Segment(x=_random(2, length, 24), valid=torch.ones(2, length, dtype=torch.bool), block=0)


def _picture(scale: float = 1.0) -> Segment:
    return replace(Segment.of(scale * _random(2, 5, 24), 0), aside=True)


def _trunks() -> tuple[Transformer, Transformer]:
    """A language model, and the same with gated layers that begin."""
    torch.manual_seed(0)
    language, flamingo = Transformer(TRUNK), Transformer(TRUNK, GatedLayers(TRUNK, every=2))
    flamingo.load_state_dict(language.state_dict(), strict=False)
    return language, flamingo


@torch.no_grad()
def test_it_begins_as_the_language_model_to_the_last_bit_whatever_it_sees() -> None:
    language, flamingo = _trunks()
    pure = Reading(language, causal({"text": _text(7)})).hidden["text"]
    for scale in (1.0, 100.0):
        segments = causal({"images": _picture(scale), "text": _text(7)})
        assert torch.equal(Reading(flamingo, segments).hidden["text"], pure)
    assert flamingo.between is not None
    _opened(flamingo.between)  # type: ignore[arg-type]
    segments = causal({"images": _picture(), "text": _text(7)})
    assert not torch.equal(Reading(flamingo, segments).hidden["text"], pure)


@torch.no_grad()
def test_words_before_a_picture_do_not_see_it() -> None:
    _, flamingo = _trunks()
    _opened(flamingo.between)  # type: ignore[arg-type]
    before, after = _text(4), _text(3)
    one, other = (
        Reading(flamingo, causal({"before": before, "images": _picture(scale), "after": after})).hidden
        for scale in (1.0, 2.0)
    )
    assert set(one) == {"before", "after"}
    assert torch.equal(one["before"], other["before"])
    assert not torch.allclose(one["after"], other["after"], atol=1e-3)


@pytest.mark.parametrize("room", [0, 3], ids=["growing", "static"])
@torch.no_grad()
def test_token_after_token_is_as_all_at_once(room: int) -> None:
    _, flamingo = _trunks()
    _opened(flamingo.between)  # type: ignore[arg-type]
    words = _text(7)
    whole = Reading(flamingo, causal({"images": _picture(), "text": words})).hidden["text"]
    head = replace(words, x=words.x[:, :4], valid=words.valid[:, :4])
    reading = Reading(flamingo, causal({"images": _picture(), "text": head}), room=room)
    line = reading.ahead(flamingo, words.x[:, 0], 3, 0)
    later = torch.stack([line.read(words.x[:, i]) for i in range(4, 7)], dim=1)
    torch.testing.assert_close(later, whole[:, 4:], atol=1e-5, rtol=1e-5)
    if not room:
        rows, again = torch.tensor([1]), Segment.of(words.x[1:, 4:5], 0)
        alone, _ = reading.rows(rows).extend(flamingo, again)
        torch.testing.assert_close(alone[:, 0], whole[1:, 4], atol=1e-5, rtol=1e-5)
        twice, _ = reading.repeated(2).extend(flamingo, Segment.of(words.x[:, 4:5].repeat(2, 1, 1), 0))
        torch.testing.assert_close(twice[2:, 0], whole[:, 4], atol=1e-5, rtol=1e-5)


def test_gates_open_and_the_language_model_stays(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(**FLAMINGO), make_batch()
    assert isinstance(model, UnifiedTransformer)
    frozen = Frozen(model, LANGUAGE)
    still = {name: value.clone() for name, value in model.state_dict().items() if name in frozen.names}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(learning, lr=0.1)
    for _ in range(2):
        model.loss(batch.inputs, batch.targets)[0].backward()
        optimiser.step()
    gates = {name: p for name, p in model.named_parameters() if name.endswith("_opening")}
    assert len(gates) == 4  # before blocks 0 and 2
    assert all(gate.abs().sum() > 0 for gate in gates.values())
    now = model.state_dict()
    assert {name.split(".")[0] for name in still} == {"trunk", "table"}
    assert all(torch.equal(now[name], value) for name, value in still.items())
    assert all(p.grad is None for name, p in model.named_parameters() if name in frozen.names)
    # With closed gates no gradient passes; behind the first step it reaches the first layer of the tower.
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in model.readers["images"].parameters() if p.ndim > 1
    )


def test_it_acts_by_what_it_sees_once_gates_are_open(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(**FLAMINGO).eval(), make_batch()
    dark = replace(batch.inputs, images=torch.zeros_like(batch.inputs.images))
    assert torch.equal(model.act(batch.inputs).actions, model.act(dark).actions)
    assert isinstance(model, UnifiedTransformer)
    _opened(model.trunk.between)  # type: ignore[arg-type]
    assert (model.act(batch.inputs).actions - model.act(dark).actions).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"cross_every": 2}, "no reader lays tokens aside"),
        ({"readers": {"images": {"kind": "connected", "tower": vars(TOWER) | {"mean": [0.5] * 3, "std": [0.5] * 3},
                                 "aside": True}}}, "nobody looks at what it lays aside"),
        ({"cross_every": -1}, "must be at least 0"),
    ],
)  # fmt: skip
def test_what_would_see_nothing_is_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(UnifiedConfig, value, where="a test")
