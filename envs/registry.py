"""Environments by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vla.core.config import from_dict
from vla.core.contract import Contract
from vla.core.lookup import lookup
from vla.core.types import Observation


@runtime_checkable
class Expert(Protocol):
    """A scripted demonstrator bound to one environment."""

    def action(self) -> np.ndarray:
        """float32 (d,): what the demonstrator would do now."""


@runtime_checkable
class RobotEnv(Protocol):
    """A Gymnasium environment with cameras, a state and an instruction."""

    contract: Contract
    instruction: str
    instruction_alternatives: tuple[str, ...]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; see `gymnasium.Env.reset`."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Run one control period; see `gymnasium.Env.step`."""

    def render(self) -> np.ndarray:
        """A picture for people, uint8 (y, x, 3)."""

    @property
    def renderer(self) -> str:
        """Name of the GL driver in use."""

    def close(self) -> None:
        """Free what the environment holds."""


@runtime_checkable
class SimulatorState(Protocol):
    """An environment whose whole state can be read and put back, within the scene that a seed lays out."""

    def sim_state(self) -> np.ndarray:
        """float64 (m,): all that the next step depends on."""

    def restore(self, state: np.ndarray) -> dict[str, Any]:
        """Go back to a state of this scene and return the observation there."""


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """How to build one environment and its expert."""

    make: Callable[[Mapping[str, Any]], RobotEnv]
    """From the settings that differ from the defaults."""
    expert: Callable[[Any], Expert]
    summary: str


def _make_place(settings: Mapping[str, Any]) -> RobotEnv:
    from vla.envs.tabletop.place import PlaceConfig, PlaceEnv

    return PlaceEnv(from_dict(PlaceConfig, _listed(settings), where="tabletop/place"))


def _place_expert(env: Any) -> Expert:
    from vla.envs.tabletop.expert import PlaceExpert

    return PlaceExpert(env)


ENVS: dict[str, EnvSpec] = {
    "tabletop/place": EnvSpec(
        make=_make_place,
        expert=_place_expert,
        summary="put the named block on the named plate; 7-joint arm, two cameras, joint targets at 10 Hz",
    ),
}


def env_spec(name: str) -> EnvSpec:
    """The environment called ``name``, or an error that lists those that exist."""
    return lookup("environment", name, ENVS)


def to_observation(observation: Mapping[str, Any], info: Mapping[str, Any]) -> Observation:
    """What Gymnasium's ``reset`` and ``step`` return, as the value that policies take."""
    return Observation(
        images=observation["images"],
        state=observation["state"],
        instruction=observation["instruction"],
        time_ns=info["time_ns"],
    )


def _listed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
