"""``tabletop/place``: put the block that the instruction names on the plate that it names."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.core.provenance import versions
from vla.envs.rendering import CameraRenderer, image_point
from vla.envs.settings import LANGUAGES, Language
from vla.envs.tabletop.kinematics import InverseKinematics
from vla.envs.tabletop.scene import (
    AREA_M,
    BLOCK_HALF_M,
    CAMERAS,
    COLOURS,
    GRIPPER_OPEN_M,
    HOME_RAD,
    JOINT_HIGH_RAD,
    JOINT_LOW_RAD,
    PLATE_HEIGHT_M,
    PLATE_RADIUS_M,
    SceneSize,
    build_mjcf,
)

TEMPLATES = (
    "put the {block} block on the {plate} plate",
    "place the {block} block on the {plate} plate",
    "move the {block} block to the {plate} plate",
    "set the {block} block down on the {plate} plate",
    "on the {plate} plate, put the {block} block",
)
THINGS = ("block", "plate")
"""What an instruction names, in the order of the grounding."""
TIMESTEP_S = 0.005
JOINTS = len(HOME_RAD)
_REST_M_S = 0.03
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_START_M = ((0.36, 0.48), (-0.12, 0.12), (0.16, 0.28))
_GAP_M = {("block", "block"): 0.09, ("block", "plate"): 0.105, ("plate", "plate"): 0.13}


@dataclass(frozen=True, kw_only=True)
class PlaceConfig:
    """Knobs of the scene."""

    blocks: int = 2
    """Blocks on the table, the named one included (distractors have other colours)."""
    plates: int = 2
    """Plates on the table, the named one included."""
    colours: tuple[str, ...] = ("red", "green", "blue", "yellow")
    image_size: int = 64
    """Height and width of both cameras, pixels."""
    control_hz: float = 10.0
    max_steps: int = 80
    """Steps until an episode is truncated."""

    def __post_init__(self) -> None:
        for colour in self.colours:
            lookup("colour", colour, COLOURS)
        for name, number in (("blocks", self.blocks), ("plates", self.plates)):
            if not 1 <= number <= min(4, len(self.colours)):
                raise ConfigError(
                    f"tabletop/place: {name}={number} must be between 1 and 4 and at most the number of colours "
                    f"({len(self.colours)}): things of one kind are told apart by colour"
                )
        if not 1 <= self.control_hz <= 1 / TIMESTEP_S:
            raise ConfigError(f"tabletop/place: control_hz={self.control_hz} must be between 1 and {1 / TIMESTEP_S:g}")


@dataclass(frozen=True)
class Goal:
    """Which block belongs on which plate, by index."""

    block: int
    plate: int


class PlaceEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """A 7-joint arm, a gripper, coloured blocks and plates, and one instruction.

    Actions are the targets of the seven joints (rad) and of the gripper's opening (m), reached linearly within one
    control step. ``reset(options={"language": …})`` chooses what the policy is told: ``right`` (default), ``blank``
    (nothing), or ``wrong`` (the instruction of another block and plate of the same scene, which then *is* the goal;
    ``info["success_unsaid"]`` tells of the original one). An episode terminates at success, and only then.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  (the name and type are Gymnasium's)

    def __init__(self, config: PlaceConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        self.config = config or PlaceConfig()
        self.render_mode = render_mode
        size = SceneSize(blocks=self.config.blocks, plates=self.config.plates)
        self.model = mujoco.MjModel.from_xml_string(build_mjcf(size))
        self.data = mujoco.MjData(self.model)
        self.kinematics = InverseKinematics(self.model)
        self.contract = _contract(self.config)
        self.goal = self._original_goal = Goal(0, 0)
        self.instruction = ""
        self.instruction_alternatives: tuple[str, ...] = ()
        self._substeps = round(1 / self.config.control_hz / TIMESTEP_S)
        self._block_geoms = [self.model.geom(f"block{i}").id for i in range(size.blocks)]
        self._pad_geoms = [self.model.geom(f"{side}_pad").id for side in ("finger_left", "finger_right")]
        self._renderers: dict[int, CameraRenderer] = {}
        self._steps = 0
        self.action_space = spaces.Box(*_limits(self.contract.action), dtype=np.float32)
        pixels = (self.config.image_size, self.config.image_size, 3)
        self.observation_space = spaces.Dict(
            {
                "images": spaces.Dict({name: spaces.Box(0, 255, pixels, np.uint8) for name in CAMERAS}),
                "state": spaces.Box(*_limits(self.contract.state, margin=0.1), dtype=np.float32),
                "instruction": spaces.Text(max_length=128, min_length=0, charset=" ,abcdefghijklmnopqrstuvwxyz"),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lay out a new scene; the same seed gives the same scene, bit for bit."""
        super().reset(seed=seed)
        language: Language = (options or {}).get("language", "right")
        if language not in LANGUAGES:
            raise ConfigError(f"tabletop/place: language {language!r} must be one of {', '.join(LANGUAGES)}")
        if language == "wrong" and self.config.blocks * self.config.plates == 1:
            raise ConfigError("tabletop/place: language 'wrong' needs another goal to name; use blocks=2 or plates=2")
        mujoco.mj_resetData(self.model, self.data)
        self._steps = 0
        self._lay_out()
        self._speak(language)
        mujoco.mj_forward(self.model, self.data)
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Drive towards the joint targets for one control period; targets outside the limits are clipped."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (JOINTS + 1,) or not np.isfinite(action).all():
            raise ValueError(f"tabletop/place: action must be {JOINTS + 1} finite numbers, got {action!r}")
        start = self.data.ctrl.copy()
        target = np.clip(action, self.model.actuator_ctrlrange[:, 0], self.model.actuator_ctrlrange[:, 1])
        for i in range(self._substeps):
            self.data.ctrl[:] = start + (target - start) * ((i + 1) / self._substeps)
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_kinematics(self.model, self.data)  # a step leaves positions of bodies one substep behind the joints
        mujoco.mj_camlight(self.model, self.data)
        self._steps += 1
        info = self._info()
        truncated = self._steps >= self.config.max_steps and not info["success"]
        return self._observation(), float(info["success"]), info["success"], truncated, info

    def render(self) -> np.ndarray:
        """The front camera at 256 pixels."""
        return self._camera(256).render(self.data, "front")

    def close(self) -> None:
        """Free the GL contexts."""
        while self._renderers:
            self._renderers.popitem()[1].close()

    @property
    def renderer(self) -> str:
        """Name of the GL driver in use: part of a result's provenance."""
        return self._camera(self.config.image_size).description

    def reached(self, goal: Goal) -> bool:
        """Whether the goal's block rests on its plate, released."""
        block, plate = self.block_m(goal.block), self.plate_m(goal.plate)
        on_top = abs(block[2] - (PLATE_HEIGHT_M + BLOCK_HALF_M)) < 0.01
        inside = np.linalg.norm(block[:2] - plate[:2]) < PLATE_RADIUS_M - 0.01
        speed = np.abs(self.data.joint(self.model.body(f"block{goal.block}").jntadr[0]).qvel[:3]).max()
        return bool(on_top and inside and speed < _REST_M_S and not any(self.touching(goal.block)))

    def touching(self, block: int) -> tuple[bool, bool]:
        """Whether the left and the right finger pad touch the block."""
        pairs = self.data.contact.geom
        mine = pairs[(pairs == self._block_geoms[block]).any(axis=1)]
        return bool((mine == self._pad_geoms[0]).any()), bool((mine == self._pad_geoms[1]).any())

    def block_m(self, index: int) -> np.ndarray:
        """Position of a block's centre in the base frame, m."""
        position: np.ndarray = self.data.body(f"block{index}").xpos
        return position

    def plate_m(self, index: int) -> np.ndarray:
        """Position of a plate's underside in the base frame, m."""
        position: np.ndarray = self.data.body(f"plate{index}").xpos
        return position

    def state(self) -> np.ndarray:
        """float32 (8,): seven joint angles (rad) and the gripper's opening (m)."""
        qpos = self.data.qpos
        return np.append(qpos[:JOINTS], qpos[JOINTS] + qpos[JOINTS + 1]).astype(np.float32)

    def sim_state(self) -> np.ndarray:
        """float64 (m,): positions, velocities, controls, time and the solver's warm start."""
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state

    def restore(self, state: np.ndarray) -> dict[str, Any]:
        """Go back to a state of the scene that `reset` has laid out with its seed; the observation there."""
        mujoco.mj_setState(self.model, self.data, np.array(state), _STATE)  # it wants to be able to write
        mujoco.mj_forward(self.model, self.data)
        return self._observation()

    def grounding(self) -> np.ndarray:
        """float32 (g,): the named block's x, y, z and plate's x, y in m, then where each is in each camera's image."""
        block, plate = self.block_m(self.goal.block), self.plate_m(self.goal.plate)
        points = [image_point(self.model, self.data, camera, thing) for camera in CAMERAS for thing in (block, plate)]
        return np.asarray(np.concatenate([block, plate[:2], *points]), np.float32)

    def _camera(self, pixels: int) -> CameraRenderer:
        if pixels not in self._renderers:
            self._renderers[pixels] = CameraRenderer(self.model, pixels, pixels)
        return self._renderers[pixels]

    def _observation(self) -> dict[str, Any]:
        camera = self._camera(self.config.image_size)
        images = {name: camera.render(self.data, name) for name in CAMERAS}
        return {"images": images, "state": self.state(), "instruction": self.instruction}

    def _info(self) -> dict[str, Any]:
        block = self.block_m(self.goal.block)
        distance = float(np.linalg.norm(block[:2] - self.plate_m(self.goal.plate)[:2]))
        return {
            "goal": f"{self.block_colours[self.goal.block]} block → {self.plate_colours[self.goal.plate]} plate",
            "success": self.reached(self.goal),
            "success_unsaid": self._original_goal != self.goal and self.reached(self._original_goal),
            "grasped": all(self.touching(self.goal.block)) and bool(block[2] > 2 * BLOCK_HALF_M),
            "distance_m": distance,
            "grounding": self.grounding(),
            "time_ns": round(self.data.time * 1e9),
        }

    def _lay_out(self) -> None:
        """Draw colours, positions, the goal and the arm's start."""
        config, rng, model = self.config, self.np_random, self.model
        kinds = ["block"] * config.blocks + ["plate"] * config.plates
        spots = _spread(rng, kinds)
        self.block_colours = tuple(rng.permutation(config.colours)[: config.blocks].tolist())
        self.plate_colours = tuple(rng.permutation(config.colours)[: config.plates].tolist())
        self.goal = self._original_goal = Goal(int(rng.integers(config.blocks)), int(rng.integers(config.plates)))
        for i, colour in enumerate(self.block_colours):
            yaw = rng.uniform(-0.25, 0.25)
            joint = self.data.joint(model.body(f"block{i}").jntadr[0])
            joint.qpos[:] = [*spots[i], BLOCK_HALF_M, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
            model.geom(f"block{i}").rgba[:3] = COLOURS[colour]
        for j, colour in enumerate(self.plate_colours):
            model.body(f"plate{j}").pos[:2] = spots[config.blocks + j]
            model.geom(f"plate{j}").rgba[:3] = COLOURS[colour]
        start_m = np.array([rng.uniform(low, high) for low, high in _START_M])
        arm = self.kinematics.solve(np.array(HOME_RAD), start_m, iterations=30)
        self.data.qpos[:JOINTS] = self.data.ctrl[:JOINTS] = arm
        self.data.qpos[JOINTS : JOINTS + 2] = GRIPPER_OPEN_M / 2
        self.data.ctrl[JOINTS] = GRIPPER_OPEN_M

    def _speak(self, language: Language) -> None:
        """Choose the words, and with ``wrong`` another goal of the same scene."""
        config, rng = self.config, self.np_random
        order = rng.permutation(len(TEMPLATES))
        shift = int(
            rng.integers(1, max(2, config.blocks * config.plates))
        )  # drawn always: scenes must not depend on it
        if language == "wrong":
            other = (self.goal.block * config.plates + self.goal.plate + shift) % (config.blocks * config.plates)
            self.goal = Goal(*divmod(other, config.plates))
        names = {"block": self.block_colours[self.goal.block], "plate": self.plate_colours[self.goal.plate]}
        phrases = tuple(TEMPLATES[i].format(**names) for i in order)
        self.instruction = "" if language == "blank" else phrases[0]
        self.instruction_alternatives = () if language == "blank" else phrases[1:]


def _contract(config: PlaceConfig) -> Contract:
    joints = tuple(
        Dimension(name=f"joint{i + 1}", unit="rad", low=low, high=high)
        for i, (low, high) in enumerate(zip(JOINT_LOW_RAD, JOINT_HIGH_RAD, strict=True))
    )
    gripper = Dimension(name="gripper", unit="m", low=0.0, high=GRIPPER_OPEN_M)
    (x_low, x_high), (y_low, y_high) = AREA_M
    x, y = (x_low - 0.1, x_high + 0.1), (y_low - 0.1, y_high + 0.1)
    metric = (("block_x", *x), ("block_y", *y), ("block_z", 0.0, 0.3), ("plate_x", *x), ("plate_y", *y))
    points = [f"{camera}.{thing}.{axis}" for camera in CAMERAS for thing in THINGS for axis in ("row", "column")]
    return Contract(
        robot="tabletop-panda",
        cameras=tuple(Camera(name=name, height=config.image_size, width=config.image_size) for name in CAMERAS),
        state=(*joints, gripper),
        action=(*joints, gripper),
        grounding=tuple(Dimension(name=n, unit="m", low=low, high=high) for n, low, high in metric)
        + tuple(Dimension(name=n, unit="image", low=-1.0, high=1.0) for n in points),
        gripper="gripper",
        control_hz=config.control_hz,
        versions=versions(),
    )


def _limits(dimensions: tuple[Dimension, ...], margin: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    low = np.array([d.low - margin for d in dimensions], np.float32)
    return low, np.array([d.high + margin for d in dimensions], np.float32)


def _spread(rng: np.random.Generator, kinds: list[str]) -> np.ndarray:
    """(len(kinds), 2): positions in the area, drawn until none is closer to another than its kind allows."""
    low, high = np.array(AREA_M).T
    spots: list[np.ndarray] = []
    tries = 0
    while len(spots) < len(kinds):
        spot = rng.uniform(low, high)
        kind = kinds[len(spots)]
        gaps = [_GAP_M[min(kind, other), max(kind, other)] for other in kinds[: len(spots)]]
        if all(np.linalg.norm(spot - other) >= gap for other, gap in zip(spots, gaps, strict=True)):
            spots.append(spot)
        tries += 1
        if tries % 200 == 0:
            spots.clear()  # an early choice left no room for the rest
    return np.array(spots)
