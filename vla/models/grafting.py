"""Language models of Hugging Face as trunks: Llama, Gemma and Qwen3, tensor by tensor, every one accounted for.

Their blocks are ours with other settings, so the weights are copied and nothing is wrapped: text logits are theirs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.core.errors import CheckpointError
from vla.models.trunk.attention import Transformer
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.filling import fill
from vla.models.trunk.vocabulary import TokenTable, Vocabulary

_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_FAMILIES = ("llama", "gemma", "qwen3")
_WHOLE = {"model.norm.weight": "norm.weight"}
_LAYER = {
    "input_layernorm": "norm_attention",
    "post_attention_layernorm": "norm_mlp",
    "self_attn.o_proj": "out",
    "self_attn.q_norm": "norm_q",
    "self_attn.k_norm": "norm_k",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}
"""Theirs → ours, of each layer; queries, keys and values are one matrix here."""
_TABLE, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def from_hf(source: Any) -> tuple[Transformer, TokenTable]:
    """The trunk and the token table of a language model: one in memory, or the folder that holds it.

    Its vocabulary is the range ``text``. A folder that does not exist, another family, or a tensor too many or too few
    is a `CheckpointError`.
    """
    if isinstance(source, str | Path):
        _require_model(source)
        from transformers import AutoModelForCausalLM

        source = AutoModelForCausalLM.from_pretrained(source, local_files_only=True)
    return trunk_from(source.state_dict(), source.config)


def settings_of(folder: str | Path) -> TransformerConfig:
    """What the trunk of the model in ``folder`` is built from; its weights are not read."""
    _require_model(folder)
    from transformers import AutoConfig

    return _config(AutoConfig.from_pretrained(folder, local_files_only=True))


def graft(trunk: Transformer, table: TokenTable, folder: str | Path) -> None:
    """Fill a trunk and the text rows of a table with the weights of the model in ``folder``.

    Its table may have rows that no token of its tokenizer has; one with fewer is a `CheckpointError`.
    """
    theirs, words = from_hf(folder)
    fill(trunk, theirs.state_dict(), what=f"{folder} is another model than when its settings were read")
    own, given = table.rows("text"), words.rows("text")
    if len(given) < len(own):
        raise CheckpointError(
            f"{folder} has a table of {len(given)} tokens, and its tokenizer knows {len(own)}; take the tokenizer that "
            "belongs to the model"
        )
    with torch.no_grad():
        own.copy_(given[: len(own)])


def _require_model(folder: str | Path) -> None:
    # Asked for a folder that is not there, transformers would look for a repository of that name.
    if not (Path(folder) / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json: give the folder of a model of Hugging Face")


def trunk_from(weights: Mapping[str, Tensor], theirs: Any) -> tuple[Transformer, TokenTable]:
    """The same from named tensors and the configuration that transformers gives them."""
    config = _config(theirs)
    # On the meta device nothing is drawn that would be overwritten, nor allocated twice.
    with torch.device("meta"):
        trunk = Transformer(config)
        table = TokenTable(Vocabulary({"text": theirs.vocab_size}), config.width, scale=config.embedding_scale)
    found = dict(weights)
    embedding = found.pop(_TABLE, None)
    if embedding is None:
        raise CheckpointError(f"the weights lack {_TABLE}; this is no whole language model")
    head = found.pop(_HEAD, embedding)
    if head is not embedding and not torch.equal(head, embedding):
        raise CheckpointError(
            f"{_HEAD} is not {_TABLE}: this model writes with a table of its own, and ours reads and writes with one; "
            "take one with tie_word_embeddings: true"
        )
    own = {ours: found.pop(name) for name, ours in _WHOLE.items() if name in found}
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        parts = [found.pop(f"{prefix}self_attn.{part}_proj.weight", None) for part in "qkv"]
        if all(part is not None for part in parts):
            own[f"blocks.{layer}.qkv.weight"] = torch.cat([part for part in parts if part is not None])
        for name, ours in _LAYER.items():
            if f"{prefix}{name}.weight" in found:
                own[f"blocks.{layer}.{ours}.weight"] = found.pop(f"{prefix}{name}.weight")
    fill(trunk, found | own, what="the weights do not fit their configuration", assign=True)
    table.load_state_dict({"weight": embedding.detach().clone()}, assign=True)
    return trunk, table


def _config(theirs: Any) -> TransformerConfig:
    """Ours of theirs; what we do not compute is refused."""
    family, rope = theirs.model_type, theirs.rope_parameters
    activation = _ACTIVATIONS.get(theirs.hidden_act)
    refused = {
        f"family {family}, not one of {', '.join(_FAMILIES)}": family not in _FAMILIES,
        f"activation {theirs.hidden_act}, not one of {', '.join(_ACTIVATIONS)}": activation is None,
        f"rotary positions of kind {rope['rope_type']}, not default": rope["rope_type"] != "default",
        "attention with biases": getattr(theirs, "attention_bias", False),
        "an MLP with biases": getattr(theirs, "mlp_bias", False),
        "attention over a sliding window": getattr(theirs, "use_sliding_window", False),
        "attention in both directions": getattr(theirs, "use_bidirectional_attention", None),
    }
    if reasons := [reason for reason, holds in refused.items() if holds]:
        raise CheckpointError(f"this model cannot be grafted: it has {'; '.join(reasons)}")
    gemma = family == "gemma"
    return TransformerConfig(
        width=theirs.hidden_size,
        layers=theirs.num_hidden_layers,
        heads=theirs.num_attention_heads,
        kv_heads=theirs.num_key_value_heads,
        head_dim=theirs.head_dim,
        mlp_ratio=theirs.intermediate_size / theirs.hidden_size,
        gated=True,
        activation=activation,  # type: ignore[arg-type]
        qk_norm=family == "qwen3",
        rope=float(rope["rope_theta"]),
        norm_eps=theirs.rms_norm_eps,
        norm_offset=gemma,
        embedding_scale=theirs.hidden_size**0.5 if gemma else 1.0,
    )
