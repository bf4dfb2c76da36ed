"""What cannot be built is refused by its key."""

from collections.abc import Callable
from typing import Any

import pytest

from vla.core.errors import ConfigError
from vla.models.auxiliaries.config import GroundingConfig, PointingConfig
from vla.models.codecs.config import BinsConfig
from vla.models.heads.config import BinsHeadConfig, FlowHeadConfig, MaskedHeadConfig, MipHeadConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.readers.config import ImagesConfig, StateConfig
from vla.models.trunk.config import TransformerConfig


@pytest.mark.parametrize(
    ("build", "values", "key"),
    [
        (UnifiedConfig, {"horizon": 0}, "model.horizon"),
        (UnifiedConfig, {"execute": 0}, "model.execute"),
        (UnifiedConfig, {"history": 0}, "model.history"),
        (UnifiedConfig, {"text_tokens": 0}, "model.text_tokens"),
        (TransformerConfig, {"width": 10}, "width=10 must be a multiple of model.trunk.heads=4"),
        (TransformerConfig, {"layers": 0}, "model.trunk.layers"),
        (TransformerConfig, {"heads": 0}, "model.trunk.heads"),
        (ImagesConfig, {"tokens": 0}, "model.readers.images.tokens"),
        (ImagesConfig, {"channels": 0}, "model.readers.images.channels"),
        (StateConfig, {"dropout": 1.5}, "model.readers.state.dropout"),
        (BinsHeadConfig, {"bins": 1}, "model.head.bins"),
        (BinsHeadConfig, {"label_sigma": 0.0}, "model.head.label_sigma"),
        (MaskedHeadConfig, {"rounds": 0}, "model.head.rounds"),
        (MipHeadConfig, {"known": 1.0}, "model.head.known"),
        (FlowHeadConfig, {"steps": 0}, "model.head.steps"),
        (FlowHeadConfig, {"passes": 0}, "model.head.passes"),
        (FlowHeadConfig, {"width": 7}, "model.head.width=7 must be even"),
        (FlowHeadConfig, {"insulate": True}, "model.head.insulate: without a teacher"),
        (UnifiedConfig, {"committed": -1}, "model.committed=-1"),
        (UnifiedConfig, {"committed_noise": -0.1}, "model.committed_noise=-0.1"),
        (UnifiedConfig, {"committed": 8}, "model.committed=8 must be at least 0 and below model.horizon=8"),
        (BinsConfig, {"bins": 1}, "codec.bins"),
        (BinsConfig, {"quantile": 0.5}, "codec.quantile"),
        (GroundingConfig, {"bins": 1}, "model.auxiliaries.grounding.bins"),
        (PointingConfig, {"weight": -1.0}, "weight=-1.0 of pointing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_sizes(build: Callable[..., Any], values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        build(**values)
