"""Policies as evaluations run them: an episode's outcome depends on its seed, not on what else runs beside it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla.cli.policies import policy_maker

if TYPE_CHECKING:
    from vla.core.contract import Contract
    from vla.core.types import ActionChunk, Observation, Policy
    from vla.envs.spec import RobotEnv
    from vla.evaluation.runner import MakePolicy
    from vla.policies.random import RandomPolicy


_HORIZON = 8
"""Steps of a chunk of the random walk."""


def contender(name: str, env: str, seed: int, batch: int) -> "MakePolicy":
    """What `policy_maker` builds, made repeatable; a wrong name fails here, before any process starts."""
    return partial(_make, policy_maker(name, env, seed), name, batch)


def identity(name: str) -> dict[str, Any]:
    """What tells one policy from another: its name, and the digest of a checkpoint's files."""
    from vla.core.provenance import folder_digest

    path = Path(name)
    return {"name": name} | ({"digest": folder_digest(path)} if path.is_dir() else {})


def _make(make: "MakePolicy", name: str, batch: int, envs: "Sequence[RobotEnv]") -> "Policy":
    if name == "random":
        return SeededRandom(envs[0].contract)
    policy = make(envs)
    return SameBatch(policy, batch) if Path(name).is_dir() else policy


class SameBatch:
    """A memoryless network that always answers the same number of observations at once, on one thread.

    The last bits of a row of a matrix product depend on the number of rows and of threads, and an episode is long
    enough to make another outcome of them. With both fixed they do not, whatever the other rows are and in whatever
    order: so an episode that runs alone, late, or in a resumed evaluation is the same one.
    """

    def __init__(self, policy: "Policy", batch: int) -> None:
        self._policy, self._batch = policy, batch

    @property
    def contract(self) -> "Contract":
        """That of the policy."""
        return self._policy.contract

    def reset(self, slot: int) -> None:
        """Nothing to forget."""

    def act(self, observations: "Sequence[Observation | None]") -> "list[ActionChunk | None]":
        """Fill the rows that nobody asks for with copies of one that somebody does."""
        import torch

        live = [observation for observation in observations if observation is not None]
        if not live:
            return [None] * len(observations)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            answers = iter(self._policy.act([*live, *[live[0]] * (self._batch - len(live))])[: len(live)])
        finally:
            torch.set_num_threads(threads)
        return [None if observation is None else next(answers) for observation in observations]


class SeededRandom:
    """The random walk, drawn anew from the seed of each episode."""

    def __init__(self, contract: "Contract") -> None:
        self._contract = contract
        self._walks: dict[int, RandomPolicy] = {}

    @property
    def contract(self) -> "Contract":
        """That of the environment."""
        return self._contract

    def reset(self, slot: int) -> None:
        """A seed follows."""

    def seed(self, slot: int, seed: int) -> None:
        """Begin the walk that belongs to ``seed``."""
        from vla.policies.random import RandomPolicy

        self._walks[slot] = RandomPolicy(self._contract, _HORIZON, seed)

    def act(self, observations: "Sequence[Observation | None]") -> "list[ActionChunk | None]":
        """Each walk goes on."""
        return [None if o is None else self._walks[slot].act([o])[0] for slot, o in enumerate(observations)]
