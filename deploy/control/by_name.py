"""A policy at a robot that has the same dimensions in another order: numbers go by name between the two."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.types import ActionChunk, ClosablePolicy, Observation, Policy

_T = TypeVar("_T", Dimension, Camera)


def by_name(policy: Policy, robot: Contract) -> Policy:
    """``policy`` with the order of ``robot``: itself where that is its own, or where more than the order differs.

    What differs beside the order is for `vla.core.contract.require_match` to say. A policy that can be begun anew is
    given its order where it is made, inside its process.
    """
    own = policy.contract
    pairs = ((own.state, robot.state), (own.action, robot.action), (own.cameras, robot.cameras))
    names = [([item.name for item in ours], [item.name for item in theirs]) for ours, theirs in pairs]
    if all(ours == theirs for ours, theirs in names) or any(sorted(ours) != sorted(theirs) for ours, theirs in names):
        return policy
    return _InOrder(policy, robot)


class _InOrder:
    """Implements `vla.core.types.Policy` in the order of another contract."""

    def __init__(self, policy: Policy, robot: Contract) -> None:
        own = policy.contract
        self._policy = policy
        self._state_in = _places(own.state, robot.state)
        self._action_in, self._action_out = _places(own.action, robot.action), _places(robot.action, own.action)
        spec = own.policy
        if spec is not None:
            spec = replace(spec, relative_to=tuple(spec.relative_to[place] for place in self._action_out))
        self._contract = replace(
            own,
            state=_ordered(own.state, robot.state),
            action=_ordered(own.action, robot.action),
            cameras=_ordered(own.cameras, robot.cameras),
            policy=spec,
        )

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


def _places(wanted: Sequence[Dimension], there: Sequence[Dimension]) -> Any:
    """Where each of ``wanted`` stands in ``there``."""
    names = [dimension.name for dimension in there]
    return [names.index(dimension.name) for dimension in wanted]


def _ordered(items: Sequence[_T], like: Sequence[_T]) -> tuple[_T, ...]:
    known = {item.name: item for item in items}
    return tuple(known[item.name] for item in like)
