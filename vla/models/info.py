"""What a checkpoint is, in one value: read from its documents and the headers of its weights, without building it."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import CheckpointError
from vla.core.policy_spec import DatasetVersion
from vla.models.checkpoint import blueprint_of, load_model, open_checkpoint, read_object


@dataclass(frozen=True, kw_only=True)
class RobotInfo:
    """One robot that a policy was trained on."""

    name: str
    cameras: tuple[Camera, ...]
    state: tuple[Dimension, ...]
    action: tuple[Dimension, ...]
    relative_to: tuple[str | None, ...]
    """For each action dimension the state dimension that it is learned relative to."""
    control_hz: float


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What `checkpoint_info` found."""

    path: str
    kind: str
    parameters: int
    robots: tuple[RobotInfo, ...]
    horizon: int
    execute: int
    ensemble: float
    history: int
    text_tokens: int
    listens: bool
    """Instructions may be spoken."""
    words: tuple[str, ...]
    signals: tuple[str, ...]
    """What the training data said beside states and actions."""
    datasets: tuple[DatasetVersion, ...]
    training: dict[str, Any]
    """Steps, samples, seconds, device and precision, as far as they were recorded."""
    created: str
    git: str
    model: dict[str, Any]
    """The model's configuration."""


def checkpoint_info(path: Path) -> CheckpointInfo:
    """Read a checkpoint's documents; a damaged or missing one is a `CheckpointError` that names it."""
    folder = open_checkpoint(path)
    blueprint = blueprint_of(folder)
    preprocessor, spec = blueprint.preprocessor, blueprint.contract.policy
    assert spec is not None
    origin = read_object(folder, "provenance.json") if "provenance.json" in folder.files else {}
    robots = (_robot(blueprint.contract_of(i)) for i in range(len(preprocessor.embodiments)))
    return CheckpointInfo(
        path=str(path),
        kind=spec.kind,
        parameters=_parameters(path / "weights.safetensors"),
        robots=tuple(robots),
        horizon=spec.horizon,
        execute=spec.execute,
        ensemble=spec.ensemble,
        history=spec.history,
        text_tokens=preprocessor.text_tokens,
        listens=spec.speech,
        words=preprocessor.words,
        signals=tuple(preprocessor.signals),
        datasets=spec.datasets,
        training=dict(origin.get("training", {})),
        created=str(origin.get("created", "")),
        git=str(origin.get("git", "")),
        model=dict(spec.model),
    )


def checkpoint_damage(path: Path) -> list[str]:
    """All that is not as it was sealed; where everything is, what keeps it from loading. Nothing is good."""
    folder = open_checkpoint(path)
    found = list(folder.damage())
    if not found:
        _, model = load_model(path)
        found = [f"{name} is not finite" for name, value in model.state_dict().items() if not value.isfinite().all()]
    return found


def _robot(contract: Contract) -> RobotInfo:
    assert contract.policy is not None
    return RobotInfo(
        name=contract.robot,
        cameras=contract.cameras,
        state=contract.state,
        action=contract.action,
        relative_to=contract.policy.relative_to,
        control_hz=contract.control_hz,
    )


def _parameters(path: Path) -> int:
    """Counted from the header of the file; no weight is read."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; copy the whole checkpoint folder")
    with safe_open(path, framework="numpy") as file:
        return sum(prod(file.get_slice(name).get_shape()) for name in sorted(file.keys()))
