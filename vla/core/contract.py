"""The contract: one JSON value that says everything two parts must agree on.

An environment, a dataset, a checkpoint, a server and a robot each carry one. Wherever two of them meet, their
interfaces are compared first, and a mismatch is refused with a readable difference before anything else happens.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from vla.core.errors import ContractError
from vla.core.files import NotPlainError, read_below
from vla.core.policy_spec import PolicySpec
from vla.core.sealed import MOST_BYTES, DamageError, brief, listed, number, parse_json, table, text, whole

if TYPE_CHECKING:
    import numpy as np

CONTRACT_VERSION = 2
TOLERANCE = 0.5
"""Of a range. A gripper with a soft stop overshoots by a quarter of it; degrees for radians are beyond it at once."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One number of a state, an action or a signal."""

    name: str
    unit: str
    """SI: ``rad``, ``m``, or ``1`` for a ratio; ``image`` for a position in an image, -1 to 1 across it."""
    low: int | float
    high: int | float


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One image stream, row 0 at the top."""

    name: str
    height: int
    width: int
    kind: Literal["rgb", "depth"] = "rgb"
    """``rgb``: uint8, 3 channels; ``depth``: uint16 millimetres, 1 channel, 0 where nothing was measured."""
    hz: int | float | None = None
    """Its own frame rate, with its own clock; None gives one frame for each control step."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(y, x, channels) of one frame."""
        return self.height, self.width, 3 if self.kind == "rgb" else 1

    @property
    def dtype(self) -> str:
        """Of one pixel."""
        return "uint8" if self.kind == "rgb" else "uint16"


_Named = TypeVar("_Named", Dimension, Camera)


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
    control_hz: int | float
    tolerance: float = TOLERANCE
    """What may lie outside of limits, as a share of their range: a state or a recorded command within this margin is
    measured or sent a little too far, and is brought inside and counted where a policy reads it; one beyond is an error
    (of the unit, the order, the sensor) and refused. What a policy commands is always brought inside and counted."""
    policy: PolicySpec | None = None
    """Checkpoints and what serves them only: how the policy was trained to read all this."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Software that produced this: recorded, and compared by nobody."""

    @cached_property
    def state_limits(self) -> "tuple[np.ndarray, np.ndarray]":
        """Lowest and highest of each dimension of the state, float32 (s,) each, to be read only."""
        return _ends(self.state)

    @cached_property
    def action_limits(self) -> "tuple[np.ndarray, np.ndarray]":
        """The same of the action, float32 (d,) each."""
        return _ends(self.action)

    def in_order_of(self, other: "Contract") -> "Contract":
        """The same, its cameras, state and action in the order of ``other``; a list of other names stays as it is."""
        spec, action = self.policy, _ordered(self.action, other.action)
        if spec is not None:
            relative = dict(zip((d.name for d in self.action), spec.relative_to, strict=True))
            spec = dataclasses.replace(spec, relative_to=tuple(relative[d.name] for d in action))
        cameras, state = _ordered(self.cameras, other.cameras), _ordered(self.state, other.state)
        return dataclasses.replace(self, cameras=cameras, state=state, action=action, policy=spec)

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object that `from_json` reads back; a default tolerance, and deafness, are not said."""
        value = {"contract_version": CONTRACT_VERSION, **dataclasses.asdict(self)}
        if self.tolerance == TOLERANCE:
            del value["tolerance"]  # contracts that never spoke of it keep their digests
        if self.policy is not None and not self.policy.speech:
            del value["policy"]["speech"]
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any], *, where: str) -> "Contract":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        version = value.get("contract_version") if isinstance(value, Mapping) else None
        if version == 1:
            raise ContractError(
                f"{where}: contract version 1, this software reads {CONTRACT_VERSION}; "
                "convert a dataset with vla data upgrade PATH, a checkpoint with vla upgrade CHECKPOINT"
            )
        if version != CONTRACT_VERSION:
            raise ContractError(
                f"{where}: contract version {brief(version)}, this software reads {CONTRACT_VERSION}; "
                "use the version of vla that wrote it"
            )
        try:
            return _parse(value, where)
        except DamageError as error:
            raise ContractError(f"{where}: {error}; the contract is damaged") from None

    def digest(self) -> str:
        """Twelve hexadecimal digits that change when anything but the recorded versions does."""
        value = {k: v for k, v in self.to_json().items() if k != "versions"}
        return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


def _ordered(items: tuple[_Named, ...], like: Sequence[_Named]) -> tuple[_Named, ...]:
    known = {item.name: item for item in items}
    same = known.keys() == {item.name for item in like} and len(known) == len(items) == len(like)
    return tuple(known[item.name] for item in like) if same else items


def _ends(dimensions: Sequence[Dimension]) -> "tuple[np.ndarray, np.ndarray]":
    import numpy as np

    return np.array([d.low for d in dimensions], np.float32), np.array([d.high for d in dimensions], np.float32)


Scope = Literal["interface", "execution", "all"]
_EXECUTION = ("horizon", "execute", "ensemble", "history", "committed", "speech")
"""What a driver of a robot goes by."""


def differences(ours: Contract, theirs: Contract, *, scope: Scope = "interface") -> list[str]:
    """Each disagreement as one line ``field: ours ≠ theirs``; an empty list means that they fit.

    ``interface`` compares what a robot shows and takes; ``execution`` also how chunks are asked for and executed (one
    policy in the place of another); ``all`` also what else the policy part says (resuming a run).
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
    if scope == "execution":
        for key in _EXECUTION:
            a, b = (getattr(c.policy, key, None) for c in (ours, theirs))
            if a != b:
                lines.append(f"policy.{key}: {a!r} ≠ {b!r}")
        if ours.tolerance != theirs.tolerance:
            lines.append(f"tolerance: {ours.tolerance!r} ≠ {theirs.tolerance!r}")
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
        value = parse_json(read_below(path.parent, path.name, MOST_BYTES))
    except FileNotFoundError:
        raise ContractError(f"{path} does not exist; is {path.parent} the right folder?") from None
    except NotPlainError as error:
        raise ContractError(f"{error}; copy it whole") from None
    except DamageError as error:
        raise ContractError(f"{path} is not valid: {error}; the file is damaged") from None
    return Contract.from_json(value, where=str(path))


_MOST_SIDE, _MOST_PIXELS = 2**14, 2**26
"""Of a picture: what must fit into memory is bounded before any is taken."""
_MOST_HZ = 1e6
_MOST_TOLERANCE = 1e3
_MOST_LIMIT = 3e38
"""What a float32 holds."""


def _parse(value: Mapping[str, Any], where: str) -> Contract:
    required = {"robot", "cameras", "state", "action", "control_hz"}
    if missing := required - value.keys():
        raise DamageError(f"the contract lacks {', '.join(sorted(missing))}")
    policy, signals = value.get("policy"), table(value.get("signals", {}), "signals")
    versions = table(value.get("versions", {}), "versions")
    contract = Contract(
        robot=_name(value["robot"], "robot"),
        cameras=listed(value["cameras"], "cameras", _camera, most=64),
        state=_dimensions(value["state"], "state"),
        action=_dimensions(value["action"], "action"),
        signals={_name(name, "signals"): _dimensions(items, f"signals.{name}") for name, items in signals.items()},
        gripper=None if value.get("gripper") is None else _name(value["gripper"], "gripper"),
        control_hz=number(value["control_hz"], "control_hz", least=1e-6, most=_MOST_HZ),
        tolerance=number(value.get("tolerance", TOLERANCE), "tolerance", least=0.0, most=_MOST_TOLERANCE),
        policy=None if policy is None else PolicySpec.from_json(table(policy, "policy"), where=where),
        versions={name: text(version, f"versions.{name}") for name, version in versions.items()},
    )
    _distinct([camera.name for camera in contract.cameras], "cameras")
    if contract.gripper is not None and contract.gripper not in [dimension.name for dimension in contract.action]:
        raise DamageError(f"gripper: {brief(contract.gripper)} is no dimension of the action")
    if contract.policy is not None:
        _check_relative(contract, contract.policy)
    return contract


def _check_relative(contract: Contract, policy: PolicySpec) -> None:
    """What actions are relative to is there."""
    known = {None, *(dimension.name for dimension in contract.state)}
    if len(policy.relative_to) != len(contract.action) or not known.issuperset(policy.relative_to):
        raise DamageError("policy.relative_to: expected a dimension of the state, or null, for each of the action")


def _name(value: object, what: str) -> str:
    name = text(value, what)
    if not 0 < len(name) <= 200 or not name.isprintable():
        raise DamageError(f"{what}: expected a name of at most 200 characters, got {brief(name)}")
    return name


def _distinct(names: Sequence[str], what: str) -> None:
    if len(set(names)) < len(names):
        raise DamageError(f"{what}: {brief(next(name for name in names if names.count(name) > 1))} is there twice")


def _camera(value: object, what: str) -> Camera:
    given = table(value, what)
    if unknown := given.keys() - {"name", "height", "width", "kind", "hz"}:
        raise DamageError(f"{what}: unknown key {brief(min(unknown))}")
    kind, hz = given.get("kind", "rgb"), given.get("hz")
    if kind not in ("rgb", "depth"):
        raise DamageError(f"{what}: kind: expected rgb or depth, got {brief(kind)}")
    camera = Camera(
        name=_name(given.get("name"), what),
        height=whole(given.get("height"), f"{what}: height", least=1, most=_MOST_SIDE),
        width=whole(given.get("width"), f"{what}: width", least=1, most=_MOST_SIDE),
        kind=kind,
        hz=None if hz is None else number(hz, f"{what}: hz", least=1e-6, most=_MOST_HZ),
    )
    if camera.height * camera.width > _MOST_PIXELS:
        raise DamageError(f"{what}: {camera.height}x{camera.width}: expected at most {_MOST_PIXELS} pixels")
    return camera


def _dimensions(value: object, what: str) -> tuple[Dimension, ...]:
    dimensions = listed(value, what, _dimension, most=4096)
    _distinct([dimension.name for dimension in dimensions], what)
    return dimensions


def _dimension(value: object, what: str) -> Dimension:
    given = table(value, what)
    if unknown := given.keys() - {"name", "unit", "low", "high"}:
        raise DamageError(f"{what}: unknown key {brief(min(unknown))}")
    name = _name(given.get("name"), what)
    low, high = (
        number(given.get(key), f"{what}.{name}: {key}", least=-_MOST_LIMIT, most=_MOST_LIMIT) for key in ("low", "high")
    )
    if low > high:
        raise DamageError(f"{what}.{name}: low {low:g} is above high {high:g}")
    return Dimension(name=name, unit=text(given.get("unit"), f"{what}.{name}: unit"), low=low, high=high)


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
