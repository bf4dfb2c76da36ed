"""``metaworld/…``: the fifty tasks of Meta-World v3, seeded, upright, and quick to render.

Yu et al., "Meta-World: A Benchmark and Evaluation for Multi-Task and Meta Reinforcement Learning", arXiv 1910.10897.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv
from metaworld.env_dict import ENV_CLS_MAP

from vla.core.errors import ConfigError
from vla.core.fit import limits
from vla.core.lookup import lookup
from vla.envs.metaworld.contract import CONTROL_HZ, metaworld_contract
from vla.envs.metaworld.tasks import TASKS
from vla.envs.mujoco_state import put_state, read_state
from vla.envs.rendering import CameraRenderer
from vla.envs.spec import LANGUAGES

UPSIDE_DOWN = {
    "corner2": True,
    "corner4": True,
    "corner": True,
    "corner3": True,
    "topview": False,
    "behindGripper": False,
    "gripperPOV": False,
}
"""Meta-World's cameras, and whether each hangs upside down: its pictures are turned by 180° here."""

_FRAME = 18
"""Numbers of one frame of the privileged observation: hand, gripper, two things."""
_NEVER = 10**9
_FALL_M = 1e4
"""Further than anything falls off the table within an episode."""


@dataclass(frozen=True, kw_only=True)
class MetaworldConfig:
    """Knobs of a task."""

    cameras: tuple[str, ...] = ("corner2",)
    """Which cameras to render; none at all is quick, and enough for experts."""
    image_size: int = 128
    """Height and width of every camera, pixels."""
    max_steps: int = 500
    """Steps until an episode is truncated."""
    privileged: bool = False
    """Show all 39 numbers of the simulator's state that experts look at, not only the hand and the gripper."""

    def __post_init__(self) -> None:
        for camera in self.cameras:
            lookup("camera of Meta-World", camera, UPSIDE_DOWN)
        for name in ("image_size", "max_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"metaworld: {name}={getattr(self, name)} must be at least 1")


class MetaworldEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """One task of Meta-World: a Sawyer arm whose hand is dragged through space, and one thing to be done.

    Every seed lays the things and the goal out anew, and the goal stays where it is for the episode. An action is
    (dx, dy, dz, gripper), each from -1 to 1: the hand's target moves by up to 1 cm along each axis, and the gripper is
    pushed open (1) or closed (-1); Meta-World's own sign of the gripper is the opposite one. Progress is Meta-World's
    shaped reward over its maximum of 10, below 1 until success.

    ``language: wrong`` is refused: a scene holds one task, so no other instruction could be carried out in it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012  (the name and type are Gymnasium's)

    def __init__(self, task: str, config: MetaworldConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        self.task = task
        self.config = config or MetaworldConfig()
        self.render_mode = render_mode
        self._words = lookup("task of Meta-World", task, TASKS).sentences
        self._inner = _build(task, self.config.image_size)
        self.model, self.data = self._inner.model, self._inner.data
        self.contract = metaworld_contract(
            cameras=self.config.cameras, image_size=self.config.image_size, privileged=self.config.privileged
        )
        self.instruction = ""
        self.instruction_alternatives: tuple[str, ...] = ()
        self._renderers: dict[int, CameraRenderer] = {}
        self._observed = np.zeros(2 * _FRAME + 3)
        self._start_s = 0.0
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        beyond = _FALL_M if self.config.privileged else 0.0
        low, high = limits(self.contract.state)
        self.observation_space = spaces.Dict(
            {
                "images": spaces.Dict({c.name: spaces.Box(0, 255, c.shape, np.uint8) for c in self.contract.cameras}),
                "state": spaces.Box(low - beyond, high + beyond, dtype=np.float32),
                "instruction": spaces.Text(max_length=128, min_length=0, charset=" ,-abcdefghijklmnopqrstuvwxyz"),
            }
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return MetaworldEnv, (self.task, self.config, self.render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lay out a new scene and goal; the same seed gives the same ones, bit for bit, whatever ran before."""
        super().reset(seed=seed)
        self._speak((options or {}).get("language", "right"))
        inner = self._inner
        inner.np_random = self.np_random  # Meta-World's own reset ignores its seed
        mujoco.mj_resetData(self.model, self.data)
        inner._freeze_rand_vec = False
        inner.reset_model()  # draws the layout, and moves bodies of the model there
        inner._freeze_rand_vec = True
        MujocoEnv.reset(inner)  # lays the drawn scene out from rest, with nothing left of an earlier one
        inner.curr_path_length = 0
        mujoco.mj_forward(self.model, self.data)  # some tasks move bodies last, and leave their positions stale
        inner._prev_obs = inner._get_curr_obs_combined_no_goal()
        self._start_s = self.data.time
        self._observed = self._look()
        reward, facts = inner.evaluate_state(self._observed, np.zeros(4, np.float32))
        return self._observation(), self._info(float(reward), facts)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move the hand's target for one control period; numbers beyond the limits are clipped."""
        action = np.array(action, dtype=np.float32)
        if action.shape != (4,) or not np.isfinite(action).all():
            raise ValueError(f"metaworld/{self.task}: action must be 4 finite numbers, got {action!r}")
        action = action.clip(-1.0, 1.0)
        action[3] = -action[3]  # theirs closes with larger numbers
        self._observed, reward, _, _, facts = self._inner.step(action)
        info = self._info(float(reward), facts)
        truncated = self._steps >= self.config.max_steps and not info["success"]
        return self._observation(), float(reward), info["success"], truncated, info

    def render(self) -> np.ndarray:
        """The first camera, or ``corner2``, at 256 pixels."""
        return self._picture(256, next(iter(self.config.cameras), "corner2"))

    def close(self) -> None:
        """Free the GL contexts."""
        while self._renderers:
            self._renderers.popitem()[1].close()

    @property
    def renderer(self) -> str:
        """Name of the GL driver in use, or ``none`` without cameras: part of a result's provenance."""
        return self._camera(self.config.image_size).description if self.config.cameras else "none"

    def privileged(self) -> np.ndarray:
        """float64 (39,): Meta-World's own observation, which its experts are functions of."""
        return self._observed.copy()

    def sim_state(self) -> np.ndarray:
        """float64 (m,): positions, velocities, the hand's target, time, warm start, and the last privileged frame."""
        return np.append(read_state(self.model, self.data), self._observed[_FRAME : 2 * _FRAME])

    def restore(self, state: np.ndarray) -> dict[str, Any]:
        """Go back to a state of the scene that `reset` has laid out with its seed; the observation there."""
        put_state(self.model, self.data, state[:-_FRAME])
        self._inner._prev_obs = np.array(state[-_FRAME:])
        self._observed = self._look()
        return self._observation()

    @property
    def _steps(self) -> int:
        return round(float(self.data.time - self._start_s) * CONTROL_HZ)

    def _look(self) -> np.ndarray:
        """Meta-World's observation now, within its bounds as its ``step`` returns it."""
        bounds = self._inner.sawyer_observation_space
        return np.asarray(np.clip(self._inner._get_obs(), bounds.low, bounds.high))

    def _camera(self, pixels: int) -> CameraRenderer:
        if pixels not in self._renderers:
            self._renderers[pixels] = CameraRenderer(self.model, pixels, pixels)
        return self._renderers[pixels]

    def _picture(self, pixels: int, name: str) -> np.ndarray:
        image = self._camera(pixels).render(self.data, name)
        return image[::-1, ::-1].copy() if UPSIDE_DOWN[name] else image

    def _observation(self) -> dict[str, Any]:
        images = {name: self._picture(self.config.image_size, name) for name in self.config.cameras}
        state = self._observed if self.config.privileged else self._observed[:4]
        return {"images": images, "state": state.astype(np.float32), "instruction": self.instruction}

    def _info(self, reward: float, facts: dict[str, Any]) -> dict[str, Any]:
        success = bool(facts["success"])
        return {
            "goal": self.task,
            "success": success,
            "progress": 1.0 if success else float(np.clip(reward / 10, 0.0, 0.99)),
            "metrics": {"distance_m": float(facts["obj_to_target"])},
            "time_ns": round((self.data.time - self._start_s) * 1e9),
        }

    def _speak(self, language: str) -> None:
        if language not in LANGUAGES:
            raise ConfigError(f"metaworld/{self.task}: language {language!r} must be one of {', '.join(LANGUAGES)}")
        if language == "wrong":
            raise ConfigError(
                f"metaworld/{self.task}: language 'wrong' needs another task that could be done in the same scene, "
                "and a scene of Meta-World holds one; use 'blank'"
            )
        words = self._words if language == "right" else ("",)
        self.instruction, self.instruction_alternatives = words[0], words[1:]


def _build(task: str, pixels: int) -> Any:
    """Meta-World's environment with its goal shown and its random numbers its own, cheap to render."""
    inner = ENV_CLS_MAP[f"{task}-v3"]()
    inner._partially_observable = False
    del inner.sawyer_observation_space  # cached while the goal was still hidden
    inner._set_task_called = True
    inner.seeded_rand_vec = True
    inner.max_path_length = _NEVER  # truncation is ours
    model = inner.model
    frame = model.vis.global_
    frame.offwidth, frame.offheight = max(frame.offwidth, pixels), max(frame.offheight, pixels)
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] = False
    model.mat_reflectance[:] = 0
    return inner
