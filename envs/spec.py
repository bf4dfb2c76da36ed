"""What an environment is to the rest of the stack, and how one is described before it is built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from vla.core.contract import Contract
from vla.core.machine.packages import is_installed, needed_packages, require_package
from vla.core.machine.places import use_writable_folders
from vla.core.types import Observation, Question
from vla.envs.gl import settle_gl

Language = Literal[
    "right", "blank", "wrong", "paraphrase", "reworded", "polite", "asked", "addressed", "indirect", "misspelt"
]
"""What a policy can be told: see `LANGUAGES` and `vla.evaluation.scenes.phrasing`."""
LANGUAGES: tuple[Language, ...] = ("right", "blank", "wrong")
"""What environments can be told to say."""


@runtime_checkable
class Expert(Protocol):
    """A scripted demonstrator bound to one environment."""

    def action(self) -> np.ndarray:
        """float32 (d,): what the demonstrator would do now."""


@runtime_checkable
class RobotEnv(Protocol):
    """A Gymnasium environment with cameras, a state and an instruction.

    Observations are ``{"images": {camera: uint8 (y, x, 3)}, "state": float32 (s,), "instruction": str}``, and ``info``
    holds ``success`` (bool), ``progress`` (0 to 1, 1 exactly at success), ``time_ns`` and what a suite adds:
    ``signals`` {name: float32 (g,)}, those of the contract, and ``metrics`` {name: float} of the episode so far. An
    episode ends at success, and only then is it terminated; ``reset(options={"language": …})`` chooses what is said.
    """

    contract: Contract
    instruction: str
    instruction_alternatives: tuple[str, ...]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; see `gymnasium.Env.reset`. The same seed and options give the same episode, bit for bit."""

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


@runtime_checkable
class SimulatorModel(Protocol):
    """An environment whose states belong to a MuJoCo model that differs from scene to scene."""

    @property
    def model_xml(self) -> str:
        """The model of the present scene: recorded with the states of an episode."""


@runtime_checkable
class Questioned(Protocol):
    """An environment that knows what can be asked of it, and the right answers."""

    def questions(self) -> Sequence[Question]:
        """All that can be asked of the present moment."""

    def deed(self) -> Question:
        """The question what was done, of an episode that has ended well."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One thing of a scene at one moment."""

    position_m: np.ndarray
    """(3,)."""
    touched: bool
    """By any part of the robot."""
    held: bool


@dataclass(frozen=True, kw_only=True)
class Witnessed:
    """Where the tool and everything else was."""

    tool_m: np.ndarray
    """(3,)."""
    things: Mapping[str, Seen]
    """By the name that instructions give it, ``the red block``."""


@runtime_checkable
class Witness(Protocol):
    """An environment that can say what a report of an episode wants to know; a policy is told nothing of it."""

    def witness(self) -> Witnessed:
        """The present moment."""


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """How to build one environment and its expert, and what a list of environments says of it."""

    make: Callable[[Mapping[str, Any]], RobotEnv]
    """From the settings that differ from the defaults; imports what it needs. Called by `build`."""
    expert: Callable[[Any], Expert] | None
    """Binds the scripted expert to an environment; None where there is none."""
    summary: str
    robot: str
    instruction: str
    """An example."""
    max_steps: int
    """Steps until an episode is truncated; 0 where that is not known before it is built."""
    chance: float | None = None
    """Success of a perfect arm that ignores the words, in the default scene; None where nobody has said."""
    suite: str = ""
    """The published score that it counts into: the mean of its groups, each the mean of its tasks."""
    group: str = ""
    """Its group in the suite."""
    needs: str = ""
    """The extra of this package that it needs, beyond ``sim``."""
    module: str = ""
    """The module that this extra brings: where it cannot be found, the environment cannot be built."""

    @property
    def is_installed(self) -> bool:
        """Whether what it needs is there."""
        return not self.module or is_installed(self.module)

    def require_installed(self, what: str) -> None:
        """`MissingPackageError` with what to install where it cannot be built."""
        if self.module:
            require_package(self.module, what)

    def build(self, settings: Mapping[str, Any]) -> RobotEnv:
        """What ``make`` makes, with OpenGL settled before MuJoCo is imported, and what is not installed named."""
        self.require_installed("environment")
        use_writable_folders()
        settle_gl()
        with needed_packages("environments", extra=self.needs):
            return self.make(settings)


def to_observation(observation: Mapping[str, Any], info: Mapping[str, Any]) -> Observation:
    """What Gymnasium's ``reset`` and ``step`` return, as the value that policies take."""
    return Observation(
        images=observation["images"],
        state=observation["state"],
        instruction=observation["instruction"],
        time_ns=info["time_ns"],
    )
