"""Driving by another arm that is moved by hand: where its joints are, this one's go, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import ConfigError, RobotError
from vla.core.types import ActionChunk, Observation
from vla.deploy.robots.robot import Robot
from vla.deploy.robots.table import make_robot


class Leader:
    """A `vla.core.types.Policy` that measures the leader and never commands it: it must be one that moves freely."""

    def __init__(
        self,
        robot: Robot,
        *,
        arm: str,
        settings: Mapping[str, Any] | None = None,
        joints: Mapping[str, str] | None = None,
        scale: Mapping[str, float] | None = None,
        offset: Mapping[str, float] | None = None,
    ) -> None:
        """``arm`` is a robot by name, made with ``settings``.

        ``joints`` says which of its joints drives one of this robot's where the names differ. A target is
        ``scale`` times what is measured plus ``offset``, in this robot's unit; where units differ a scale must be said.
        """
        self._contract = robot.contract
        self._leader = make_robot(arm, settings or {})
        try:
            self._columns, self._scale, self._offset = _mapped(
                self._leader.contract, robot.contract, joints or {}, scale or {}, offset or {}
            )
        except BaseException:
            self._leader.close()
            raise

    @property
    def contract(self) -> Contract:
        """The robot's that is driven."""
        return self._contract

    def reset(self, slot: int) -> None:
        """The leader is where it is."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """Where the leader is now."""
        return [None if seen is None else self._chunk(seen) for seen in observations]

    def close(self) -> None:
        """Let go of the leader."""
        self._leader.close()

    def _chunk(self, seen: Observation) -> ActionChunk:
        measured = self._leader.measure()
        names = self._leader.contract.state
        if measured.shape != (len(names),) or not np.isfinite(measured).all():
            raise RobotError(f"the leader: expected {len(names)} finite numbers, got {measured}; see its cables")
        target = self._scale * measured[self._columns] + self._offset
        return ActionChunk(actions=target[None].astype(np.float32), time_ns=seen.time_ns)


def _mapped(
    leader: Contract,
    robot: Contract,
    joints: Mapping[str, str],
    scale: Mapping[str, float],
    offset: Mapping[str, float],
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Of each action the dimension of the leader's state, and how that becomes it."""
    known = {d.name for d in robot.action}
    for what, given in (("joints", joints), ("scale", scale), ("offset", offset)):
        if unknown := given.keys() - known:
            raise ConfigError(f"leader: {what}.{min(unknown)}: this robot has {', '.join(sorted(known))}")
    theirs = {d.name: i for i, d in enumerate(leader.state)}
    columns = []
    for d in robot.action:
        name = joints.get(d.name, d.name)
        if name not in theirs:
            raise ConfigError(
                f"leader: {d.name}: the leader has no {name}, but {', '.join(theirs)}; say which with joints.{d.name}"
            )
        unit = leader.state[theirs[name]].unit
        if unit != d.unit and d.name not in scale:
            raise ConfigError(f"leader: {d.name} is in {d.unit}, and the leader's {name} in {unit}; say scale.{d.name}")
        columns.append(theirs[name])
    scales = np.array([float(scale.get(d.name, 1)) for d in robot.action])
    offsets = np.array([float(offset.get(d.name, 0)) for d in robot.action])
    if not np.isfinite([scales, offsets]).all():
        raise ConfigError(f"leader: scale={dict(scale)} and offset={dict(offset)} must be finite")
    return columns, scales, offsets
