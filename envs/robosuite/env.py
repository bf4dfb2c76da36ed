"""robosuite's tasks as Gymnasium environments with cameras, a state and an instruction."""

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from vla.core.errors import ConfigError
from vla.core.fit import limits
from vla.envs.mujoco_state import put_state, read_state, state_size
from vla.envs.rendering import CameraRenderer, image_point
from vla.envs.robosuite.appearance import set_appearance
from vla.envs.robosuite.config import TIMESTEP_S, RobosuiteConfig
from vla.envs.robosuite.contract import CAMERAS, robosuite_contract
from vla.envs.robosuite.control import CONTROLS, Control
from vla.envs.robosuite.robots import ROBOTS
from vla.envs.robosuite.scene import Scene
from vla.envs.robosuite.tasks import TASKS, grip_m
from vla.envs.robosuite.words import WORDS
from vla.envs.spec import LANGUAGES, Language

_PEOPLE_PIXELS = 256
_DIVERGED = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
_ALMOST = 0.99
"""Progress without success stays below."""


class RobosuiteEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """One task of robosuite with one of its arms.

    Model, layout and success are robosuite's; seeding, control periods, cameras, language and the ends of episodes are
    handled here. Actions are absolute joint targets (rad) and the gripper's opening (m), or with ``control="osc"``
    changes of the tool's pose. ``reset(options={"language": "blank"})`` says nothing; there is no other goal in these
    scenes that could be named, so ``wrong`` is an error.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  (name and type are Gymnasium's)

    def __init__(self, task: str, config: RobosuiteConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        self.name, self.config, self.render_mode = task, config or RobosuiteConfig(), render_mode
        self.task, self._words = TASKS[task], WORDS[task]
        robot = ROBOTS[self.config.robot]
        self.scene = Scene(
            self.task.suite_name, robot_name=self.config.robot, robot=robot, control_hz=self.config.control_hz
        )
        self.model, self.data = self.scene.model, self.scene.data
        set_appearance(
            self.model,
            collision_geometry=self.config.collision_geometry,
            pixels=max(self.config.image_size, _PEOPLE_PIXELS),
        )
        self.contract = robosuite_contract(self.config, robot)
        self.control: Control = CONTROLS[self.config.control](self.scene)
        self.instruction = ""
        self.instruction_alternatives: tuple[str, ...] = ()
        self.max_steps = self.config.max_steps or round(self._words.max_steps * self.config.control_hz / 20)
        self._substeps = round(1 / self.config.control_hz / TIMESTEP_S)
        self._steps, self._way_m, self._was_grasped = 0, 1.0, False
        self._grip_geoms = self.scene.geoms_of(self.task.body)
        self._renderers: dict[int, CameraRenderer] = {}
        self._low, self._high = limits(self.contract.action)
        self.action_space = spaces.Box(self._low, self._high, dtype=np.float32)
        low, high = limits(self.contract.state)
        self.observation_space = spaces.Dict(
            {
                "images": spaces.Dict({c.name: spaces.Box(0, 255, c.shape, np.uint8) for c in self.contract.cameras}),
                "state": spaces.Box(low - 0.1, high + 0.1, dtype=np.float32),
                "instruction": spaces.Text(max_length=128, min_length=0, charset=" ,abcdefghijklmnopqrstuvwxyz"),
            }
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """By its settings: simulations and GL contexts do not travel."""
        return RobosuiteEnv, (self.name, self.config, self.render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lay out a new scene; the same seed gives the same scene, bit for bit."""
        super().reset(seed=seed)
        language: Language = (options or {}).get("language", "right")
        if language not in LANGUAGES:
            raise ConfigError(f"robosuite/{self.name}: language {language!r} must be one of {', '.join(LANGUAGES)}")
        if language == "wrong":
            raise ConfigError(
                f"robosuite/{self.name}: language 'wrong' needs another goal to name, and this scene has only one; "
                "use language 'blank', or another environment"
            )
        suite_env = self.scene.suite_env
        # Its samplers hold this very generator, so only its state can be set, and an episode needs no new model.
        layout = np.random.default_rng(int(self.np_random.integers(2**63)))
        suite_env.rng.bit_generator.state = layout.bit_generator.state
        suite_env.reset()
        order = self.np_random.permutation(len(self._words.phrases))
        phrases = tuple(self._words.phrases[i] for i in order)
        self.instruction = "" if language == "blank" else phrases[0]
        self.instruction_alternatives = () if language == "blank" else phrases[1:]
        mujoco.mj_forward(self.model, self.data)
        self._steps, self._way_m, self._was_grasped = 0, max(self.task.remaining(self.scene), 0.02), False
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Run one control period; an action beyond the limits is clipped."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(
                f"robosuite/{self.name}: action must be {len(self.contract.action)} finite numbers, got {action!r}"
            )
        self.control.begin(np.clip(action, self._low, self._high))
        for _ in range(self._substeps):
            self.control.apply()
            mujoco.mj_step2(self.model, self.data)
            mujoco.mj_step1(self.model, self.data)  # here, so that positions, contacts and cameras agree with joints
        self._require_stable()
        self._steps += 1
        info = self._info()
        truncated = self._steps >= self.max_steps and not info["success"]
        return self._observation(), float(info["success"]), info["success"], truncated, info

    def render(self) -> np.ndarray:
        """The agent's camera at 256 pixels."""
        return self._camera(_PEOPLE_PIXELS).render(self.data, CAMERAS["agent"])

    def close(self) -> None:
        """Free the GL contexts."""
        while self._renderers:
            self._renderers.popitem()[1].close()

    @property
    def renderer(self) -> str:
        """Name of the GL driver in use: part of a result's provenance."""
        return self._camera(self.config.image_size).description

    @property
    def model_xml(self) -> str:
        """The MJCF that robosuite composed; what its simulation offers is the last one compiled by the process."""
        xml: str = self.scene.suite_env.model.get_xml()
        return xml

    @property
    def grasped(self) -> bool:
        """Whether both fingers touch the thing that is moved."""
        return all(self.scene.touching(self._grip_geoms))

    def state(self) -> np.ndarray:
        """float32 (s,): joint angles (rad), the gripper's opening (m) and, by setting, the tool's pose."""
        scene = self.scene
        values = [*scene.arm_rad, scene.opening_m]
        if self.config.tool_pose:
            axes = np.einsum("ji,jk->ik", self.data.xmat[scene.base].reshape(3, 3), scene.tool_rotation)
            values += [*scene.in_base(scene.tool_m), *axes[:, 0], *axes[:, 1]]
        return np.array(values, np.float32)

    def sim_state(self) -> np.ndarray:
        """float64 (m,): positions, velocities, controls, time, the solver's warm start, the controller's memory."""
        return np.concatenate([read_state(self.model, self.data), self.control.memory()])

    def restore(self, state: np.ndarray) -> dict[str, Any]:
        """Go back to a state of the scene that `reset` has laid out with its seed; the observation there."""
        size = state_size(self.model)
        put_state(self.model, self.data, state[:size])
        self.control.remember(state[size:])
        return self._observation()

    def signals(self) -> dict[str, np.ndarray]:
        """Where the gripper goes and where that belongs: ``grounding`` in the base frame, m; ``pointing`` in images."""
        scene = self.scene
        points = (grip_m(scene, self.task), self.task.goal(scene))
        seen = [image_point(self.model, self.data, camera, p) for camera in CAMERAS.values() for p in points]
        return {
            "grounding": np.asarray(np.concatenate([scene.in_base(p) for p in points]), np.float32),
            "pointing": np.asarray(np.concatenate(seen), np.float32),
        }

    def _camera(self, pixels: int) -> CameraRenderer:
        if pixels not in self._renderers:
            self._renderers[pixels] = CameraRenderer(self.model, pixels, pixels)
        return self._renderers[pixels]

    def _observation(self) -> dict[str, Any]:
        camera = self._camera(self.config.image_size)
        images = {name: camera.render(self.data, theirs) for name, theirs in CAMERAS.items()}
        return {"images": images, "state": self.state(), "instruction": self.instruction}

    def _info(self) -> dict[str, Any]:
        success = bool(self.scene.suite_env._check_success())
        remaining, grasped = self.task.remaining(self.scene), self.grasped
        self._was_grasped |= grasped
        return {
            "goal": self.task.goal_name,
            "success": success,
            "success_unsaid": False,
            "progress": 1.0 if success else self._progress(remaining, grasped),
            "metrics": {"grasped": float(self._was_grasped), "distance_m": remaining},
            "signals": self.signals(),
            "time_ns": round(self.data.time * 1e9),
        }

    def _progress(self, remaining_m: float, grasped: bool) -> float:
        """Reaching counts 0.3, holding 0.1, and bringing it there the rest, of which success alone brings the last."""
        reach_m = float(np.linalg.norm(grip_m(self.scene, self.task) - self.scene.tool_m))
        brought = 1.0 - min(1.0, remaining_m / self._way_m)
        reached = max(float(1.0 - np.tanh(5.0 * reach_m)), brought)
        return min(_ALMOST, 0.3 * reached + 0.1 * (1.0 if grasped else brought) + 0.6 * brought)

    def _require_stable(self) -> None:
        """MuJoCo resets a simulation that diverges; that must be seen as a crash and not as an episode."""
        for kind in _DIVERGED:
            if self.data.warning[kind].number:
                raise RuntimeError(f"robosuite/{self.name}: diverged ({kind.name}) at step {self._steps}")
