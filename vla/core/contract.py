"""The contract: one JSON value that says everything two parts must agree on.

An environment, a dataset, a checkpoint, a server and a robot each carry one. Wherever two of them meet, their
interfaces are compared first, and a mismatch is refused with a readable difference before anything else happens.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vla.core.errors import ContractError
from vla.core.policy_spec import PolicySpec

CONTRACT_VERSION = 2
TOLERANCE = 0.5
"""Of a range. A gripper with a soft stop overshoots by a quarter of it; degrees for radians are beyond it at once."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One number of a state, an action or a signal."""

    name: str
    unit: str
    """SI: ``rad``, ``m``, or ``1`` for a ratio; ``image`` for a position in an image, -1 to 1 across it."""
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One image stream, row 0 at the top."""

    name: str
    height: int
    width: int
    kind: Literal["rgb", "depth"] = "rgb"
    """``rgb``: uint8, 3 channels; ``depth``: uint16 millimetres, 1 channel, 0 where nothing was measured."""
    hz: float | None = None
    """Its own frame rate, with its own clock; None gives one frame for each control step."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(y, x, channels) of one frame."""
        return self.height, self.width, 3 if self.kind == "rgb" else 1

    @property
    def dtype(self) -> str:
        """Of one pixel."""
        return "uint8" if self.kind == "rgb" else "uint16"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a robot shows and takes, and, for a policy, how it was trained to read it."""

    robot: str
    cameras: tuple[Camera, ...]
    state: tuple[Dimension, ...]
    action: tuple[Dimension, ...]
    """Absolute targets; the limits are the robot's own."""
    signals: Mapping[str, tuple[Dimension, ...]] = field(default_factory=dict)
    """What a dataset says beside states and actions, by name: a training signal, never an input."""
    gripper: str | None = None
    """The name of the action dimension that is the gripper; larger opens."""
    control_hz: float
    tolerance: float = TOLERANCE
    """What may lie outside of limits, as a share of their range: a state or a recorded command within this margin is
    measured or sent a little too far, and is brought inside and counted where a policy reads it; one beyond is an error
    (of the unit, the order, the sensor) and refused. What a policy commands is always brought inside and counted."""
    policy: PolicySpec | None = None
    """Checkpoints and what serves them only: how the policy was trained to read all this."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Software that produced this: recorded, and compared by nobody."""

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object that `from_json` reads back; a tolerance that is the default is not said."""
        value = {"contract_version": CONTRACT_VERSION, **dataclasses.asdict(self)}
        if self.tolerance == TOLERANCE:
            del value["tolerance"]  # contracts that never spoke of it keep their digests
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any], *, where: str) -> "Contract":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        version = value.get("contract_version")
        if version == 1:
            raise ContractError(
                f"{where}: contract version 1, this software reads {CONTRACT_VERSION}; "
                "convert a dataset with vla data upgrade PATH, a checkpoint with vla upgrade CHECKPOINT"
            )
        if version != CONTRACT_VERSION:
            raise ContractError(
                f"{where}: contract version {version!r}, this software reads {CONTRACT_VERSION}; "
                "use the version of vla that wrote it"
            )
        fields = {f.name for f in dataclasses.fields(Contract)}
        values = {k: v for k, v in value.items() if k in fields}
        missing = {"robot", "cameras", "state", "action", "control_hz"} - values.keys()
        if missing:
            raise ContractError(f"{where}: the contract lacks {', '.join(sorted(missing))}; the file is damaged")
        try:
            values["cameras"] = tuple(Camera(**c) for c in values["cameras"])
            for key in ("state", "action"):
                values[key] = _dimensions(values[key])
            values["signals"] = {name: _dimensions(signal) for name, signal in values.get("signals", {}).items()}
            if values.get("policy") is not None:
                values["policy"] = PolicySpec.from_json(values["policy"], where=where)
        except (TypeError, AttributeError) as error:
            raise ContractError(f"{where}: {error}; the contract is damaged") from None
        tolerance = values.get("tolerance", TOLERANCE)
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < float("inf"):
            raise ContractError(f"{where}: tolerance: expected a share of at least 0, got {tolerance!r}; correct it")
        return Contract(**values)

    def digest(self) -> str:
        """Twelve hexadecimal digits that change when anything but the recorded versions does."""
        value = {k: v for k, v in self.to_json().items() if k != "versions"}
        return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


Scope = Literal["interface", "all"]


def differences(ours: Contract, theirs: Contract, *, scope: Scope = "interface") -> list[str]:
    """Each disagreement as one line ``field: ours ≠ theirs``; an empty list means that they fit.

    ``interface`` compares what a robot shows and takes; ``all`` also what the policy part says (resuming a run).
    """
    lines = []
    for key in ("robot", "gripper", "control_hz"):
        a, b = getattr(ours, key), getattr(theirs, key)
        if a != b:
            lines.append(f"{key}: {a!r} ≠ {b!r}")
    for key in ("cameras", "state", "action"):
        lines += _item_differences(key, getattr(ours, key), getattr(theirs, key))
    for name, signal in ours.signals.items():
        if name in theirs.signals:  # a robot that cannot give a signal still fits a policy trained with it
            lines += _item_differences(f"signals.{name}", signal, theirs.signals[name])
    if scope == "all" and ours.policy != theirs.policy:
        ours_policy, theirs_policy = ({} if p is None else dataclasses.asdict(p) for p in (ours.policy, theirs.policy))
        keys = sorted(ours_policy.keys() | theirs_policy.keys())
        lines += [f"policy.{k} differs" for k in keys if ours_policy.get(k) != theirs_policy.get(k)]
    return lines


def require_match(
    ours: Contract, theirs: Contract, *, who: str, whom: str, fix: str, scope: Scope = "interface"
) -> None:
    """Raise `ContractError` with every difference unless the two contracts fit."""
    lines = differences(ours, theirs, scope=scope)
    if lines:
        raise ContractError(f"{who} does not fit {whom}: " + "; ".join(lines) + f". {fix}")


def read_contract(path: Path) -> Contract:
    """Read a ``contract.json``."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise ContractError(f"{path} does not exist; is {path.parent} the right folder?") from None
    except json.JSONDecodeError as error:
        raise ContractError(f"{path} is not valid JSON ({error}); the file is damaged") from None
    if not isinstance(value, dict):
        raise ContractError(f"{path} must hold a JSON object, got {type(value).__name__}; the file is damaged")
    return Contract.from_json(value, where=str(path))


def _dimensions(items: Iterable[Mapping[str, Any]]) -> tuple[Dimension, ...]:
    return tuple(Dimension(**item) for item in items)


def _item_differences(key: str, ours: Sequence[Dimension | Camera], theirs: Sequence[Dimension | Camera]) -> list[str]:
    lines = []
    mine, other = {item.name: item for item in ours}, {item.name: item for item in theirs}
    if list(mine) != list(other) and set(mine) == set(other):
        lines.append(f"{key}: order {list(mine)} ≠ {list(other)}")
    for name in [*mine, *(n for n in other if n not in mine)]:
        a, b = mine.get(name), other.get(name)
        if a != b:
            lines.append(f"{key}.{name}: {_brief(a)} ≠ {_brief(b)}")
    return lines


def _brief(item: Dimension | Camera | None) -> str:
    if item is None:
        return "absent"
    if isinstance(item, Camera):
        rate = "" if item.hz is None else f" at {item.hz:g} Hz"
        kind = "" if item.kind == "rgb" else f" {item.kind}"
        return f"{item.height}x{item.width}{kind}{rate}"
    return f"[{item.low:.12g}, {item.high:.12g}] {item.unit}"
