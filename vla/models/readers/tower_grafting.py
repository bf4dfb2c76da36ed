"""Vision towers of Hugging Face: SigLIP, SigLIP 2, DINOv2 and CLIP, tensor by tensor, every one accounted for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vla.core.errors import CheckpointError
from vla.models.readers.tower import Tower
from vla.models.readers.tower_config import TowerConfig
from vla.models.trunk.filling import fill

_ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu"}
_CLASSES = {"siglip": "Siglip", "siglip2": "Siglip2", "dinov2": "Dinov2", "clip": "CLIP"}
_SIGLIP_LAYER = {
    **{"layer_norm1": "norm_attention", "layer_norm2": "norm_mlp", "self_attn.out_proj": "out"},
    **{"mlp.fc1": "up", "mlp.fc2": "down"},
}
_DINO_LAYER = {
    **{"norm1": "norm_attention", "norm2": "norm_mlp", "attention.o_proj": "out", "mlp.fc1": "up", "mlp.fc2": "down"},
    **{"mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down"},
}
_WHOLE: Mapping[str, Mapping[str, str]] = {
    "siglip": {"embeddings.position_embedding.weight": "position.weight", "post_layernorm": "norm_last"},
    "clip": {
        **{"embeddings.class_embedding": "whole.weight", "embeddings.position_embedding.weight": "position.weight"},
        "pre_layrnorm": "norm_first",
    },
    "dinov2": {
        **{"embeddings.cls_token": "whole.weight", "embeddings.position_embeddings": "position.weight"},
        "layernorm": "norm_last",
    },
}
"""Theirs → ours; a name without its last part stands for weight and bias."""
_LEFT = {"siglip": ("head.",), "clip": ("post_layernorm.",), "dinov2": ("embeddings.mask_token",)}
"""What makes one vector of a picture, or hides patches in training: no part of the vectors of patches."""


def tower_from_hf(source: Any) -> Tower:
    """The tower of a vision model: one in memory, or the folder that holds it or a whole it is part of.

    A folder that does not exist, another family, or a tensor too many or too few is a `CheckpointError`.
    """
    folder = source if isinstance(source, str | Path) else None
    if folder is not None:
        family = _family(Path(folder))
        import transformers

        cls = getattr(transformers, f"{_CLASSES[family]}{'Model' if family == 'dinov2' else 'VisionModel'}")
        try:
            source, found = cls.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{folder}: its weights cannot be read ({said}); copy the whole folder") from None
        if found["missing_keys"]:
            raise CheckpointError(f"{folder}: the weights lack {sorted(found['missing_keys'])[:3]}")
    pixels = {} if folder is None else _pixels(Path(folder))
    return tower_from(source.state_dict(), tower_config(source.config, **pixels))


def begin_tower(tower: Tower, folder: str, whole: TowerConfig) -> None:
    """Fill ``tower`` from the folder, where one is named, which must hold ``whole``; last blocks may be left out."""
    if not folder:
        return
    found = tower_from_hf(Path(folder))
    if found.config != whole:
        raise CheckpointError(f"{folder} holds another tower than the recipe says: {found.config}")
    own = tower.state_dict()
    tower.load_state_dict({name: value for name, value in found.state_dict().items() if name in own})


def read_tower_config(folder: Path) -> TowerConfig:
    """Ours, of the configuration in a folder; no weight is read."""
    family = _family(folder)
    import transformers

    cls = getattr(transformers, f"{_CLASSES[family]}{'Config' if family == 'dinov2' else 'VisionConfig'}")
    return tower_config(cls.from_pretrained(folder, local_files_only=True), **_pixels(folder))


def tower_from(weights: Mapping[str, Tensor], config: TowerConfig) -> Tower:
    """The same from named tensors, and what they are the weights of."""
    kind = "dinov2" if config.scaled else "clip" if config.whole else "siglip"
    found = {name: value for name, value in weights.items() if not name.startswith(_LEFT[kind])}
    own = _embedded(found, config)
    for theirs, ours in _WHOLE[kind].items():
        own |= _taken(found, theirs, ours)
    layer_name, attention = ("encoder.layer", "attention") if kind == "dinov2" else ("encoder.layers", "self_attn")
    for i in range(config.layers):
        theirs, ours = f"{layer_name}.{i}.", f"blocks.{i}."
        for end in ("weight", "bias"):
            names = [f"{theirs}{attention}.{part}_proj.{end}" for part in "qkv"]
            if all(name in found for name in names):
                own[f"{ours}qkv.{end}"] = torch.cat([found.pop(name) for name in names])
        for name, part in (_DINO_LAYER if kind == "dinov2" else _SIGLIP_LAYER).items():
            own |= _taken(found, theirs + name, ours + part)
        for number, part in ((1, "scale_attention"), (2, "scale_mlp")):
            if (name := f"{theirs}layer_scale{number}.lambda1") in found:
                own[f"{ours}{part}.weight"] = found.pop(name)
    with torch.device("meta"):
        tower = Tower(config)
    fill(tower, found | own, what="the weights do not fit their configuration", assign=True)
    return tower


def tower_config(theirs: Any, *, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> TowerConfig:
    """Ours of theirs; what we do not compute is refused. Without ``mean`` and ``std`` pixels are as the family's."""
    family = theirs.model_type.removesuffix("_vision_model")
    dino = family == "dinov2"
    swiglu = dino and theirs.use_swiglu_ffn
    activation = "swiglu" if swiglu else _ACTIVATIONS.get(theirs.hidden_act)
    image = theirs.patch_size * round(theirs.num_patches**0.5) if family == "siglip2" else theirs.image_size
    refused = {
        f"family {family}, not one of {', '.join(_CLASSES)}": family not in _CLASSES,
        f"activation {theirs.hidden_act}, not one of {', '.join(_ACTIVATIONS)}": activation is None,
        "queries, keys and values without biases": dino and not theirs.qkv_bias,
        f"{theirs.num_channels} channels, not 3": theirs.num_channels != 3,
        f"pictures of {image} pixels, which patches of {theirs.patch_size} do not fill": image % theirs.patch_size,
    }
    if reasons := [reason for reason, holds in refused.items() if holds]:
        raise CheckpointError(f"this tower cannot be grafted: it has {'; '.join(reasons)}")
    hidden = int(theirs.hidden_size * theirs.mlp_ratio) if dino else theirs.intermediate_size
    pixels = {"siglip": _HALF, "siglip2": _HALF, "dinov2": _IMAGENET, "clip": _CLIP}[family]
    return TowerConfig(
        width=theirs.hidden_size,
        layers=theirs.num_hidden_layers,
        heads=theirs.num_attention_heads,
        hidden=(int(hidden * 2 / 3) + 7) // 8 * 8 if swiglu else hidden,
        patch=theirs.patch_size,
        image=image,
        activation=activation,  # type: ignore[arg-type]
        norm_eps=theirs.layer_norm_eps,
        whole=family in ("clip", "dinov2"),
        patch_bias=family != "clip",
        norm_first=family == "clip",
        norm_last=family != "clip",
        scaled=dino,
        mean=mean or pixels[0],
        std=std or pixels[1],
    )


_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of the pixels that each was trained on; ``preprocessor_config.json`` of a folder wins."""


def _embedded(found: dict[str, Tensor], config: TowerConfig) -> dict[str, Tensor]:
    """The projection of patches, a convolution in all but SigLIP 2, as a matrix over rows, columns and colours."""
    own = {}
    for name in ("embeddings.patch_embedding", "embeddings.patch_embeddings.projection"):
        if (weight := found.pop(f"{name}.weight", None)) is not None:
            own["project.weight"] = rearrange(weight, "e c y x -> e (y x c)") if weight.ndim == 4 else weight
        if (bias := found.pop(f"{name}.bias", None)) is not None:
            own["project.bias"] = bias
    return own


def _taken(found: dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """One tensor, or weight and bias, out of ``found``; a table of one row or with a batch axis loses that."""
    if theirs in found:
        value = found.pop(theirs)
        return {ours: value.reshape(-1, value.shape[-1])}
    ends = [end for end in ("weight", "bias") if f"{theirs}.{end}" in found]
    return {f"{ours}.{end}": found.pop(f"{theirs}.{end}") for end in ends}


def _family(folder: Path) -> str:
    """Of a tower, or of the whole that it is part of."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json: give the folder of a vision model of Hugging Face")
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder / 'config.json'} names no model_type; copy the whole folder") from None
    family = str(kind).removesuffix("_vision_model")
    if family not in _CLASSES:
        raise CheckpointError(f"{folder}: family {family}, not one of {', '.join(_CLASSES)}")
    return family


def _pixels(folder: Path) -> dict[str, tuple[float, ...]]:
    """Mean and deviation as the folder says them; nothing where it does not."""
    file = folder / "preprocessor_config.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        found = {ours: said.get(theirs, ()) for ours, theirs in (("mean", "image_mean"), ("std", "image_std"))}
        return {name: tuple(map(float, values)) for name, values in found.items()}
    except (ValueError, TypeError, AttributeError):
        raise CheckpointError(f"{file} is damaged; copy the whole folder") from None
