"""EfficientNets of others: ALIGN's of Hugging Face, and the Lite ones that packages ship, by tables of names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vla.core.errors import CheckpointError
from vla.models.contrastive.towers.config import EfficientNetConfig
from vla.models.contrastive.towers.efficientnet import STAGES

_ALIGN: Sequence[tuple[str, str]] = (
    (r"embeddings\.convolution\.", "stem.conv."),
    (r"embeddings\.batchnorm\.", "stem.norm."),
    (r"encoder\.(blocks\.\d+\.)expansion\.expand_conv\.", r"\1expand.conv."),
    (r"encoder\.(blocks\.\d+\.)expansion\.expand_bn\.", r"\1expand.norm."),
    (r"encoder\.(blocks\.\d+\.)depthwise_conv\.depthwise_conv\.", r"\1each.conv."),
    (r"encoder\.(blocks\.\d+\.)depthwise_conv\.depthwise_norm\.", r"\1each.norm."),
    (r"encoder\.(blocks\.\d+\.)squeeze_excite\.reduce\.", r"\1weigh.squeeze."),
    (r"encoder\.(blocks\.\d+\.)squeeze_excite\.expand\.", r"\1weigh.excite."),
    (r"encoder\.(blocks\.\d+\.)projection\.project_conv\.", r"\1project.conv."),
    (r"encoder\.(blocks\.\d+\.)projection\.project_bn\.", r"\1project.norm."),
)
_LITE: Sequence[tuple[str, str]] = (
    (r"_conv_stem\.", "stem.conv."),
    (r"_bn0\.", "stem.norm."),
    (r"_(blocks\.\d+\.)_expand_conv\.", r"\1expand.conv."),
    (r"_(blocks\.\d+\.)_bn0\.", r"\1expand.norm."),
    (r"_(blocks\.\d+\.)_depthwise_conv\.", r"\1each.conv."),
    (r"_(blocks\.\d+\.)_bn1\.", r"\1each.norm."),
    (r"_(blocks\.\d+\.)_project_conv\.", r"\1project.conv."),
    (r"_(blocks\.\d+\.)_bn2\.", r"\1project.norm."),
    (r"_conv_head\.", "head.conv."),
    (r"_bn1\.", "head.norm."),
)
"""Theirs, as patterns of how a name begins, → ours."""
LITE0 = EfficientNetConfig(squeeze=0.0, activation="relu6", head=1280, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
"""EfficientNet-Lite0: what small devices compute badly is left out, and colours are as TensorFlow Lite has them."""


def align_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ours of ALIGN's vision model; what no table knows keeps its name, and will fit nowhere."""
    return {_renamed(name, _ALIGN): value for name, value in weights.items()}


def lite_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ours of a Lite one as PyTorch ports have it, without the layer that names what is seen."""
    return {_renamed(name, _LITE): value for name, value in weights.items() if not name.startswith("_fc.")}


def efficientnet_config(theirs: Any) -> EfficientNetConfig:
    """Ours of `transformers.AlignVisionConfig`; what we do not compute is refused."""
    stages = {
        "kernel_sizes": [stage.kernel for stage in STAGES],
        "in_channels": [32, *(stage.channels for stage in STAGES[:-1])],
        "out_channels": [stage.channels for stage in STAGES],
        "strides": [stage.stride for stage in STAGES],
        "num_block_repeats": [stage.blocks for stage in STAGES],
        "expand_ratios": [stage.expand for stage in STAGES],
        "depthwise_padding": [],
        "depth_divisor": 8,
        "hidden_act": "swish",
        "pooling_type": "mean",
        "num_channels": 3,
    }
    for name, expected in stages.items():
        found = getattr(theirs, name)
        if (list(found) if isinstance(found, list | tuple) else found) != expected:
            raise CheckpointError(f"this EfficientNet cannot be grafted: {name} is {found}, not {expected}")
    return EfficientNetConfig(
        widths=theirs.width_coefficient,
        depths=theirs.depth_coefficient,
        squeeze=theirs.squeeze_expansion_ratio,
        image=theirs.image_size,
        norm_eps=theirs.batch_norm_eps,
    )


def _renamed(name: str, table: Sequence[tuple[str, str]]) -> str:
    for pattern, ours in table:
        if found := re.match(pattern, name):
            return found.expand(ours) + name[found.end() :]
    return name
