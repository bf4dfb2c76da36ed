"""Tiny CLIP, SigLIP and ALIGN models of Hugging Face, and pictures and sentences for them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vla.models.contrastive.pair import Pair
from vla.models.readers.tower import pixels

FAMILIES = ("clip", "siglip", "align")
WORDS, LENGTH, END = 60, 16, 59
_TEXT: dict[str, Any] = {
    **{"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "max_position_embeddings": LENGTH, "pad_token_id": 1, "bos_token_id": 0},
    **{"eos_token_id": END},
}
_VISION: dict[str, Any] = {
    **{"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3},
    **{"image_size": 28, "patch_size": 14},
}
_ALIGN: dict[str, Any] = {
    "image_size": 64,
    "width_coefficient": 0.25,
    "depth_coefficient": 1.0,
    "drop_connect_rate": 0.0,
}


@dataclass(frozen=True)
class Pairs:
    """Pictures with sentences of several lengths, which end with a mark."""

    images: Tensor
    ids: Tensor
    valid: Tensor


def theirs(family: str, *, text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None) -> Any:
    """A model in which every weight and statistic matters."""
    import transformers

    texts, sees = _TEXT | (text or {}), (_ALIGN if family == "align" else _VISION) | (vision or {})
    if family == "siglip":
        texts |= {"projection_size": 24}
    sizes = {"clip": {"projection_dim": 20}, "siglip": {}, "align": {"projection_dim": 80}}[family]
    name = {"clip": "CLIP", "siglip": "Siglip", "align": "Align"}[family]
    config, model = (getattr(transformers, name + part) for part in ("Config", "Model"))
    torch.manual_seed(0)
    made = model(config(text_config=texts, vision_config=sees, **sizes)).eval()
    with torch.no_grad():
        for value in [*made.parameters(), *made.buffers()]:
            if value.is_floating_point() and value.ndim:
                value.add_(0.2 * torch.randn_like(value).abs() if value.ndim == 1 else 0.1 * torch.randn_like(value))
        if family == "align":
            _acquaint(made.vision_model)
    return made


def _acquaint(vision: Any) -> None:
    """Statistics of norms as those of some pictures: with any others all pictures look alike in the end."""
    random = torch.Generator().manual_seed(2)
    for part in vision.train().modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    vision(pixel_values=torch.randn(8, 3, vision.config.image_size, vision.config.image_size, generator=random))
    vision.eval()


def pairs(family: str) -> Pairs:
    """Of the size that the family reads."""
    random = torch.Generator().manual_seed(1)
    side = _ALIGN["image_size"] if family == "align" else _VISION["image_size"]
    images = torch.randint(0, 256, (5, side, side, 3), generator=random, dtype=torch.uint8)
    lengths = torch.tensor([9, 4, 6, 2, 9])
    valid = torch.arange(9) < lengths[:, None]
    ids = torch.randint(3, END, (5, 9), generator=random)
    ids[torch.arange(5), lengths - 1] = END
    return Pairs(images, ids.where(valid, 1), valid)


@torch.no_grad()
def expected(model: Any, given: Pairs, ours: Pair) -> dict[str, Tensor]:
    """What theirs makes of them: vectors, logits and loss."""
    vision = getattr(ours.config.image, "tower", ours.config.image)
    colours = pixels(given.images, vision.image, vision.mean, vision.std, torch.float32)
    if model.config.model_type == "siglip":  # reads padding as its tokenizer pads, to the end
        words = {"input_ids": F.pad(given.ids, (0, LENGTH - given.ids.shape[1]), value=1)}
    else:
        words = {"input_ids": given.ids, "attention_mask": given.valid.long()}
    said = model(pixel_values=colours, return_loss=True, **words)
    return {"images": said.image_embeds, "texts": said.text_embeds, "logits": said.logits_per_image, "loss": said.loss}


@torch.no_grad()
def found(ours: Pair, given: Pairs) -> dict[str, Tensor]:
    """What ours makes of them."""
    images, texts = ours.images(given.images), ours.texts(given.ids, given.valid)
    logits = ours.contrast.logits(images, texts)
    return {"images": images, "texts": texts, "logits": logits, "loss": ours(given.images, given.ids, given.valid)}


def wrong(ours: Pair, model: Any, given: Pairs) -> set[str]:
    """What is not theirs."""
    right, here = expected(model, given, ours), found(ours, given)
    return {name for name, x in right.items() if not torch.allclose(here[name], x, atol=1e-5, rtol=1e-5)}
