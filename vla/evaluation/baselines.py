"""Scripted experts behind the policy interface, so that the evaluator treats them like any policy."""

from collections.abc import Sequence

from vla.core.contract import Contract
from vla.core.types import ActionChunk, Observation
from vla.envs.registry import make_expert
from vla.envs.spec import RobotEnv


class ExpertPolicy:
    """The expert of each environment; it answers with chunks of one action, from the simulator's state."""

    def __init__(self, env_name: str, envs: Sequence[RobotEnv]) -> None:
        self._experts = [make_expert(env_name, env) for env in envs]
        self._contract = envs[0].contract

    @property
    def contract(self) -> Contract:
        """That of the environments."""
        return self._contract

    def reset(self, slot: int) -> None:
        """Experts have no memory."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """One action for each observation; the observation's images are not looked at."""
        return [
            None if observation is None else ActionChunk(actions=expert.action()[None], time_ns=observation.time_ns)
            for expert, observation in zip(self._experts, observations, strict=True)
        ]
