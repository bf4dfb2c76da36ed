"""What all policies that compute share: answers by slot, what chunks are drawn by, and numbers that go by name.

A robot may list its cameras and joints in another order than the policy learned them. Whoever makes a policy for a
robot gets it in that robot's order, so no caller can exchange two joints by forgetting to ask.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from vla.core.contract import Contract, Dimension
from vla.core.fit import check_chunk, check_committed, check_form, check_speech
from vla.core.types import ActionChunk, ClosablePolicy, Observation, Policy
from vla.policies.draws import Draws


class Order:
    """Between a robot and who knows the same dimensions in another order; the same order changes nothing."""

    def __init__(self, own: Contract, robot: Contract) -> None:
        self.contract = own.in_order_of(robot)
        """Of the policy, in the order of the robot; where more than the order differs, that is as it was."""
        self.same = _names(self.contract) == _names(own)
        self._state_in = _places(own.state, self.contract.state)
        self._action_in = _places(own.action, self.contract.action)
        self._action_out = _places(self.contract.action, own.action)

    def seen(self, seen: Observation) -> Observation:
        """What a robot shows, as the policy knows it; cameras go by name already."""
        if self.same:
            return seen
        committed = None if seen.committed is None else np.ascontiguousarray(seen.committed[:, self._action_in])
        history = tuple(self.seen(before) for before in seen.history)
        return replace(seen, state=seen.state[self._state_in], committed=committed, history=history)

    def written(self, chunk: ActionChunk) -> ActionChunk:
        """What a policy writes, as the robot takes it."""
        return chunk if self.same else replace(chunk, actions=np.ascontiguousarray(chunk.actions[:, self._action_out]))


class Acting(ABC):
    """Implements `vla.core.types.SeededPolicy` by `_write`; between answers it keeps what each slot draws by."""

    def __init__(self, own: Contract, robot: Contract | None) -> None:
        """Acts for ``robot``, by default as it learned; whether that fits is for the subclass to say."""
        self._own, self._order = own, Order(own, robot or own)
        self._draws = Draws()

    @property
    def contract(self) -> Contract:
        """In the order of the robot that it acts for."""
        return self._order.contract

    def reset(self, slot: int) -> None:
        """The episode draws as every first one does, until `seed` says otherwise."""
        self._draws.begin(slot)

    def seed(self, slot: int, seed: int) -> None:
        """What draws, such as a ``flow`` head, draws the episode's chunks by this seed."""
        self._draws.begin(slot, seed)

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """One inference for all observations at once."""
        live = [observation for observation in observations if observation is not None]
        if not live:
            return [None] * len(observations)
        seen = self._seen(live)
        seeds = torch.tensor([self._draws.next(slot) for slot, shown in enumerate(observations) if shown is not None])
        wanted = self._write(seen, seeds)
        chunks = iter([self._order.written(check_chunk(chunk, self._own, who="the policy")) for chunk in wanted])
        return [None if observation is None else next(chunks) for observation in observations]

    def _seen(self, live: Sequence[Observation]) -> list[Observation]:
        """Observations as the policy knows them; what does not fit is a `ContractError`."""
        for observation in live:
            for moment in (*observation.history, observation):
                check_form(moment, self.contract, who="the policy")
            if observation.committed is not None:
                check_committed(observation.committed, self.contract, who="the policy")
            if observation.speech is not None:
                check_speech(observation.speech, self.contract, who="the policy")
        return [self._order.seen(observation) for observation in live]

    @abstractmethod
    def _write(self, live: Sequence[Observation], seeds: Int64[Tensor, " b"]) -> Sequence[ActionChunk]:
        """A chunk for each observation, in the policy's own order; where it draws, by ``seeds`` alone."""


def by_name(policy: Policy, robot: Contract) -> Policy:
    """``policy`` with the order of ``robot``: itself where that is its own, or where more than the order differs.

    For policies that know of no robot: servers, and those of packages. What differs beside the order is for
    `vla.core.contract.require_match` to say. A policy that can be begun anew is given its order where it is made,
    inside its process.
    """
    order = Order(policy.contract, robot)
    return policy if order.same or _names(order.contract) != _names(robot) else _Ordered(policy, order)


class _Ordered:
    """Implements `vla.core.types.Policy` in the order of another contract."""

    def __init__(self, policy: Policy, order: Order) -> None:
        self._policy, self._order = policy, order

    @property
    def contract(self) -> Contract:
        """The policy's own limits and units, in the robot's order."""
        return self._order.contract

    def reset(self, slot: int) -> None:
        """As it is."""
        self._policy.reset(slot)

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """States and commands that are decided go in, and actions come out, each number under its own name."""
        chunks = self._policy.act([None if seen is None else self._order.seen(seen) for seen in observations])
        return [None if chunk is None else self._order.written(chunk) for chunk in chunks]

    def close(self) -> None:
        """Let go of the policy, if that wants it."""
        if isinstance(self._policy, ClosablePolicy):
            self._policy.close()


def _names(contract: Contract) -> list[list[str]]:
    return [[item.name for item in items] for items in (contract.cameras, contract.state, contract.action)]


def _places(wanted: Sequence[Dimension], there: Sequence[Dimension]) -> list[int]:
    """Where each of ``wanted`` stands in ``there``."""
    names = [dimension.name for dimension in there]
    return [names.index(dimension.name) for dimension in wanted]
