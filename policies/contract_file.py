"""A contract file: what a policy that was trained elsewhere does not say of itself, stated in YAML.

    robot: tabletop-panda
    control_hz: 10
    cameras:                                 # their order is that of the model's pictures
      - {name: front, height: 64, width: 64}
      - {name: wrist, height: 64, width: 64}
    image_size: [224, 224]
    state:                                   # in the order of the model's numbers, as are actions
      - {name: joint1, unit: rad, low: -2.9, high: 2.9}
    action:
      - {name: joint1, unit: rad, low: -2.9, high: 2.9}
    relative: [joint1]                       # actions that the model writes as offsets from the present state
    statistics:
      state: {mean: [0.1], std: [0.4]}
      action: {q01: [-0.2], q99: [0.3]}
    horizon: 50
    execute: 10
    tokenizer: tokenizer                     # a folder beside this file; by default the model's own

Unknown keys, lists of other lengths and numbers that nothing can be divided by are errors that name the key.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32

from vla.core.action_transform import ActionTransform
from vla.core.config import from_dict, read_yaml
from vla.core.contract import CONTRACT_VERSION, TOLERANCE, Camera, Contract, Dimension
from vla.core.errors import ConfigError

_PAIRS = (("mean", "std"), ("q01", "q99"))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How numbers become those of the model: by mean and deviation, or with two quantiles at -1 and 1."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    q01: tuple[float, ...] = ()
    q99: tuple[float, ...] = ()
    epsilon: float = 1e-8
    """Added to what is divided by, as those who trained the model did: 1e-8 in transformers, 1e-6 in openpi."""

    def normalise(self, x: Float[np.ndarray, "*b d"]) -> Float32[np.ndarray, "*b d"]:
        """To the model's numbers; computed in float64."""
        centre, spread = self._affine
        scaled: np.ndarray = ((x - centre) / spread).astype(np.float32)
        return scaled

    def denormalise(self, x: Float[np.ndarray, "*b d"]) -> Float32[np.ndarray, "*b d"]:
        """The mirror of `normalise`."""
        centre, spread = self._affine
        absolute: np.ndarray = (x * spread + centre).astype(np.float32)
        return absolute

    def require(self, names: Sequence[str], what: str) -> None:
        """`ConfigError` unless it is one pair of lists with a number for each of ``names``, to divide by."""
        given = tuple(name for pair in _PAIRS for name in pair if getattr(self, name))
        if given not in _PAIRS:
            raise ConfigError(f"{what}: expected mean and std, or q01 and q99, got {' and '.join(given) or 'none'}")
        for name in given:
            values = getattr(self, name)
            if len(values) != len(names):
                raise ConfigError(
                    f"{what}.{name}: {len(values)} numbers for {len(names)} dimensions ({', '.join(names)})"
                )
            if not all(map(math.isfinite, values)):
                raise ConfigError(f"{what}.{name}: expected finite numbers, got {list(values)}")
        for name, spread in zip(names, self._affine[1].tolist(), strict=True):
            if spread <= 2 * self.epsilon:
                raise ConfigError(
                    f"{what}: {name} has a spread of {spread - self.epsilon:.3g}, by which nothing can be divided; "
                    "give 1 for a dimension that never moved"
                )

    @cached_property
    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        """What becomes 0, and what becomes 1 long, (d,) each."""
        if self.mean:
            return np.array(self.mean), np.array(self.std) + self.epsilon
        low, high = np.array(self.q01), np.array(self.q99)
        spread = (high - low + self.epsilon) / 2
        return low + spread, spread


@dataclass(frozen=True, kw_only=True)
class Scales:
    """Of what the model reads and of what it writes."""

    state: Scale
    action: Scale
    """Of actions as it writes them: of offsets, where they are relative."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a contract file says."""

    robot: str
    control_hz: float
    cameras: tuple[Camera, ...]
    """In the order of the model's pictures."""
    state: tuple[Dimension, ...]
    action: tuple[Dimension, ...]
    """Absolute targets, whatever the model writes."""
    gripper: str | None = None
    """The action that is the gripper; larger opens."""
    tolerance: float = TOLERANCE
    """See `vla.core.contract.Contract.tolerance`."""
    relative: tuple[str, ...] = ()
    """Actions that the model writes as offsets from the present state of the same name."""
    statistics: Scales
    horizon: int
    """Steps of a chunk."""
    execute: int | None = None
    """Steps of a chunk that are executed before the next inference; by default all."""
    image_size: tuple[int, ...] = (224, 224)
    """(y, x) of the model's pictures."""
    fit: Literal["pad", "stretch"] = "pad"
    """How a camera's picture is brought to that: with black beside it, or stretched."""
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    tokenizer: Path | None = None
    """Folder of the tokenizer, beside this file; by default the model's own."""
    text_tokens: int = 48
    """Longest instruction in tokens, its beginning and its end included."""

    @property
    def space(self) -> ActionTransform:
        """What is relative to which state."""
        states = [d.name for d in self.state]
        return ActionTransform(
            relative_to=tuple(states.index(d.name) if d.name in self.relative else None for d in self.action)
        )

    def contract(self, policy: Mapping[str, Any], *, where: str) -> Contract:
        """The robot's interface, with ``policy`` as the part that says how it is read; checked as any contract is."""
        same = ("robot", "control_hz", "gripper", "tolerance")
        listed = {
            name: [dataclasses.asdict(item) for item in getattr(self, name)] for name in ("cameras", "state", "action")
        }
        own = {name: getattr(self, name) for name in same} | listed
        return Contract.from_json({"contract_version": CONTRACT_VERSION, **own, "policy": policy}, where=where)


def read_contract_file(path: Path) -> Stated:
    """Read and check a contract file; what is wrong is a `ConfigError` that names file, key, and both values."""
    stated = from_dict(Stated, read_yaml(path, what="contract"), where=f"contract {path}")
    try:
        _check(stated)
    except ConfigError as error:
        raise ConfigError(f"contract {path}: {error}") from None
    if stated.tokenizer is None:
        return stated
    return dataclasses.replace(stated, tokenizer=path.parent / stated.tokenizer)


def _check(stated: Stated) -> None:
    for name in ("state", "action"):
        getattr(stated.statistics, name).require([d.name for d in getattr(stated, name)], f"statistics.{name}")
    states, actions = ([d.name for d in dimensions] for dimensions in (stated.state, stated.action))
    for name in stated.relative:
        for what, known in (("action", actions), ("state", states)):
            if name not in known:
                raise ConfigError(f"relative: {name} is no dimension of the {what}, which are {', '.join(known)}")
    if len(stated.image_size) != 2 or min(stated.image_size) < 1:
        raise ConfigError(f"image_size: expected two positive numbers, height and width, got {list(stated.image_size)}")
    if depth := [camera.name for camera in stated.cameras if camera.kind != "rgb"]:
        raise ConfigError(f"cameras: {', '.join(depth)} shows depth, and these models read rgb alone")
    if not stated.cameras:
        raise ConfigError("cameras: expected at least one, got none")
    for name in ("horizon", "text_tokens"):
        if getattr(stated, name) < 1:
            raise ConfigError(f"{name}: expected at least 1, got {getattr(stated, name)}")
    if stated.execute is not None and not 1 <= stated.execute <= stated.horizon:
        raise ConfigError(f"execute: expected 1 to horizon={stated.horizon}, got {stated.execute}")
