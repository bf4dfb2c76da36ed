"""One compiled tabletop: moving the arm, and reading and setting what stands there. It knows of no task."""

from dataclasses import dataclass

import mujoco
import numpy as np

from vla.envs.mujoco_state import put_state, read_state
from vla.envs.tabletop.scene.arm import GRIPPER_OPEN_M, JOINTS
from vla.envs.tabletop.scene.kinematics import InverseKinematics
from vla.envs.tabletop.scene.mjcf import SHAPES, Scene, build_mjcf


@dataclass(frozen=True)
class Thing:
    """Something on the table: number ``index`` of its kind."""

    kind: str
    """block, plate, bowl, button, drawer, or extra for a distractor."""
    index: int

    @property
    def name(self) -> str:
        """Of its body."""
        return f"{self.kind}{self.index}"


class World:
    """The simulation of one `Scene`; positions are in the arm's base frame, m."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.model = mujoco.MjModel.from_xml_string(build_mjcf(scene))
        self.data = mujoco.MjData(self.model)
        self.kinematics = InverseKinematics(self.model)
        self._pads = [self.model.geom(f"{side}_pad").id for side in ("finger_left", "finger_right")]
        self._bodies = {self.model.body(i).name: i for i in range(self.model.nbody)}
        self._geoms = {self.model.geom(i).name: i for i in range(self.model.ngeom)}
        self._tool = self.model.site("tcp").id

    def clear(self) -> None:
        """Back to the model's own start: everything at rest."""
        mujoco.mj_resetData(self.model, self.data)

    def settle(self) -> None:
        """Compute all that follows from positions and velocities."""
        mujoco.mj_forward(self.model, self.data)

    def drive(self, target: np.ndarray, substeps: int) -> None:
        """Move all controls linearly to ``target`` (joints in rad, gripper in m), clipped to the actuators' ranges."""
        start = self.data.ctrl.copy()
        target = np.clip(target, self.model.actuator_ctrlrange[:, 0], self.model.actuator_ctrlrange[:, 1])
        for i in range(substeps):
            self.data.ctrl[:] = start + (target - start) * ((i + 1) / substeps)
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_kinematics(self.model, self.data)  # a step leaves positions of bodies one substep behind the joints
        mujoco.mj_camlight(self.model, self.data)

    def state(self) -> np.ndarray:
        """float32 (8,): seven joint angles (rad) and the gripper's opening (m)."""
        qpos = self.data.qpos
        return np.append(qpos[:JOINTS], qpos[JOINTS] + qpos[JOINTS + 1]).astype(np.float32)

    def sim_state(self) -> np.ndarray:
        """float64 (m,): positions, velocities, controls, time and the solver's warm start."""
        return read_state(self.model, self.data)

    def restore(self, state: np.ndarray) -> None:
        """Go back to a state of this scene, so that what follows is the same, bit for bit."""
        put_state(self.model, self.data, state)

    def tool_m(self) -> np.ndarray:
        """(3,): the point between the finger pads."""
        position: np.ndarray = self.data.site_xpos[self._tool]
        return position

    def width_m(self) -> float:
        """The gripper's opening, as precise as the state shows it."""
        return float(self.state()[-1])

    def position_m(self, thing: Thing) -> np.ndarray:
        """(3,): a block's middle, the underside of a plate or bowl, a button's top, the middle of a drawer's handle."""
        position: np.ndarray = self.data.xpos[self._bodies[thing.name]]
        return position

    def speed_m_s(self, thing: Thing) -> float:
        """Of a free thing, the largest along an axis."""
        start = self.model.jnt_dofadr[self.model.body_jntadr[self._bodies[thing.name]]]
        return float(np.abs(self.data.qvel[start : start + 3]).max())

    def slide_m(self, thing: Thing) -> float:
        """How far a drawer is open, or a button is pressed (negative)."""
        return float(self.data.qpos[self._address(thing)])

    def half_m(self, block: Thing) -> tuple[float, float, float]:
        """Half the sides of the box that a block collides as."""
        x, y, z = self.model.geom_size[self._geoms[block.name]]
        return float(x), float(y), float(z)

    def touching(self, block: Thing) -> tuple[bool, bool]:
        """Whether the left and the right finger pad touch the block."""
        pairs = self.data.contact.geom
        mine = pairs[(pairs == self._geoms[block.name]).any(axis=1)]
        return bool((mine == self._pads[0]).any()), bool((mine == self._pads[1]).any())

    def set_arm(self, start_m: np.ndarray, home_rad: np.ndarray) -> None:
        """Put the tool at ``start_m``, pointing down, with the gripper open and its targets where it is."""
        arm = self.kinematics.solve(home_rad, start_m, iterations=30)
        self.data.qpos[:JOINTS] = self.data.ctrl[:JOINTS] = arm
        self.data.qpos[JOINTS : JOINTS + 2] = GRIPPER_OPEN_M / 2
        self.data.ctrl[JOINTS] = GRIPPER_OPEN_M

    def put(self, thing: Thing, spot_m: np.ndarray, yaw_rad: float = 0.0, height_m: float = 0.0) -> None:
        """Stand a free thing upright on the table, or ``height_m`` above it; put anything else at its spot."""
        if thing.kind in ("block", "extra"):
            start = self._address(thing)
            half = self.half_m(thing)[2]
            self.data.qpos[start : start + 7] = [
                *spot_m, half + height_m, np.cos(yaw_rad / 2), 0, 0, np.sin(yaw_rad / 2),
            ]  # fmt: skip
        else:
            base = f"{thing.name}_base" if thing.kind == "button" else thing.name
            self.model.body_pos[self._bodies[base], :2] = spot_m

    def set_slide(self, thing: Thing, value_m: float) -> None:
        """Open a drawer so far."""
        self.data.qpos[self._address(thing)] = value_m

    def shape(self, block: Thing, shape: str) -> None:
        """Give a block another shape; its scene must be a shaped one."""
        kind, half = SHAPES[shape]
        look, geom = self._geoms[f"{block.name}_look"], self._geoms[block.name]
        self.model.geom_type[look] = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER}[
            kind
        ]
        self.model.geom_size[look] = half if kind == "box" else (half[0], half[2], 0.0)
        for changed in (look, geom):  # bounds that rendering and collision would otherwise take from the old shape
            self.model.geom_rbound[changed] = np.sqrt(half[0] ** 2 + half[1] ** 2 + half[2] ** 2)
            self.model.geom_aabb[changed, 3:] = half
        self.model.geom_size[geom] = half

    def paint(self, thing: Thing, rgb: tuple[float, float, float]) -> None:
        """Colour the parts of a thing that show its colour."""
        for suffix in ("", "_look", *(f"_{k}" for k in range(8))):
            geom = self._geoms.get(thing.name + suffix)
            if geom is not None:
                self.model.geom_rgba[geom, :3] = rgb

    def _address(self, thing: Thing) -> int:
        return int(self.model.jnt_qposadr[self.model.body_jntadr[self._bodies[thing.name]]])
