"""What a bus's servos turn: a MuJoCo model with a position actuator for each, moved in steps of its own time."""

from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float64

from vla.deploy.servos.description import TICKS, Scale


class Plant:
    """Implements `vla.deploy.emulators.motor.Shaft`: what `scale` makes of ticks is the actuators' control."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, scale: Scale) -> None:
        assert model.nu == len(scale.zero), f"{model.nu} actuators and {len(scale.zero)} servos"
        self._zero, self._per_unit = scale.zero, scale.ticks_per_unit
        self._most = np.abs(model.actuator_forcerange).max(axis=1)
        self._low, self._high = model.actuator_ctrlrange.T.copy()
        self.move_to(model, data)

    def move_to(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """From now on turn the joints of this model: another scene with the same arm."""
        self.model, self.data = model, data
        self._positions, self._speeds = _transmission(model)

    @property
    def dt_s(self) -> float:
        """One step."""
        return float(self.model.opt.timestep)

    @property
    def time_s(self) -> float:
        """That has passed in it."""
        return float(self.data.time)

    def position(self, index: int) -> float:
        """See `vla.deploy.emulators.motor.Shaft`."""
        return float(self._zero[index] + self._positions[index] @ self.data.qpos * self._per_unit[index])

    def velocity(self, index: int) -> float:
        """See `vla.deploy.emulators.motor.Shaft`."""
        return float(self._speeds[index] @ self.data.qvel * self._per_unit[index])

    def effort(self, index: int) -> float:
        """See `vla.deploy.emulators.motor.Shaft`."""
        share = self.data.actuator_force[index] / self._most[index]
        return float(np.clip(share, -1, 1) * np.sign(self._per_unit[index]))

    def drive(self, index: int, target: float, share: float) -> None:
        """See `vla.deploy.emulators.motor.Shaft`."""
        value = (target - self._zero[index]) / self._per_unit[index]
        self.data.ctrl[index] = min(max(value, self._low[index]), self._high[index])
        most = self._most[index] * share
        self.model.actuator_forcerange[index] = -most, most

    def step(self) -> None:
        """Let one step pass."""
        mujoco.mj_step(self.model, self.data)


def _transmission(model: mujoco.MjModel) -> tuple[Float64[np.ndarray, "d q"], Float64[np.ndarray, "d v"]]:
    """How the length of each actuator follows from positions and its speed from velocities: both are linear."""
    positions, speeds = np.zeros((model.nu, model.nq)), np.zeros((model.nu, model.nv))
    for i in range(model.nu):
        target = model.actuator_trnid[i, 0]
        joints = [(target, 1.0)]
        if model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_TENDON:
            start = model.tendon_adr[target]
            wraps = range(start, start + model.tendon_num[target])
            joints = [(model.wrap_objid[w], model.wrap_prm[w]) for w in wraps]
        for joint, share in joints:
            positions[i, model.jnt_qposadr[joint]] = share
            speeds[i, model.jnt_dofadr[joint]] = share
    return positions, speeds


def chain(servos: int) -> tuple[Plant, Sequence[str]]:
    """Servos of 4 Nm, each with a rod of 100 g on it at the end of which the next one sits; and the joints' names."""
    names = [f"servo{i + 1}" for i in range(servos)]
    rods = ""
    for name in reversed(names):
        rods = f"""<body pos="0 0 {0.0 if name == names[0] else 0.1}">
          <joint name="{name}" axis="0 {int(name != names[0])} {int(name == names[0])}" damping="0.1" armature="0.02"/>
          <geom type="capsule" fromto="0 0 0 0 0 0.1" size="0.012" mass="0.1"/>{rods}</body>"""
    actuators = "".join(
        f'<position name="{name}" joint="{name}" kp="20" kv="1" ctrlrange="-3.15 3.15" forcerange="-4 4"/>'
        for name in names
    )
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco><option timestep="0.002" integrator="implicitfast"/><default><geom contype="0" conaffinity="0"/>
        </default><worldbody>{rods}</worldbody><actuator>{actuators}</actuator></mujoco>"""
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    middle = Scale(zero=np.full(servos, TICKS / 2), ticks_per_unit=np.full(servos, TICKS / (2 * np.pi)))
    return Plant(model, data, middle), names
