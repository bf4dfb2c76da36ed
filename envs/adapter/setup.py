"""How a Gymnasium environment is described for `vla.envs.adapter.env`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vla.core.contract import Dimension
from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AdapterCamera:
    """One camera, and where its pictures come from."""

    name: str
    model: str | None = None
    """A camera of the MuJoCo model, rendered cheaply by us; None takes the environment's own ``render()``."""
    height: int = 128
    width: int = 128
    """Of its pictures, pixels; those of ``render()`` must have this size already (see ``make``)."""


@dataclass(frozen=True, kw_only=True)
class StateSlice:
    """Some numbers of an observation."""

    key: str = ""
    """Of an observation that is a dictionary; empty where it is one array."""
    index: tuple[int, ...]
    """Which numbers of that array, from 0."""
    dimensions: tuple[Dimension, ...]
    """What each of them is."""


@dataclass(frozen=True, kw_only=True)
class GymnasiumSetup:
    """How one Gymnasium environment is shown to policies. Functions get the environment without its wrappers.

    What is said here is held against what the environment says, see `vla.envs.adapter.comparison`.
    """

    id: str
    """As Gymnasium registers it."""
    register: Callable[[], None] | None = None
    """Imports the package that registers the id."""
    make: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `gymnasium.make`."""
    packages: tuple[str, ...] = ()
    """Distributions whose versions belong to a result."""
    name: str = ""
    """What counts as success, for grouping results; the id by default."""
    robot: str
    cameras: tuple[AdapterCamera, ...]
    state: tuple[StateSlice, ...]
    action: tuple[Dimension, ...]
    """In the environment's own numbers, but for the signs that ``flipped`` turns."""
    flipped: tuple[str, ...] = ()
    """Dimensions of the action whose sign the environment takes the other way round: a gripper that opens downwards."""
    gripper: str | None = None
    control_hz: float
    max_steps: int
    """Steps until an episode is truncated; the environment's own limit is taken off."""
    sentences: tuple[str, ...]
    """The instruction, then paraphrases."""
    success: str | Callable[[Any, Any], bool]
    """A key that the ``info`` of each step has, or a function of environment and observation."""
    distance_m: Callable[[Any, Any], float] | None = None
    """How far from success; progress is the share of the way gone, or without this 0 until success."""
    before_render: Callable[[Any], None] | None = None
    """Puts into the MuJoCo data what only the environment's own ``render()`` would show, a target for example."""
    observe: Callable[[Any], Any] | None = None
    """Computes the observation anew: gives MuJoCo environments ``sim_state`` and ``restore``."""
    redraw_solved: bool = True
    """Draw scenes that are solved before the first step anew: they say nothing of a policy."""

    def __post_init__(self) -> None:
        where = f"adapter of {self.id}"
        names = [dimension.name for dimension in self.action]
        for name in (*self.flipped, *([self.gripper] if self.gripper else [])):
            if name not in names:
                raise ConfigError(f"{where}: action has no dimension {name!r}, it has {', '.join(names)}")
        for part in self.state:
            if len(part.index) != len(part.dimensions):
                raise ConfigError(
                    f"{where}: state {part.key or 'array'} has {len(part.index)} indices and "
                    f"{len(part.dimensions)} dimensions; name each number once"
                )
        state = [d.name for part in self.state for d in part.dimensions]
        kinds = {"camera": [c.name for c in self.cameras], "state": state, "action": names}
        for kind, called in kinds.items():
            twice = sorted({name for name in called if called.count(name) > 1})
            if twice:
                raise ConfigError(f"{where}: {kind} {', '.join(twice)} is described twice; give each a name of its own")
        if not self.sentences or self.max_steps < 1 or self.control_hz <= 0:
            raise ConfigError(f"{where}: needs a sentence, max_steps of at least 1 and a positive control_hz")
        if isinstance(self.success, str) and self.redraw_solved:
            raise ConfigError(f"{where}: success as a key of info says nothing at reset; set redraw_solved=False")
