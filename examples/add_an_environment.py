"""An environment of your own: a Gymnasium environment becomes one through the adapter, or is written whole.

Here a pointer on a hinge has to stand upright. `check_env` proves what evaluations rest on; under the entry point group
`vla.envs` of your package it has a name for every command:

    vla eval random --env add_an_environment:HINGE --episodes 5
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from vla import evaluate
from vla.core.contract import Camera, Contract, Dimension
from vla.envs.checker import check_env
from vla.envs.spec import EnvSpec

ANGLE = Dimension(name="hinge", unit="rad", low=-2.0, high=2.0)
CONTRACT = Contract(
    robot="hinge",
    cameras=(Camera(name="side", height=32, width=32),),
    state=(ANGLE,),
    action=(ANGLE,),
    control_hz=10.0,
)


class Hinge(gymnasium.Env[dict[str, Any], np.ndarray]):
    """The pointer follows its target at up to 0.3 rad a step."""

    contract = CONTRACT
    instruction = "stand upright"
    instruction_alternatives = ("point to the ceiling",)
    renderer = "numpy"
    metadata: Mapping[str, Any] = {"render_modes": ["rgb_array"]}

    def __init__(self, max_steps: int = 30) -> None:
        self.render_mode = "rgb_array"
        self.max_steps = max_steps
        self.action_space = spaces.Box(ANGLE.low, ANGLE.high, (1,), np.float32)
        self.observation_space = spaces.Dict(
            {
                "images": spaces.Dict({"side": spaces.Box(0, 255, (32, 32, 3), np.uint8)}),
                "state": spaces.Box(-3.0, 3.0, (1,), np.float32),
                "instruction": spaces.Text(64, charset=" abcdefghijklmnopqrstuvwxyz"),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Somewhere that is not upright."""
        super().reset(seed=seed)
        said = {"right": "stand upright", "blank": "", "wrong": "hang down"}[(options or {}).get("language", "right")]
        self.instruction, self._steps = said, 0
        self._angle = float(self.np_random.uniform(0.5, 2.0) * self.np_random.choice([-1, 1]))
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> Any:
        """One control period."""
        self._steps += 1
        self._angle += float(np.clip(action[0] - self._angle, -0.3, 0.3))
        info = self._info()
        return self._observation(), float(info["success"]), info["success"], self._steps >= self.max_steps, info

    def render(self) -> np.ndarray:
        """A bright dot at the pointer's tip."""
        image = np.zeros((32, 32, 3), np.uint8)
        y, x = 16 - 12 * np.cos(self._angle), 16 + 12 * np.sin(self._angle)
        image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 255
        return image

    def _observation(self) -> dict[str, Any]:
        state = np.array([self._angle], np.float32)
        return {"images": {"side": self.render()}, "state": state, "instruction": self.instruction}

    def _info(self) -> dict[str, Any]:
        success = abs(self._angle) < 0.05
        progress = 1.0 if success else max(0.0, 0.99 - abs(self._angle) / 2)
        return {"success": success, "progress": progress, "goal": "upright", "time_ns": self._steps * 100_000_000}


class UprightExpert:
    """Knows where up is."""

    def action(self) -> np.ndarray:
        """Zero."""
        return np.zeros(1, np.float32)


HINGE = EnvSpec(
    make=lambda settings: Hinge(**settings),
    expert=lambda env: UprightExpert(),
    summary="a pointer on a hinge",
    robot="hinge",
    instruction="stand upright",
    max_steps=30,
)

if __name__ == "__main__":
    check_env(Hinge())
    result = evaluate("expert", env="add_an_environment:HINGE", episodes=3)
    print(f"the expert solves {result.success.successes} of {result.success.episodes}")
