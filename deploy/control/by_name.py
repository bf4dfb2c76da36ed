"""A policy at a robot that has the same dimensions in another order: numbers go by name between the two."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vla.core.contract import Contract, Dimension
from vla.core.types import ActionChunk, ClosablePolicy, Observation, Policy


def by_name(policy: Policy, robot: Contract) -> Policy:
    """``policy`` with the order of ``robot``: itself where that is its own, or where more than the order differs.

    What differs beside the order is for `vla.core.contract.require_match` to say. A policy that can be begun anew is
    given its order where it is made, inside its process.
    """
    own, there = (_names(contract) for contract in (policy.contract, robot))
    same = all(sorted(ours) == sorted(theirs) for ours, theirs in zip(own, there, strict=True))
    return _InOrder(policy, robot) if same and own != there else policy


class _InOrder:
    """Implements `vla.core.types.Policy` in the order of another contract."""

    def __init__(self, policy: Policy, robot: Contract) -> None:
        own = policy.contract
        self._policy = policy
        self._state_in = _places(own.state, robot.state)
        self._action_in, self._action_out = _places(own.action, robot.action), _places(robot.action, own.action)
        self._contract = own.in_order_of(robot)

    @property
    def contract(self) -> Contract:
        """The policy's own limits and units, in the robot's order."""
        return self._contract

    def reset(self, slot: int) -> None:
        """As it is."""
        self._policy.reset(slot)

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """States and commands that are decided go in, and actions come out, each number under its own name."""
        chunks = self._policy.act([None if seen is None else self._seen(seen) for seen in observations])
        return [c if c is None else replace(c, actions=c.actions[:, self._action_out]) for c in chunks]

    def close(self) -> None:
        """Let go of the policy, if that wants it."""
        if isinstance(self._policy, ClosablePolicy):
            self._policy.close()

    def _seen(self, seen: Observation) -> Observation:
        committed = None if seen.committed is None else np.ascontiguousarray(seen.committed[:, self._action_in])
        history = tuple(self._seen(before) for before in seen.history)
        return replace(seen, state=seen.state[self._state_in], committed=committed, history=history)


def _names(contract: Contract) -> list[list[str]]:
    return [[item.name for item in items] for items in (contract.cameras, contract.state, contract.action)]


def _places(wanted: Sequence[Dimension], there: Sequence[Dimension]) -> Any:
    """Where each of ``wanted`` stands in ``there``."""
    names = [dimension.name for dimension in there]
    return [names.index(dimension.name) for dimension in wanted]
