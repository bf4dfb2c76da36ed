"""The published models have as many weights here as there, and the shapes that their papers give."""

from typing import Any

import pytest
import torch

from vla.core.config import from_dict, to_dict
from vla.core.errors import ConfigError
from vla.models.contrastive.grafting import pair_config
from vla.models.contrastive.presets import PRESETS, PairConfig
from vla.models.contrastive.towers.config import EfficientNetConfig, TransformerTowerConfig, VitConfig
from vla.models.contrastive.towers.efficientnet import STAGES, rounded
from vla.models.readers.tower_config import TowerConfig

_SO400M: dict[str, Any] = {
    **{"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
}
_L14: dict[str, Any] = {
    "text": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    "vision": {
        **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        **{"patch_size": 14},
    },
}
_ALIGN: dict[str, Any] = {
    "text": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    "vision": {"width_coefficient": 4.3, "depth_coefficient": 5.3, "image_size": 289},
}
FULL: dict[str, tuple[str, dict[str, Any]]] = {
    "clip-vit-b-32": ("CLIP", {"projection_dim": 512}),
    "clip-vit-l-14": ("CLIP", {"projection_dim": 768, "text_config": _L14["text"], "vision_config": _L14["vision"]}),
    "siglip-so400m-14": (
        "Siglip",
        {"text_config": _SO400M | {"projection_size": 1152}, "vision_config": _SO400M | {"patch_size": 14}},
    ),
    "align": ("Align", {"projection_dim": 1376, "text_config": _ALIGN["text"], "vision_config": _ALIGN["vision"]}),
    "align-base": ("Align", {"projection_dim": 640, "vision_config": {"image_size": 289}}),
}
COUNTS = {"clip-vit-b-32": 151_277_313, "clip-vit-l-14": 427_616_513}
"""As the models were published, known by anyone who has loaded them."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_weights_of_the_published_model(name: str) -> None:
    import transformers

    family, changes = FULL[name]
    config, model = (getattr(transformers, family + part) for part in ("Config", "Model"))
    with torch.device("meta"):
        theirs = model(config(**changes))
        ours = PRESETS[name].build()
    unused = sum(p.numel() for key, p in theirs.named_parameters() if ".pooler." in key)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) - unused
    assert sum(p.numel() for p in ours.parameters()) == COUNTS.get(name, sum(p.numel() for p in ours.parameters()))
    grafted, preset = to_dict(pair_config(theirs.config)), to_dict(PRESETS[name])
    preset["text"]["marks"] = grafted["text"]["marks"]  # what tokenizers add there and towers here
    if family == "Align":
        assert preset.pop("width") == grafted.pop("width")
    assert preset == grafted


def test_where_the_founding_document_differs() -> None:
    """Texts of ViT-L/14 are 768 wide, 512 is ViT-B/32's; both towers of each end in one space."""
    texts = {name: PRESETS[f"clip-vit-{name}"].text for name in ("b-32", "l-14")}
    widths = {name: text.width for name, text in texts.items() if isinstance(text, TransformerTowerConfig)}
    assert widths == {"b-32": 512, "l-14": 768}
    assert (PRESETS["clip-vit-b-32"].width, PRESETS["clip-vit-l-14"].width) == (512, 768)
    large = PRESETS["clip-vit-l-14"].image
    assert isinstance(large, VitConfig)
    assert (large.tower.image // large.tower.patch) ** 2 + 1 == 257
    assert rounded(STAGES[-1].channels * 4.3) == PRESETS["align"].width == 1376
    assert rounded(STAGES[-1].channels * 2.0) == PRESETS["align-base"].width == 640


@pytest.mark.parametrize("name", PRESETS)
def test_settings_travel_as_text(name: str) -> None:
    assert from_dict(PairConfig, to_dict(PRESETS[name]), where="pair") == PRESETS[name]


_VIT = TowerConfig(width=8, layers=1, heads=2, hidden=8, patch=4, image=8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VitConfig(tower=_VIT, pool="whole"), "pool=whole asks for a token of the whole picture"),
        (lambda: EfficientNetConfig(widths=0.0), "widths=0.0 and depths=1.0 must be positive"),
        (lambda: EfficientNetConfig(std=(1.0, 1.0)), "expected three numbers each"),
        (lambda: _text(heads=3), "width=8 must be a multiple of heads=3"),
        (lambda: _text(marks=(1, 40)), r"marks=\(1, 40\): expected none, or two ids below words=9"),
        (lambda: _text(pool="last"), "pool=last and an id of padding go together"),
        (
            lambda: PairConfig(image=VitConfig(tower=_VIT), text=_text(), width=9, image_projection="none").build(),
            "image_projection=none: the tower gives 8 numbers, and the space has 9",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def _text(**changes: Any) -> TransformerTowerConfig:
    return TransformerTowerConfig(
        **{"words": 9, "length": 4, "width": 8, "layers": 1, "heads": 2, "hidden": 8} | changes
    )
