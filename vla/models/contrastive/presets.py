"""Two towers, one space: the settings of the whole, and those of the published models. Free of heavy imports.

Where the founding document of this project differs from its sources, the sources are built:

- It gives the text encoder of CLIP ViT-L/14 as [B, L, 512]; that is the width of ViT-B/32's. ViT-L/14's is 768
  (arXiv 2103.00020, table 20), and both are here.
- ALIGN is EfficientNet-L2 with BERT-Large in the paper (arXiv 2102.05918, section 5), without a projection of pictures:
  the space is as wide as that network, 1376. ``align-base`` is what others trained and released, B7 with BERT-Base and
  640, and what transformers means by its defaults.
- transformers begins SigLIP's scale and bias at 0; the paper's ln 10 and −10 are those of `SigmoidConfig`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from vla.core.config import require_at_least_one
from vla.models.contrastive.config import InfoNceConfig, LossConfig, SigmoidConfig, SmoothedConfig
from vla.models.contrastive.towers.config import (
    EfficientNetConfig,
    ImageTowerConfig,
    TextTowerConfig,
    TransformerTowerConfig,
    VitConfig,
)
from vla.models.readers.tower_config import TowerConfig

if TYPE_CHECKING:
    from vla.models.contrastive.pair import Pair

Projection = Literal["none", "matrix", "affine"]


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """A tower of pictures and one of sentences; see `vla.models.contrastive.pair.Pair`."""

    image: ImageTowerConfig
    text: TextTowerConfig
    width: int
    """Of the space that both are in."""
    image_projection: Projection = "matrix"
    """From the tower's vector into that space: as it is, by a matrix, or by one with a bias."""
    text_projection: Projection = "matrix"
    loss: LossConfig = field(default_factory=InfoNceConfig)

    def __post_init__(self) -> None:
        require_at_least_one(self, "width", where="pair.")

    def build(self) -> "Pair":
        """The towers, as they begin."""
        from vla.models.contrastive.pair import Pair

        return Pair(self)


def _clip(vision: TowerConfig, text: TransformerTowerConfig, width: int) -> PairConfig:
    return PairConfig(image=VitConfig(tower=vision, pool="whole"), text=text, width=width)


def _align(vision: EfficientNetConfig, text: TransformerTowerConfig, width: int) -> PairConfig:
    return PairConfig(
        image=vision,
        text=text,
        width=width,
        image_projection="none",
        text_projection="affine",
        loss=SmoothedConfig(),
    )


_CLIP_VISION = TowerConfig(
    width=768,
    layers=12,
    heads=12,
    hidden=3072,
    patch=32,
    image=224,
    activation="quick_gelu",
    norm_eps=1e-5,
    whole=True,
    patch_bias=False,
    norm_first=True,
    norm_last=False,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
_CLIP_TEXT = TransformerTowerConfig(
    words=49_408,
    length=77,
    width=512,
    layers=12,
    heads=8,
    hidden=2048,
    activation="quick_gelu",
    causal=True,
    marks=(49_406, 49_407),
)
_SIGLIP_TEXT = TransformerTowerConfig(
    words=32_000,
    length=64,
    width=1152,
    layers=27,
    heads=16,
    hidden=4304,
    activation="gelu_tanh",
    norm_eps=1e-6,
    padding=1,
    pool="last",
)
_BERT = TransformerTowerConfig(
    words=30_522,
    length=512,
    width=768,
    layers=12,
    heads=12,
    hidden=3072,
    norm_eps=1e-12,
    norm="after",
    types=2,
    pool="first",
    marks=(101, 102),
)

PRESETS: Mapping[str, PairConfig] = {
    "clip-vit-b-32": _clip(_CLIP_VISION, _CLIP_TEXT, 512),
    "clip-vit-l-14": _clip(
        replace(_CLIP_VISION, width=1024, layers=24, heads=16, hidden=4096, patch=14),
        replace(_CLIP_TEXT, width=768, heads=12, hidden=3072),
        768,
    ),
    "siglip-so400m-14": PairConfig(
        image=VitConfig(
            tower=TowerConfig(width=1152, layers=27, heads=16, hidden=4304, patch=14, image=224), pool="attention"
        ),
        text=_SIGLIP_TEXT,
        width=1152,
        image_projection="none",
        text_projection="affine",
        loss=SigmoidConfig(),
    ),
    "align": _align(
        EfficientNetConfig(widths=4.3, depths=5.3, image=289),
        replace(_BERT, width=1024, layers=24, heads=16, hidden=4096),
        1376,
    ),
    "align-base": _align(EfficientNetConfig(widths=2.0, depths=3.1, image=289), _BERT, 640),
}
"""By the name of the published model."""
