"""The whole state of a MuJoCo simulation: what `vla.envs.spec.SimulatorState` is made of."""

import mujoco
import numpy as np
from jaxtyping import Float64

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def state_size(model: mujoco.MjModel) -> int:
    """How many numbers it has."""
    return int(mujoco.mj_stateSize(model, _STATE))


def read_state(model: mujoco.MjModel, data: mujoco.MjData) -> Float64[np.ndarray, " m"]:
    """Positions, velocities, controls, time and the solver's warm start: all that the next step depends on."""
    state = np.empty(state_size(model))
    mujoco.mj_getState(model, data, state, _STATE)
    return state


def put_state(model: mujoco.MjModel, data: mujoco.MjData, state: Float64[np.ndarray, " m"]) -> None:
    """Go back to a state, and compute all that follows from it, so that the next step is the same, bit for bit."""
    state = np.array(state)  # MuJoCo wants to be able to write
    mujoco.mj_setState(model, data, state, _STATE)
    mujoco.mj_forward(model, data)
    mujoco.mj_setState(model, data, state, _STATE)  # the solver's warm start, which the line above has moved on
