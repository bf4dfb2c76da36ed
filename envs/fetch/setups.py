"""The four Fetch environments of gymnasium-robotics, described for the adapter.

Plappert et al., "Multi-Goal Reinforcement Learning: Challenging Robotics Environments and Request for Research",
arXiv 1802.09464. The goal is the red ball in the picture.
"""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from vla.core.contract import Dimension
from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.envs.adapter.setup import AdapterCamera, GymnasiumSetup, StateSlice

CONTROL_HZ = 25.0
STEP_M = 0.05
"""Way of the gripper in one control step at an action of 1."""
FINGER_OPEN_M = 0.05


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """Knobs of the Fetch environments."""

    image_size: int = 128
    """Height and width of the camera, pixels."""
    max_steps: int = 50
    """Steps until an episode is truncated."""
    cameras: tuple[str, ...] = ("front",)
    """``front`` faces the robot across the table; none at all is quick, and enough for experts."""

    def __post_init__(self) -> None:
        for camera in self.cameras:
            lookup("camera of Fetch", camera, _CAMERAS)
        for name in ("image_size", "max_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"fetch: {name}={getattr(self, name)} must be at least 1")


_CAMERAS = {"front": "external_camera_0"}
_IDS = {
    "reach": "FetchReach-v4",
    "push": "FetchPush-v4",
    "pick-and-place": "FetchPickAndPlace-v4",
    "slide": "FetchSlide-v4",
}
SENTENCES = {
    "reach": ("move the gripper to the red ball", "reach the red ball", "bring the hand to the red ball"),
    "push": (
        "push the block to the red ball",
        "shove the block over the table to the red ball",
        "move the block to the red ball without lifting it",
    ),
    "pick-and-place": (
        "bring the block to the red ball",
        "pick up the block and hold it at the red ball",
        "carry the block to the red ball",
    ),
    "slide": (
        "hit the puck so that it slides to the red ball",
        "make the puck glide to the red ball",
        "strike the puck so that it comes to rest at the red ball",
    ),
}
_HORIZONTAL, _FINGERS = ((0.6, 2.0), (0.2, 1.3), (0.2, 1.2)), (0.0, FINGER_OPEN_M + 0.005)


def fetch_setup(task: str, config: FetchConfig) -> GymnasiumSetup:
    """The description of ``fetch/<task>``; actions are ratios: 1 moves the gripper by `STEP_M` and opens it."""
    fingers = (3, 4) if task == "reach" else (9, 10)
    hand = [Dimension(name=f"gripper_{axis}", unit="m", low=low, high=high) for axis, (low, high) in _axes()]
    sides = [Dimension(name=f"finger_{side}", unit="m", low=0.0, high=_FINGERS[1]) for side in ("right", "left")]
    moves = tuple(Dimension(name=f"gripper_d{axis}", unit="1", low=-1.0, high=1.0) for axis in "xyz")
    return GymnasiumSetup(
        id=lookup("task of Fetch", task, _IDS),
        register=_register,
        packages=("gymnasium-robotics",),
        name=task,
        robot="fetch",
        cameras=tuple(
            AdapterCamera(name=name, model=_CAMERAS[name], height=config.image_size, width=config.image_size)
            for name in config.cameras
        ),
        state=(StateSlice(key="observation", index=(0, 1, 2, *fingers), dimensions=(*hand, *sides)),),
        action=(*moves, Dimension(name="gripper", unit="1", low=-1.0, high=1.0)),
        gripper="gripper",
        control_hz=CONTROL_HZ,
        max_steps=config.max_steps,
        sentences=SENTENCES[task],
        success=_reached,
        distance_m=_distance_m,
        before_render=_show_goal,
        observe=_observe,
    )


def _axes() -> list[tuple[str, tuple[float, float]]]:
    return list(zip("xyz", _HORIZONTAL, strict=True))


def _register() -> None:
    with contextlib.redirect_stderr(io.StringIO()):  # a notice about another of its environments
        import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)


def _distance_m(env: Any, observed: Any) -> float:
    return float(np.linalg.norm(observed["achieved_goal"] - observed["desired_goal"]))


def _reached(env: Any, observed: Any) -> bool:
    return _distance_m(env, observed) < float(env.distance_threshold)


def _show_goal(env: Any) -> None:
    """Where its own renderer would put the red ball; positions are computed anew by the next physics step."""
    env.data.site("target0").xpos[:] = env.goal


def _observe(env: Any) -> Any:
    return env._get_obs()
