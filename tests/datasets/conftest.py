"""Two robots, episodes of them, and datasets on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla.core.contract import Camera, Contract, Dimension
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.store.layout import LOW_DIMENSIONAL
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

STEP_NS = 50_000_000


def _dimensions(prefix: str, count: int) -> tuple[Dimension, ...]:
    return tuple(Dimension(name=f"{prefix}{i}", unit="rad", low=-3.0, high=3.0) for i in range(count))


def _frames(camera: Camera, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, np.iinfo(camera.dtype).max + 1, (count, *camera.shape), np.dtype(camera.dtype))


def _build(contract: Contract, steps: int, seed: int, changes: dict[str, Any]) -> Episode:
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal((steps, *shape)).astype(np.float32)

    time_ns = np.arange(steps, dtype=np.int64) * STEP_NS
    clocks = {}
    for camera in contract.cameras:
        if camera.hz is not None:  # from step 0, or a little before it, to the last step
            period = int(1e9 / camera.hz)
            clocks[camera.name] = np.arange(-(seed % 7), (steps - 1) * STEP_NS + 1, period, dtype=np.int64)
    values: dict[str, Any] = {
        "images": {c.name: _frames(c, len(clocks.get(c.name, time_ns)), rng) for c in contract.cameras},
        "image_time_ns": clocks,
        "state": floats(len(contract.state)),
        "action": floats(len(contract.action)),
        "action_executed": floats(len(contract.action)),
        "reward": np.zeros(steps, np.float32),
        "done": np.arange(steps) == steps - 1,
        "valid": rng.random(steps) < 0.8,
        "time_ns": time_ns,
        "command_time_ns": time_ns + 7,
        "signals": {name: floats(len(signal)) for name, signal in contract.signals.items()},
        "instruction": f"put block {seed % 3} on the plate",
        "instruction_alternatives": ("do it",),
        "task": "put",
        "split": "train",
        "seed": seed,
        "success": True,
    }
    return Episode(**{**values, **changes})


@pytest.fixture
def contract() -> Contract:
    """Images that are not square, and widths that all differ, so that swapped axes are noticed."""
    return Contract(
        robot="arm",
        cameras=(Camera(name="front", height=6, width=8), Camera(name="wrist", height=6, width=8)),
        state=_dimensions("s", 5),
        action=_dimensions("a", 4),
        signals={"place": _dimensions("g", 3), "force": _dimensions("f", 2)},
        control_hz=20.0,
    )


@pytest.fixture
def make_episode(contract: Contract) -> Callable[..., Episode]:
    """Builds an episode of the contract from its steps, its seed and any fields."""

    def make(steps: int = 7, seed: int = 0, **changes: Any) -> Episode:
        return _build(contract, steps, seed, changes)

    return make


@pytest.fixture
def rich_contract() -> Contract:
    """All that a robot may have: depth, a camera faster and one slower than the control loop."""
    return Contract(
        robot="arm",
        cameras=(
            Camera(name="front", height=6, width=8),
            Camera(name="depth", height=5, width=7, kind="depth"),
            Camera(name="fast", height=3, width=4, hz=47.0),
            Camera(name="slow-depth", height=4, width=3, kind="depth", hz=9.0),
        ),
        state=_dimensions("s", 5),
        action=_dimensions("a", 4),
        control_hz=20.0,
    )


@pytest.fixture
def make_rich_episode(rich_contract: Contract) -> Callable[..., Episode]:
    """Builds an episode of the rich contract, with simulator states and a model."""

    def make(steps: int = 7, seed: int = 0, **changes: Any) -> Episode:
        states = np.random.default_rng(seed + 1000).standard_normal((steps, 6 + seed % 2))
        known = {
            "sim_state": states,
            "model": f"<mujoco model='é{seed % 2}'/>\r\n",
            "provenance": {"file": ["ä.h5", seed]},
        }
        return _build(rich_contract, steps, seed, {**known, **changes})

    return make


@pytest.fixture
def make_dataset(
    tmp_path: Path, contract: Contract, make_episode: Callable[..., Episode]
) -> Callable[[Sequence[Sequence[int]]], Dataset]:
    """Builds a dataset from the lengths of the episodes of each segment."""

    def make(lengths: Sequence[Sequence[int]]) -> Dataset:
        return _write(tmp_path / "data set", contract, make_episode, lengths)

    return make


@pytest.fixture
def make_rich_dataset(
    tmp_path: Path, rich_contract: Contract, make_rich_episode: Callable[..., Episode]
) -> Callable[[Sequence[Sequence[int]]], Dataset]:
    """As `make_dataset`, of the rich contract."""

    def make(lengths: Sequence[Sequence[int]]) -> Dataset:
        return _write(tmp_path / "rich data", rich_contract, make_rich_episode, lengths)

    return make


def _write(root: Path, contract: Contract, make: Callable[..., Episode], lengths: Sequence[Sequence[int]]) -> Dataset:
    create_dataset(root, contract)
    seed = 0
    for segment in lengths:
        with SegmentWriter(root, contract, {}) as writer:
            for steps in segment:
                writer.append(make(steps, seed))
                seed += 1
            publish(root, [writer.seal()], "test")
    return Dataset.open(root)


@pytest.fixture
def assert_same() -> Callable[[Episode, Episode], None]:
    """Two episodes are equal to the last bit."""

    def compare(a: Episode, b: Episode) -> None:
        assert set(a.images) == set(b.images)
        assert set(a.image_time_ns) == set(b.image_time_ns)
        pairs = [(a.images[camera], b.images[camera]) for camera in a.images]
        pairs += [(a.image_time_ns[camera], b.image_time_ns[camera]) for camera in a.image_time_ns]
        pairs += [(getattr(a, name), getattr(b, name)) for name in LOW_DIMENSIONAL]
        assert set(a.signals) == set(b.signals)
        pairs += [(a.signals[name], b.signals[name]) for name in a.signals]
        assert (a.sim_state is None) == (b.sim_state is None)
        if a.sim_state is not None and b.sim_state is not None:
            pairs.append((a.sim_state, b.sim_state))
        for x, y in pairs:
            assert x.dtype == y.dtype
            assert x.shape == y.shape
            assert x.tobytes() == y.tobytes()
        for name in (
            "instruction",
            "instruction_alternatives",
            "task",
            "split",
            "seed",
            "success",
            "model",
            "provenance",
        ):
            assert getattr(a, name) == getattr(b, name), name

    return compare


@pytest.fixture
def bucket(s3_service: Any) -> Any:
    """An empty bucket, through another client."""
    return s3_service.create_bucket(Bucket="robot-data")
