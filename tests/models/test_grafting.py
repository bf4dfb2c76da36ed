"""Our blocks compute what transformers' do, from the same weights; and each plausible mistake is noticed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor

from vla.core.errors import CheckpointError
from vla.models import grafting
from vla.models.grafting import from_hf, trunk_from
from vla.models.trunk import attention, block
from vla.models.trunk.attention import Transformer
from vla.models.trunk.block import Attend
from vla.models.trunk.rotary import Turns
from vla.models.trunk.sequence import Prefix, Reading, Segment
from vla.models.trunk.vocabulary import TokenTable

SIZES: dict[str, Any] = {
    **{"vocab_size": 120, "hidden_size": 24, "intermediate_size": 56, "num_hidden_layers": 2, "head_dim": 8},
    **{"num_attention_heads": 6, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": True},
}
FAMILIES = {"llama": "Llama", "gemma": "Gemma", "qwen3": "Qwen3"}
IDS = torch.randint(0, 120, (2, 9), generator=torch.Generator().manual_seed(0))
every_family = pytest.mark.parametrize("family", FAMILIES)


def _theirs(family: str, **changes: Any) -> Any:
    """A tiny model, whose norms are no ones: what they multiply by must matter."""
    import transformers

    config, model = (getattr(transformers, FAMILIES[family] + part) for part in ("Config", "ForCausalLM"))
    torch.manual_seed(0)
    theirs = model(config(**SIZES | changes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return theirs


def _segment(table: TokenTable, ids: Tensor, start: int) -> Segment:
    return Segment.of(table.embed("text", ids), start + torch.arange(ids.shape[1]))


@torch.no_grad()
def _logits(trunk: Transformer, table: TokenTable) -> Tensor:
    hidden = Reading(trunk, {"text": _segment(table, IDS, 0)}).hidden
    return table.logits("text", hidden["text"])


@torch.no_grad()
def _decoded(trunk: Transformer, table: TokenTable, room: int) -> Tensor:
    """The first four at once, the others one after the other."""
    prefix = Reading(trunk, {"text": _segment(table, IDS[:, :4], 0)}, room=room)
    hidden = prefix.hidden
    pieces = [hidden["text"]]
    for i in range(4, 9):
        piece, prefix = prefix.extend(trunk, _segment(table, IDS[:, i : i + 1], i))
        pieces.append(piece)
    return table.logits("text", torch.cat(pieces, dim=1))


@torch.no_grad()
def _expected(theirs: Any) -> Tensor:
    logits: Tensor = theirs(IDS).logits
    return logits


@every_family
def test_text_logits_are_theirs(family: str) -> None:
    theirs = _theirs(family)
    torch.testing.assert_close(_logits(*from_hf(theirs)), _expected(theirs), atol=1e-5, rtol=1e-5)


@every_family
@pytest.mark.parametrize("room", [0, 5], ids=["growing", "static"])
@torch.no_grad()
def test_cached_decoding_is_theirs(family: str, room: int) -> None:
    theirs = _theirs(family)
    step = theirs(IDS[:, :4], use_cache=True)
    pieces = [step.logits]
    for i in range(4, 9):
        step = theirs(IDS[:, i : i + 1], past_key_values=step.past_key_values, use_cache=True)
        pieces.append(step.logits)
    torch.testing.assert_close(_decoded(*from_hf(theirs), room), torch.cat(pieces, dim=1), atol=1e-5, rtol=1e-5)


@every_family
@pytest.mark.parametrize("room", [0, 5], ids=["growing", "static"])
@torch.no_grad()
def test_pictures_before_text_are_read_as_theirs(family: str, room: int) -> None:
    """Tokens that no word has, as a tower makes them, then a sentence at once, then word after word."""
    theirs = _theirs(family)
    trunk, table = from_hf(theirs)
    pictures = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(1))
    embedded = theirs.get_input_embeddings()(IDS)
    # Transformers scales Gemma's pictures with its words; they are divided first, as PaliGemma's projector is.
    scaled = 1 if torch.allclose(embedded, table.embed("text", IDS)) else table.scale
    step = theirs(inputs_embeds=torch.cat([pictures / scaled, embedded[:, :4]], dim=1), use_cache=True)
    pieces = [step.logits]
    for i in range(4, 9):
        step = theirs(IDS[:, i : i + 1], past_key_values=step.past_key_values, use_cache=True)
        pieces.append(step.logits)
    segments = {"images": Segment.of(pictures, torch.arange(5)), "text": _segment(table, IDS[:, :4], 5)}
    reading: Prefix = Reading(trunk, segments, room=room)
    assert isinstance(reading, Reading)
    ours = [*reading.hidden.values()]
    for i in range(4, 9):
        piece, reading = reading.extend(trunk, _segment(table, IDS[:, i : i + 1], 5 + i))
        ours.append(piece)
    logits = table.logits("text", torch.cat(ours, dim=1))
    torch.testing.assert_close(logits, torch.cat(pieces, dim=1), atol=1e-5, rtol=1e-5)


def _wrong_pairs(x: Tensor, by: Turns) -> Tensor:
    """Neighbours turn together, as in the paper's drawing and not in the published weights."""
    other = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return x * by.cos + other * by.sin


def _wrong_groups(dense: Callable[..., Attend]) -> Callable[..., Attend]:
    """Query heads 0 2 4 share the first keys, instead of 0 1 2."""

    def made(*args: Any) -> Attend:
        attend = dense(*args)

        def dealt(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            read = attend(rearrange(q, "b (g k) q c -> b (k g) q c", k=k.shape[1]), k, v)
            return rearrange(read, "b (k g) q c -> b (g k) q c", k=k.shape[1])

        return dealt

    return made


@every_family
@pytest.mark.parametrize("mistake", ["rope pairs", "norm offset", "gate and up", "order of keys", "no embedding scale"])
def test_a_mistake_is_noticed(family: str, mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = _theirs(family)
    if mistake == "rope pairs":
        monkeypatch.setattr(block, "rotate", _wrong_pairs)
    if mistake == "order of keys":
        monkeypatch.setattr(attention, "dense", _wrong_groups(attention.dense))
    if mistake == "gate and up":
        swapped = grafting._LAYER | {"mlp.gate_proj": "up", "mlp.up_proj": "gate"}
        monkeypatch.setattr(grafting, "_LAYER", swapped)
    trunk, table = from_hf(theirs)
    if mistake == "norm offset":
        for part in trunk.modules():
            if isinstance(part, block.Norm):
                part.offset = not part.offset
    if mistake == "no embedding scale":
        table.scale = 1.0 if family == "gemma" else 2.0
    assert (_logits(trunk, table) - _expected(theirs)).abs().max() > 1e-3


@every_family
def test_a_tensor_too_many_or_too_few_is_named(family: str) -> None:
    theirs = _theirs(family)
    weights = theirs.state_dict()
    with pytest.raises(CheckpointError, match=r"too many \['model.layers.0.self_attn.q_proj.bias'\]"):
        trunk_from(weights | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(48)}, theirs.config)
    for name in weights.keys() - {"lm_head.weight"}:
        with pytest.raises(CheckpointError, match=r"missing|lack"):
            trunk_from({k: v for k, v in weights.items() if k != name}, theirs.config)
    with pytest.raises(CheckpointError, match=r"wrong shape \['norm.weight \(23,\), not \(24,\)"):
        trunk_from(weights | {"model.norm.weight": torch.zeros(23)}, theirs.config)


def test_a_folder_is_read(tmp_path: Path) -> None:
    theirs = _theirs("qwen3")
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    torch.testing.assert_close(_logits(*from_hf(tmp_path)), _expected(theirs), atol=1e-5, rtol=1e-5)
    with pytest.raises(CheckpointError, match=r"missing holds no config\.json"):
        from_hf(tmp_path / "missing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tie_word_embeddings": False}, "writes with a table of its own"),
        ({"attention_bias": True}, "attention with biases"),
        ({"hidden_act": "relu"}, "activation relu, not one of silu, gelu_pytorch_tanh"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "kind linear, not default"),
    ],
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        from_hf(_theirs("llama", **changes))


def test_what_is_grafted_learns() -> None:
    trunk, table = from_hf(_theirs("gemma"))
    prefix = Reading(trunk, {"text": _segment(table, IDS, 0)})
    hidden = prefix.hidden
    assert isinstance(prefix, Prefix)
    table.cross_entropy(table.logits("text", hidden["text"]), IDS).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (*trunk.parameters(), *table.parameters()))
