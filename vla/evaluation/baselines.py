"""What stands beside a trained policy in an evaluation: the scripted expert, and networks made repeatable."""

from collections.abc import Sequence

from vla.core.contract import Contract
from vla.core.types import ActionChunk, Observation, Policy, SeededPolicy
from vla.envs.registry import make_expert
from vla.envs.spec import RobotEnv


class ExpertPolicy:
    """The expert of each environment; it answers with chunks of one action, from the simulator's state."""

    def __init__(self, env: str, envs: Sequence[RobotEnv]) -> None:
        """``env`` names the environments; slot i acts in ``envs[i]``."""
        self._experts = [make_expert(env, one) for one in envs]
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


class SameBatch:
    """A network that always answers the same number of observations at once, on one thread.

    The last bits of a row of a matrix product depend on the number of rows and of threads, and an episode is long
    enough to make another outcome of them. With both fixed they do not, whatever the other rows are and in whatever
    order: so an episode that runs alone, late, or in a resumed evaluation is the same one.

    Slots stay what they are; rows that nobody asks for are filled in slots of their own behind them.
    """

    def __init__(self, policy: Policy, batch: int) -> None:
        self._policy, self._batch = policy, batch

    @property
    def contract(self) -> Contract:
        """That of the policy."""
        return self._policy.contract

    def reset(self, slot: int) -> None:
        """The policy forgets the episode in ``slot``."""
        self._policy.reset(slot)

    def seed(self, slot: int, seed: int) -> None:
        """A policy that draws at random draws from ``seed``; see `vla.core.types.SeededPolicy`."""
        if isinstance(self._policy, SeededPolicy):
            self._policy.seed(slot, seed)

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """Answer what is asked, and throw away the answers to copies that fill the batch."""
        import torch

        live = [observation for observation in observations if observation is not None]
        if not live:
            return [None] * len(observations)
        fill = range(len(observations), len(observations) + self._batch - len(live))
        for slot in fill:  # its last content was another episode's
            self._policy.reset(slot)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._policy.act([*observations, *[live[0] for _ in fill]])[: len(observations)]
        finally:
            torch.set_num_threads(threads)
