"""Text towers of Hugging Face: CLIP's, SigLIP's, ALIGN's and any BERT, by a table of names."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vla.core.errors import CheckpointError
from vla.models.contrastive.towers.config import TransformerTowerConfig

_ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu"}
_CLIP: Mapping[str, str] = {
    **{"embeddings.token_embedding": "words", "embeddings.position_embedding": "position"},
    **{"final_layer_norm": "norm_last", "self_attn.out_proj": "out", "mlp.fc1": "up", "mlp.fc2": "down"},
    **{"layer_norm1": "norm_attention", "layer_norm2": "norm_mlp"},
    **{f"self_attn.{part}_proj": part for part in "qkv"},
}
_BERT: Mapping[str, str] = {
    **{"embeddings.word_embeddings": "words", "embeddings.position_embeddings": "position"},
    **{"embeddings.token_type_embeddings": "kind", "embeddings.LayerNorm": "norm_first"},
    **{"attention.output.dense": "out", "attention.output.LayerNorm": "norm_attention"},
    **{"intermediate.dense": "up", "output.dense": "down", "output.LayerNorm": "norm_mlp"},
    **{f"attention.self.{name}": name[0] for name in ("query", "key", "value")},
}
_NAMES = {"clip": _CLIP, "siglip": _CLIP, "align": _BERT, "bert": _BERT}
"""Theirs → ours of each family, without the block's number and without ``weight`` or ``bias``."""
_BLOCK = re.compile(r"encoder\.layers?\.(\d+)\.(.+)")


def text_tensors(family: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ours of theirs; what no table knows keeps its name, and will fit nowhere."""
    names, own = _NAMES[family], {}
    for name, value in weights.items():
        path, _, end = name.rpartition(".")
        block = _BLOCK.fullmatch(path)
        number, part = block.groups() if block else (None, path)
        ours = f"{names.get(part, part)}.{end}" if part in names else name
        own[f"blocks.{number}.{ours}" if block and part in names else ours] = value
    for name in [name for name in own if name.split(".")[-2:-1] == ["q"]]:
        packed = [name.replace(".q.", f".{part}.") for part in "qkv"]
        if all(each in own for each in packed):
            own[name.replace(".q.", ".qkv.")] = torch.cat([own.pop(each) for each in packed])
    return own


def text_config(theirs: Any) -> TransformerTowerConfig:
    """Ours of theirs; what we do not compute is refused."""
    family = theirs.model_type.removesuffix("_text_model")
    if family not in _NAMES:
        raise CheckpointError(f"text family {family}, not one of {', '.join(_NAMES)}")
    activation = _ACTIVATIONS.get(theirs.hidden_act)
    refused = {
        f"activation {theirs.hidden_act}, not one of {', '.join(_ACTIVATIONS)}": activation is None,
        "positions that are not absolute": getattr(theirs, "position_embedding_type", "absolute") != "absolute",
        "a decoder's mask": getattr(theirs, "is_decoder", False),
    }
    if reasons := [reason for reason, holds in refused.items() if holds]:
        raise CheckpointError(f"this text tower cannot be grafted: it has {'; '.join(reasons)}")
    bert, siglip = family in ("align", "bert"), family == "siglip"
    return TransformerTowerConfig(
        words=theirs.vocab_size,
        length=theirs.max_position_embeddings,
        width=theirs.hidden_size,
        layers=theirs.num_hidden_layers,
        heads=theirs.num_attention_heads,
        hidden=theirs.intermediate_size,
        activation=activation,  # type: ignore[arg-type]
        norm_eps=theirs.layer_norm_eps,
        norm="after" if bert else "before",
        causal=family == "clip",
        padding=theirs.pad_token_id if siglip else None,
        types=theirs.type_vocab_size if bert else 0,
        pool="first" if bert else "last" if siglip else "end",
    )
