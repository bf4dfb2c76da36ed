"""A small robot, episodes of it, and datasets on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract, Dimension
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.manifest import publish
from vla.datasets.segment import SegmentWriter


def _dimensions(prefix: str, count: int) -> tuple[Dimension, ...]:
    return tuple(Dimension(name=f"{prefix}{i}", unit="rad", low=-3.0, high=3.0) for i in range(count))


@pytest.fixture
def contract() -> Contract:
    """Images that are not square, and widths that all differ, so that swapped axes are noticed."""
    return Contract(
        robot="arm",
        cameras=(Camera(name="front", height=6, width=8), Camera(name="wrist", height=6, width=8)),
        state=_dimensions("s", 5),
        action=_dimensions("a", 4),
        grounding=_dimensions("g", 3),
        control_hz=20.0,
    )


@pytest.fixture
def make_episode(contract: Contract) -> Callable[..., Episode]:
    def make(steps: int = 7, seed: int = 0, **changes: Any) -> Episode:
        rng = np.random.default_rng(seed)

        def floats(*shape: int) -> np.ndarray:
            return rng.standard_normal((steps, *shape)).astype(np.float32)

        values: dict[str, Any] = {
            "images": {c.name: rng.integers(0, 256, (steps, c.height, c.width, 3), np.uint8) for c in contract.cameras},
            "state": floats(len(contract.state)),
            "action": floats(len(contract.action)),
            "action_executed": floats(len(contract.action)),
            "reward": np.zeros(steps, np.float32),
            "done": np.arange(steps) == steps - 1,
            "valid": rng.random(steps) < 0.8,
            "time_ns": np.arange(steps, dtype=np.int64) * 50_000_000,
            "command_time_ns": np.arange(steps, dtype=np.int64) * 50_000_000 + 7,
            "grounding": floats(len(contract.grounding)),
            "instruction": f"put block {seed % 3} on the plate",
            "instruction_alternatives": ("do it",),
            "task": "put",
            "split": "train",
            "seed": seed,
            "success": True,
        }
        return Episode(**{**values, **changes})

    return make


@pytest.fixture
def make_dataset(
    tmp_path: Path, contract: Contract, make_episode: Callable[..., Episode]
) -> Callable[[Sequence[Sequence[int]]], Dataset]:
    """Builds a dataset from the lengths of the episodes of each segment."""

    def make(lengths: Sequence[Sequence[int]]) -> Dataset:
        root = tmp_path / "data set"
        create_dataset(root, contract)
        seed = 0
        for segment in lengths:
            with SegmentWriter(root, contract, {}) as writer:
                for steps in segment:
                    writer.append(make_episode(steps, seed))
                    seed += 1
                publish(root, [writer.seal()], "test")
        return Dataset.open(root)

    return make
