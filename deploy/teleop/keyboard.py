"""Driving by keys: joint by joint, or the tool where the robot's kinematics are known.

A terminal tells of keys that go down, and repeats those that are held; so each key that came within a control period
moves what it is for by one step, and nothing moves without one.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.core.contract import Contract, Dimension
from vla.core.errors import ConfigError
from vla.core.fit import limits
from vla.core.types import ActionChunk, Observation
from vla.deploy.robots.robot import Robot
from vla.deploy.teleop.kinematics import KINEMATICS, Kinematics, find_kinematics

_UP, _DOWN = "qwertyuioQWERTYUIO", "asdfghjklASDFGHJKL"
_OPEN, _CLOSE, _SWITCH = ".", ",", "\t"
_TOOL = {"w": (0, 1), "s": (0, -1), "a": (1, 1), "d": (1, -1), "r": (2, 1), "f": (2, -1)}
"""Axis of the base frame (x forward, y left, z up), and direction."""
_STILL = 0.01
"""Of a range: a joint that is so near to where it was seen last has not been moved by others."""
_LEAD = 4
"""Steps that a target may be ahead of its joint: one that does not follow is not pushed further (a gripper may be)."""
_NEAR_M = 0.01
"""A place that the tool does not come so close to is out of reach."""


class Keyboard:
    """A `vla.core.types.Policy` whose targets go on from where the robot stands, step by step as keys come."""

    def __init__(
        self,
        robot: Robot,
        *,
        step_rad: float = 0.05,
        step_m: float = 0.01,
        step_share: float = 0.05,
        gripper_share: float = 0.25,
        keys: Mapping[str, Sequence[str]] | None = None,
        kinematics: str | None = None,
        tool: bool = True,
    ) -> None:
        """``step_share`` is of the range, where the unit is neither rad nor m; ``gripper_share`` that of the gripper.

        A step is never more than the robot's speed allows in a period. ``keys`` are two for each dimension, up and
        down. ``kinematics`` is by default what there is for this robot; ``tool`` says to begin with moving the tool.
        """
        self._contract = contract = robot.contract
        low, high = limits(contract.action, np.float64)
        sizes = {"rad": step_rad, "m": step_m}
        for name, size in (*sizes.items(), ("share", step_share), ("gripper share", gripper_share)):
            if not 0 < size < np.inf:
                raise ConfigError(f"keyboard: a step of {size} {name} must be positive")
        steps = [sizes.get(d.unit, step_share * (d.high - d.low)) for d in contract.action]
        self._gripper = next((i for i, d in enumerate(contract.action) if d.name == contract.gripper), None)
        if self._gripper is not None:
            steps[self._gripper] = gripper_share * float(high[self._gripper] - low[self._gripper])
        pace = np.broadcast_to(np.asarray(robot.motion.speed, np.float64), low.shape) / contract.control_hz
        self._steps, self._low, self._high = np.minimum(steps, pace), low, high
        self._step_m = step_m
        self._moves = _moves(contract, keys)
        known = kinematics or (contract.robot if contract.robot in KINEMATICS else None)
        self._chain: Kinematics | None = find_kinematics(known) if known else None
        self._columns = _columns(contract.action, self._chain)
        self.moves_tool = tool and self._chain is not None
        state = {d.name: j for j, d in enumerate(contract.state)}
        self._measured = [state.get(d.name) for d in contract.action]
        self._lock, self._pressed = threading.Lock(), set[str]()
        self._target: Float64[np.ndarray, " d"] | None = None
        self._seen = np.full(len(low), np.nan)
        self._tool_m: np.ndarray | None = None
        self._anew = True

    @property
    def contract(self) -> Contract:
        """The robot's."""
        return self._contract

    @property
    def help(self) -> str:
        """What the keys do."""
        pairs: dict[str, list[str]] = {}
        for key, (column, _) in self._moves.items():
            pairs.setdefault(self._contract.action[column].name, []).append(key)
        joints = ", ".join(f"{'/'.join(found)} {name}" for name, found in pairs.items())
        tool = "\ntool: w/s forward and back, a/d left and right, r/f up and down; Tab: tool or joints"
        return f"joints: {joints}" + (tool if self._chain else "")

    def press(self, key: str) -> None:
        """Count it to the period that is going on."""
        if key == _SWITCH:
            self.moves_tool = self._chain is not None and not self.moves_tool
            return
        with self._lock:
            self._pressed.add(key)

    def reset(self, slot: int) -> None:
        """The robot may have been moved by others, or have been held."""
        self._anew = True

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """One step, from the keys since the last."""
        return [None if seen is None else self._chunk(seen) for seen in observations]

    def _chunk(self, seen: Observation) -> ActionChunk:
        with self._lock:
            pressed, self._pressed = self._pressed, set()
        here = np.array([np.nan if j is None else seen.state[j] for j in self._measured], np.float64)
        if self._target is None or self._anew:
            self._target, pressed = self._found(here), set()  # what was typed before is not meant for now
            self._tool_m, self._anew = None, False
        self._seen = here
        before, tool_m = self._target.copy(), self._tool_m
        self._move(pressed)
        ahead = np.abs(self._target - here) > np.maximum(np.abs(before - here), _LEAD * self._steps)
        if np.delete(ahead, [] if self._gripper is None else [self._gripper]).any():
            self._target, self._tool_m = before, tool_m
        return ActionChunk(actions=self._target[None].astype(np.float32), time_ns=seen.time_ns)

    def _move(self, pressed: set[str]) -> None:
        """What each key is for."""
        assert self._target is not None, "there is an observation"
        way = np.zeros(3)
        for key in pressed:
            if self.moves_tool and key in _TOOL:
                axis, direction = _TOOL[key]
                way[axis] += direction * self._step_m
            elif key in self._moves:
                column, direction = self._moves[key]
                self._target[column] += direction * self._steps[column]
                self._tool_m = self._tool_m if column == self._gripper else None
        if way.any():
            self._reach(way)
        self._target = np.clip(self._target, self._low, self._high)

    def _found(self, here: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " d"]:
        """Where to go on from: a joint that was not moved keeps its target, as a gripper does that holds something."""
        middle = (self._low + self._high) / 2
        if self._target is None:
            return np.where(np.isfinite(here), here, middle)
        moved = np.abs(here - self._seen) > _STILL * (self._high - self._low)  # not where nothing is measured
        return np.where(moved, here, self._target)

    def _reach(self, way: Float64[np.ndarray, "3"]) -> None:
        """Move the tool, unless it cannot go there."""
        assert self._chain is not None, "the tool moves where there are kinematics"
        assert self._target is not None, "there is an observation"
        joints = self._target[self._columns]
        tool_m = (self._chain.tool_m(joints) if self._tool_m is None else self._tool_m) + way
        reached = self._chain.reach(joints, tool_m)
        if np.linalg.norm(self._chain.tool_m(reached) - tool_m) < _NEAR_M:
            self._target[self._columns], self._tool_m = reached, tool_m


def _moves(contract: Contract, keys: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[int, int]]:
    """The dimension and the direction of each key."""
    names = [d.name for d in contract.action]
    if keys is None:
        joints = [name for name in names if name != contract.gripper]
        if len(joints) > len(_UP):
            raise ConfigError(f"keyboard: {len(joints)} joints are more than there are keys; say which with keys=…")
        keys = {name: (up, down) for name, up, down in zip(joints, _UP, _DOWN, strict=False)}
        keys |= {contract.gripper: (_OPEN, _CLOSE)} if contract.gripper else {}
    moves: dict[str, tuple[int, int]] = {}
    for name, pair in keys.items():
        if name not in names or len(pair) != 2:
            raise ConfigError(f"keyboard: keys.{name}: expected two keys for one of {', '.join(names)}, got {pair}")
        for key, direction in zip(pair, (1, -1), strict=True):
            if key in moves:
                raise ConfigError(f"keyboard: keys.{name}: {key!r} moves {names[moves[key][0]]} already")
            moves[key] = names.index(name), direction
    return moves


def _columns(action: Sequence[Dimension], chain: Kinematics | None) -> Any:
    """Where the joints of the chain are in an action, by name."""
    names = [d.name for d in action]
    if chain is not None and (missing := [name for name in chain.joints if name not in names]):
        raise ConfigError(f"keyboard: the kinematics are of joints {', '.join(missing)}, which this robot has not")
    return [] if chain is None else [names.index(name) for name in chain.joints]
