"""An arm as one writes it for LeRobot: degrees, a gripper in percent, a camera, and MuJoCo in place of a bus.

It imports neither LeRobot nor vla.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import mujoco
import numpy as np

_MODEL = """<mujoco><option timestep="0.002" gravity="0 0 0" integrator="implicitfast"/>
  <default><joint armature="0.05"/></default>
  <worldbody>
  <body name="upper"><joint name="shoulder" axis="0 0 1" range="-110 110"/>
    <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="0.3"/>
    <body name="lower" pos="0.3 0 0"><joint name="elbow" axis="0 0 1" range="-150 150"/>
      <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="0.2"/>
      <body name="finger" pos="0.2 0 0"><joint name="gripper" type="slide" axis="0 1 0" range="0 0.06"/>
        <geom type="box" size="0.01 0.002 0.02" mass="0.02"/></body></body></body>
</worldbody><actuator>
  <position name="elbow" joint="elbow" kp="40" kv="4"/><position name="shoulder" joint="shoulder" kp="60" kv="6"/>
  <position name="gripper" joint="gripper" kp="200" kv="8"/>
</actuator></mujoco>"""


@dataclass
class PlanarArmConfig:
    """What a user says."""

    id: str = "mine"
    max_relative_target: float | None = None
    """Degrees, or percent, that a target may be from where its motor is."""
    cameras: dict[str, tuple[int, int]] = field(default_factory=lambda: {"top": (24, 32)})


class PlanarArm:
    """Two joints and a gripper."""

    config_class = PlanarArmConfig
    name = "planar_arm"

    def __init__(self, config: PlanarArmConfig) -> None:
        self.config = config
        self.is_connected = False
        self.is_calibrated = True
        self.hz = 50.0
        self.unplugged = False

    @cached_property
    def observation_features(self) -> dict[str, Any]:
        return {**self.action_features, **{name: (*size, 3) for name, size in self.config.cameras.items()}}

    @cached_property
    def action_features(self) -> dict[str, type]:
        return {"gripper.pos": float, "elbow.pos": float, "shoulder.pos": float}

    def connect(self, calibrate: bool = True) -> None:
        if calibrate:
            input("Move the arm to the middle of its range and press Enter")
        self._model = mujoco.MjModel.from_xml_string(_MODEL)
        self._data = mujoco.MjData(self._model)
        self._data.joint("gripper").qpos = 0.03
        self._data.actuator("gripper").ctrl = 0.03
        self.is_connected = True

    def get_observation(self) -> dict[str, Any]:
        if self.unplugged:
            raise ConnectionError("Failed to sync read 'Present_Position' on ids [1, 2, 3]")
        shade = np.uint8(255 * self._present()["gripper.pos"] / 100)
        pictures = {name: np.full((*size, 3), shade) for name, size in self.config.cameras.items()}
        return {**self._present(), **pictures}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        present, sent = self._present(), {}
        for key, goal in action.items():
            most = self.config.max_relative_target
            sent[key] = goal if most is None else float(np.clip(goal, present[key] - most, present[key] + most))
            name = key.removesuffix(".pos")
            self._data.actuator(name).ctrl = sent[key] / 100 * 0.06 if name == "gripper" else np.deg2rad(sent[key])
        for _ in range(round(1 / self.hz / self._model.opt.timestep)):
            mujoco.mj_step(self._model, self._data)
        return sent

    def disconnect(self) -> None:
        self.is_connected = False

    def _present(self) -> dict[str, float]:
        where = {name: float(self._data.joint(name).qpos[0]) for name in ("elbow", "gripper", "shoulder")}
        return {f"{n}.pos": q / 0.06 * 100 if n == "gripper" else float(np.rad2deg(q)) for n, q in where.items()}
