"""CLIP, SigLIP and ALIGN of Hugging Face, whole, tensor by tensor, every one accounted for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.core.errors import CheckpointError
from vla.models.contrastive.config import InfoNceConfig, LossConfig, SigmoidConfig, SmoothedConfig
from vla.models.contrastive.pair import Pair
from vla.models.contrastive.presets import PairConfig
from vla.models.contrastive.towers.config import ImageTowerConfig, VitConfig
from vla.models.contrastive.towers.efficientnet_grafting import align_tensors, efficientnet_config
from vla.models.contrastive.towers.transformer_grafting import text_config, text_tensors
from vla.models.readers.tower_grafting import tower_config, tower_from
from vla.models.trunk.filling import fill

_CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel", "align": "AlignModel"}
_PROJECTIONS: Mapping[str, Mapping[str, str]] = {
    "clip": {"visual_projection": "project_images", "text_projection": "project_texts"},
    "siglip": {"text_model.head": "project_texts"},
    "align": {"text_projection": "project_texts"},
}
"""Theirs → ours, weight and bias."""
_POOLS: Mapping[str, Mapping[str, str]] = {
    "clip": {"post_layernorm.": "norm."},
    "siglip": {
        **{"head.attention.out_proj.": "look.out.", "head.layernorm.": "look.norm."},
        **{"head.mlp.fc1.": "look.up.", "head.mlp.fc2.": "look.down."},
    },
}
_SCALES: Mapping[str, Mapping[str, tuple[str, Callable[[Tensor], Tensor]]]] = {
    "clip": {"logit_scale": ("log_scale.value", Tensor.clone)},
    "siglip": {"logit_scale": ("log_scale.value", Tensor.clone), "logit_bias": ("bias.value", Tensor.clone)},
    "align": {"temperature": ("log_scale.value", lambda temperature: -temperature.log())},
}
_LEFT = ("text_model.pooler.",)
"""What neither pictures nor sentences pass on the way into the space: ALIGN's text tower has a BERT's pooler."""


def pair_from_hf(source: Any) -> Pair:
    """The two towers of a model in memory, or of the folder that ``save_pretrained`` wrote.

    A folder that does not exist, another family, or a tensor too many or too few is a `CheckpointError`.
    """
    if isinstance(source, str | Path):
        source = _read(Path(source))
    return pair_from(source.state_dict(), source.config)


def pair_from(weights: Mapping[str, Tensor], theirs: Any) -> Pair:
    """The same from named tensors, and their configuration."""
    family = theirs.model_type
    config = pair_config(theirs)
    found = {name: value for name, value in weights.items() if not name.startswith(_LEFT)}
    own: dict[str, Tensor] = {}
    for name, (ours, through) in _SCALES[family].items():
        if name in found:
            own[f"contrast.{ours}"] = through(found.pop(name)).reshape(())
    for name, ours in _PROJECTIONS[family].items():
        for end in ("weight", "bias"):
            if f"{name}.{end}" in found:
                own[f"{ours}.{end}"] = found.pop(f"{name}.{end}")
    parts = {part: _taken(found, f"{part}_model.") for part in ("vision", "text")}
    own |= {f"image.{name}": value for name, value in _image_tensors(family, parts["vision"], config.image).items()}
    own |= {f"text.{name}": value for name, value in text_tensors(family, parts["text"]).items()}
    with torch.device("meta"):
        pair = config.build()
    fill(pair, own | found, what="the weights do not fit their configuration", assign=True)
    return pair.eval()


def pair_config(theirs: Any) -> PairConfig:
    """Ours of theirs; what we do not compute is refused."""
    family = theirs.model_type
    if family not in _CLASSES:
        raise CheckpointError(f"family {family}, not one of {', '.join(_CLASSES)}")
    text = text_config(theirs.text_config)
    if family == "align":
        return PairConfig(
            image=efficientnet_config(theirs.vision_config),
            text=text,
            width=theirs.projection_dim,
            image_projection="none",
            text_projection="affine",
            loss=SmoothedConfig(),
        )
    vision, siglip = tower_config(theirs.vision_config), family == "siglip"
    if siglip and not getattr(theirs.vision_config, "vision_use_head", True):
        raise CheckpointError("this pair cannot be grafted: its vision tower has no head that pools patches")
    loss: LossConfig = SigmoidConfig() if siglip else InfoNceConfig()
    return PairConfig(
        image=VitConfig(tower=vision, pool="attention" if siglip else "whole"),
        text=text,
        width=theirs.text_config.projection_size if siglip else theirs.projection_dim,
        image_projection="none" if siglip else "matrix",
        text_projection="affine" if siglip else "matrix",
        loss=loss,
    )


def _image_tensors(family: str, found: dict[str, Tensor], config: ImageTowerConfig) -> dict[str, Tensor]:
    """Ours of theirs, without ``vision_model.``; what nobody knows keeps its name, and will fit nowhere."""
    if not isinstance(config, VitConfig):
        return align_tensors(found)
    own: dict[str, Tensor] = {}
    for theirs, ours in _POOLS[family].items():
        own |= {ours + name: value for name, value in _taken(found, theirs).items()}
    if family == "siglip":
        own |= _look(found)
    tower = tower_from(found, config.tower)
    return own | {f"tower.{name}": value for name, value in tower.state_dict().items()}


def _look(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The query of SigLIP's head and its projections, which PyTorch keeps in one matrix: queries, keys and values."""
    own: dict[str, Tensor] = {}
    if (query := found.pop("head.probe", None)) is not None:
        own["look.query"] = query.reshape(-1)
    for end in ("weight", "bias"):
        if (packed := found.pop(f"head.attention.in_proj_{end}", None)) is not None:
            width = len(packed) // 3
            own |= {f"look.ask.{end}": packed[:width], f"look.keys_values.{end}": packed[width:]}
    return own


def _taken(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What begins so, out of ``found``, by the rest of its name."""
    return {name.removeprefix(prefix): found.pop(name) for name in list(found) if name.startswith(prefix)}


def _read(folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json: give the folder of a CLIP, SigLIP or ALIGN model")
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder / 'config.json'} cannot be read ({said}); copy the whole folder") from None
    if config.model_type not in _CLASSES:
        raise CheckpointError(f"{folder}: family {config.model_type}, not one of {', '.join(_CLASSES)}")
    try:
        model, found = getattr(transformers, _CLASSES[config.model_type]).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: its weights cannot be read ({said}); copy the whole folder") from None
    if found["missing_keys"]:
        raise CheckpointError(f"{folder}: the weights lack {sorted(found['missing_keys'])[:3]}")
    return model
