"""A unified transformer of a few thousand weights, and a batch for it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from vla.core.contract import Dimension
from vla.models.heads.config import BinsHeadConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.model import Model
from vla.models.readers.config import ImagesConfig, StateConfig, TextConfig
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.inputs import Batch, Inputs, Targets
from vla.models.trunk.interface import Interface

# Sizes that all differ, so that swapped axes are noticed.
TEXT, LENGTH, HORIZON, JOINTS, STATE, CAMERAS = 40, 6, 3, 4, 5, 2
INTERFACE = Interface(
    cameras=("front", "wrist"),
    history=1,
    state=STATE,
    action=JOINTS,
    horizon=HORIZON,
    words=TEXT,
    text=LENGTH,
    embodiments=1,
    signals={
        "grounding": tuple(Dimension(name=n, unit="m", low=-1.0, high=1.0) for n in ("x", "y")),
        "pointing": tuple(
            Dimension(name=f"{camera}.thing.{axis}", unit="image", low=-1.0, high=1.0)
            for camera in ("front", "wrist")
            for axis in ("row", "column")
        ),
    },
)

MakeModel = Callable[..., Model]
MakeBatch = Callable[..., Batch]
Change = Callable[..., Batch]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models of this size only lose by sharing their work among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def interface() -> Interface:
    return INTERFACE


@pytest.fixture
def make_model() -> MakeModel:
    def make(*, interface: Interface = INTERFACE, dropout: float = 0.0, **changes: Any) -> Model:
        torch.manual_seed(0)
        values: dict[str, Any] = {
            "trunk": TransformerConfig(width=24, layers=2, heads=3),
            "readers": {
                "text": TextConfig(heads=3),
                "images": ImagesConfig(channels=4, tokens=3),
                "state": StateConfig(dropout=dropout),
            },
            "text_tokens": LENGTH,
            "horizon": HORIZON,
            "history": interface.history,
            "head": BinsHeadConfig(bins=16),
        }
        config = UnifiedConfig(**(values | changes))
        chunks = torch.rand(200, HORIZON, interface.action) * 2 - 1
        return config.build(interface, config.fit(chunks))

    return make


@pytest.fixture
def make_batch() -> MakeBatch:
    def make(size: int = 7, seed: int = 0, interface: Interface = INTERFACE) -> Batch:
        random = torch.Generator().manual_seed(seed)
        lengths = torch.randint(0, LENGTH + 1, (size, 1), generator=random)
        valid = torch.arange(LENGTH) < lengths
        t, n, s, d = interface.history, len(interface.cameras), interface.state, interface.action

        def within(*shape: int) -> torch.Tensor:
            return torch.rand(*shape, generator=random) * 2 - 1

        return Batch(
            inputs=Inputs(
                images=torch.randint(0, 256, (size, t, n, 20, 24, 3), generator=random, dtype=torch.uint8),
                camera_valid=torch.ones(size, n, dtype=torch.bool),
                state=within(size, t, s),
                state_valid=torch.ones(size, s, dtype=torch.bool),
                observed=torch.ones(size, t, dtype=torch.bool),
                text=torch.randint(0, TEXT, (size, LENGTH), generator=random) * valid,
                text_valid=valid,
                embodiment=torch.randint(0, interface.embodiments, (size,), generator=random),
            ),
            targets=Targets(
                actions=within(size, HORIZON, d),
                valid=torch.ones(size, HORIZON, d, dtype=torch.bool),
                signals={name: within(size, len(of)) for name, of in interface.signals.items()},
            ),
        )

    return make


@pytest.fixture
def change() -> Change:
    """The batch with other inputs or targets, by their names."""

    def changed(batch: Batch, **values: Any) -> Batch:
        inputs = {k: v for k, v in values.items() if hasattr(batch.inputs, k)}
        targets = {k: v for k, v in values.items() if k not in inputs}
        return Batch(inputs=replace(batch.inputs, **inputs), targets=replace(batch.targets, **targets))

    return changed
