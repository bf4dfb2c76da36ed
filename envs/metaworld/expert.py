"""Meta-World's own scripted policies as experts."""

import warnings
from typing import Any, cast

import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from vla.envs.metaworld.env import MetaworldEnv


class MetaworldExpert:
    """The policy that ships with the task: a noiseless, memoryless function of the privileged observation."""

    def __init__(self, env: MetaworldEnv) -> None:
        self._env = env
        self._policy: Any = cast(Any, ENV_POLICY_MAP[f"{env.task}-v3"])()

    def action(self) -> np.ndarray:
        """float32 (4,): the hand's move and the gripper, within the limits of the contract."""
        with warnings.catch_warnings():
            # Its gains ask for more than the limits on purpose; what is beyond them is clipped.
            warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high")
            action = self._policy.get_action(self._env.privileged())
        action = np.asarray(action, np.float32).clip(-1.0, 1.0)
        action[3] = 0.0 - action[3]  # ours opens with larger numbers; and no -0.0
        return action
