"""A unified transformer of a few thousand weights, and a batch for it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from vla.models.bins import ActionCodec, BinCodec
from vla.models.grounding import GroundingLayout

from vla.models.config import TransformerConfig, UnifiedConfig, VisionConfig
from vla.models.unified import UnifiedTransformer
from vla.models.vocabulary import Vocabulary

# Sizes that all differ, so that swapped axes are noticed.
TEXT, HORIZON, JOINTS, STATE, CAMERAS = 40, 3, 4, 5, 2
METRIC, GROUNDING = 2, 6  # two metric entries, then one point in each camera's image
LOW = np.linspace(-1.0, -0.3, HORIZON * JOINTS, dtype=np.float32).reshape(HORIZON, JOINTS)

MakeModel = Callable[..., UnifiedTransformer]
Batch = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models of this size only lose by sharing their work among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_model() -> MakeModel:
    def make(*, relative_to: tuple[int | None, ...] = (0, 1, 2, None), **changes: Any) -> UnifiedTransformer:
        torch.manual_seed(0)
        values: dict[str, Any] = {
            "trunk": TransformerConfig(width=24, layers=2, heads=3),
            "vision": VisionConfig(channels=4, tokens=3),
            "text_tokens": 6,
            "horizon": HORIZON,
            "action_bins": 16,
            "grounding_bins": 8,
            "state_dropout": 0.0,
        }
        config = UnifiedConfig(**(values | changes))
        vocabulary = Vocabulary(
            text=TEXT,
            grounding_dims=METRIC,
            grounding_bins=config.grounding_bins,
            action_dims=JOINTS,
            action_bins=config.action_bins,
        )
        limits = np.full(METRIC, -1.0, np.float32), np.full(METRIC, 1.0, np.float32)
        return UnifiedTransformer(
            config,
            vocabulary=vocabulary,
            layout=GroundingLayout(metric=(0, 1), points=(((2, 3),), ((4, 5),))),
            state_dims=STATE,
            actions=ActionCodec(
                codec=BinCodec(low=LOW, high=LOW + 1.5, bins=config.action_bins), relative_to=relative_to
            ),
            grounding=BinCodec(low=limits[0], high=limits[1], bins=config.grounding_bins),
            state_range=(torch.full((STATE,), -2.0), torch.full((STATE,), 2.0)),
        )

    return make


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    def make(size: int = 7, seed: int = 0) -> Batch:
        random = torch.Generator().manual_seed(seed)
        lengths = torch.randint(0, 7, (size, 1), generator=random)
        valid = torch.arange(6) < lengths
        return {
            "images": torch.randint(0, 256, (size, CAMERAS, 20, 24, 3), generator=random, dtype=torch.uint8),
            "state": torch.rand(size, STATE, generator=random) * 2 - 1,
            "text": torch.randint(0, TEXT, (size, 6), generator=random) * valid,
            "text_valid": valid,
            "actions": torch.rand(size, HORIZON, JOINTS, generator=random) - 0.5,
            "action_valid": torch.ones(size, HORIZON, dtype=torch.bool),
            "grounding": torch.rand(size, GROUNDING, generator=random) * 2 - 1,
        }

    return make
