"""The safety gate: what stands between whatever commands and whatever moves, on the robot's side, and always on.

Whatever comes in, what goes out is finite, within the limits and the workspace, and no faster, no harder accelerated
and no more jerked than the robot's `Motion` says. A command that keeps all this by itself passes as it is; of another,
each joint gets the speed from which it comes to rest nearest to its target.

Time goes in steps of ``dt``, the time between two commands. ``u`` is what was sent last, ``w`` the speed of that step
and ``a`` its acceleration. The next step has a speed ``w'`` and sends ``u + w' dt``, with::

    |w'| <= speed,   |w' - w| <= acceleration dt,   |w' - w - a dt| <= jerk dt²,
    and braking from there on (`_Brake`) comes to rest without leaving the limits or the workspace

The last is what limits alone do not give: an arm that flies towards an end within all limits cannot be held there. It
held of the step before, so one step of that braking always keeps all four: there is always something to send.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from vla.core.contract import Contract
from vla.core.errors import ConfigError, ContractError
from vla.core.fit import limits
from vla.deploy.robots.brake import Brake
from vla.deploy.robots.motion import Motion, Workspace

_ROUNDING = float(np.finfo(np.float32).eps) / 2
"""Share of a number by which its float32 may lie beside it."""
_TRIED = np.linspace(0, 1, 17)[:, None]
_EIGHTHS = np.arange(1, 8)[:, None] / 8
_SLACK = 0.01
"""Of its range, by which a joint may be measured outside of it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be sent."""

    command: Float32[np.ndarray, " d"]
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Why it is not what was asked: of each promise that would have been broken, the dimensions."""


class Gate:
    """Remembers what was sent; one for each robot, asked before each command."""

    def __init__(
        self,
        contract: Contract,
        motion: Motion,
        *,
        where: Float32[np.ndarray, " s"],
        before: Float32[np.ndarray, " d"] | None = None,
    ) -> None:
        """The arm rests at the state ``where``; a `ContractError` says that it stands where it may not.

        What no state measures was commanded ``before``, or is taken to be in the middle of its range.
        """
        self._names = tuple(d.name for d in contract.action)
        self._dt = dt = 1 / (contract.control_hz * motion.ticks(contract.control_hz))
        self._motion = motion
        low, high = limits(contract.action, np.float64)
        # What is planned is sent as float32: speeds, accelerations and jerks of that differ by so many roundings.
        self._grain = grain = _ROUNDING * np.maximum(np.abs(low), np.abs(high))
        self._low, self._high = low + motion.margin * (high - low) + grain, high - motion.margin * (high - low) - grain
        self._limit = self._each(motion.speed) - 2 * grain / dt
        acceleration = self._each(motion.acceleration) - 4 * grain / dt**2
        jerk = self._each(motion.jerk) - 8 * grain / dt**3
        if not (np.minimum(np.minimum(self._limit, acceleration), jerk) > 0).all():
            raise ConfigError(
                f"motion: speed={motion.speed}, acceleration={motion.acceleration} and jerk={motion.jerk} are less "
                f"than a float32 can say at {1 / dt:g} Hz; raise them"
            )
        self._brake = Brake(dt=dt, speed=self._limit, acceleration=acceleration, jerk=jerk)
        self._deviation = self._each(motion.deviation)
        self._reach = self._brake.ends(np.zeros((1, len(low))), self._limit[None], acceleration[None])[0, 0]
        states = [d.name for d in contract.state]
        self._measured = [states.index(name) if name in states else None for name in self._names]
        self._u = self._start(self._of(where), (low + high) / 2 if before is None else before.astype(np.float64))
        self._w = self._a = np.zeros(len(self._names))
        self._target = self._u
        self._stopped = False
        self.gated: Counter[str] = Counter()
        """Commands that would have broken each promise."""

    @property
    def sent(self) -> Float32[np.ndarray, " d"]:
        """The last command; before the first, where the arm was found."""
        command: np.ndarray = self._u.astype(np.float32)
        return command

    def check(self, asked: Any, *, state: Float32[np.ndarray, " s"], age_s: float) -> Verdict:
        """What to send instead of ``asked``, which rests on an observation of ``age_s`` ago; ``state`` is measured now.

        Never raises, whatever is asked: what is no command at all, or too old, is answered by coming to rest.
        """
        reasons: dict[str, tuple[str, ...]] = {}
        wish = self._wish(asked, age_s, reasons)
        if wish is None:
            self.rest()
        else:
            here = self._of(state)
            near = np.clip(wish, here - self._deviation, here + self._deviation)
            near = np.where(np.isfinite(near), near, wish)  # of what is not measured
            inside = np.clip(near, self._low, self._high)
            self._note(reasons, "deviation", near != wish)
            self._note(reasons, "position", np.abs(inside - near) > 4 * self._grain)
            self._follow(inside, reasons)
            self._target = inside
        self.gated.update(reasons.keys())
        return Verdict(command=self.sent, reasons=reasons)

    def rest(self) -> Verdict:
        """Ask for nothing: come to rest as fast as is allowed."""
        self._go(self._braked)
        self._target = self._u
        return Verdict(command=self.sent)

    @property
    def moving(self) -> bool:
        """Whether what was sent last is not where the robot stays if nothing is asked."""
        return bool((np.abs(self._w) * self._dt > self._grain).any())

    def stop(self) -> None:
        """Come to rest and stay there, whatever is asked, until `release`."""
        self._stopped = True

    def release(self) -> None:
        """Let commands through again."""
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether it was stopped and not released."""
        return self._stopped

    def _wish(self, asked: Any, age_s: float, reasons: dict[str, tuple[str, ...]]) -> Float64[np.ndarray, " d"] | None:
        """The target that is asked for; None for none."""
        if self._stopped:
            reasons["stopped"] = self._names
        elif not 0 <= age_s <= self._motion.stale_s:  # nor NaN
            reasons["stale"] = self._names
        elif not isinstance(asked, np.ndarray) or asked.shape != self._u.shape or asked.dtype.kind != "f":
            reasons["shape"] = self._names
        elif not np.isfinite(asked).all():
            self._note(reasons, "finite", ~np.isfinite(asked))
        else:
            return asked.astype(np.float64)
        return None

    def _follow(self, target: Float64[np.ndarray, " d"], reasons: dict[str, tuple[str, ...]]) -> None:
        """One step towards ``target``, which is within the limits."""
        at_once = (target - self._u) / self._dt
        least, most = self._w + self._brake.range(self._w, self._a) * self._dt
        # What was followed exactly until now is not doubted: where it will be is for it to say, not for its pace.
        followed = np.abs(self._u - self._target) <= self._grain
        allowed = (least <= at_once) & (at_once <= most)
        far = (self._low + self._reach <= target) & (target <= self._high - self._reach)
        if self._motion.workspace is None and (allowed & followed & far).all():
            self._go(at_once)  # no end is near, whatever it brakes from
            self._u = target
            return
        tried = np.concatenate([[np.clip(at_once, least, most), self._braked], least + (most - least) * _TRIED])
        miss, fits = self._ends(tried, target)
        passed = allowed & fits[0] & (followed | (np.abs(miss[0]) <= self._grain))
        speed = np.where(passed, at_once, _nearest(tried[2:], miss[2:], fits[2:], otherwise=self._braked))
        self._explain(reasons, ~passed, at_once, fits[0])
        if (kept := self._in_workspace(speed)) is not speed:
            reasons["workspace"] = self._names
            speed, passed = kept, np.zeros_like(passed)
        self._go(speed)
        self._u = np.where(passed, target, self._u)  # to the last bit

    def _ends(
        self, tried: Float64[np.ndarray, "k d"], target: Float64[np.ndarray, " d"]
    ) -> tuple[Float64[np.ndarray, "k d"], Bool[np.ndarray, "k d"]]:
        """How far beyond the target braking ends with each speed tried, and whether it stays within the limits.

        A target has a pace of its own, and it is that to which the arm brakes; within limits it must come to rest.
        """
        pace = np.clip((target - self._target) / self._dt, -self._limit, self._limit)
        u, a = self._u + tried * self._dt, (tried - self._w) / self._dt
        _, lowest, highest = self._brake.ends(u, tried, a)
        slack = self._grain / 8
        fits = (lowest >= self._low - slack) & (highest <= self._high + slack)
        return self._brake.ends(u - target, tried - pace, a)[0], fits

    def _in_workspace(self, speed: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " d"]:
        """``speed``, or as much of it as keeps the tool inside; the rest is braking, of which that is known."""
        if (space := self._motion.workspace) is None or self._inside(space, speed[None])[0]:
            return speed
        braked, share = self._braked, 0.0
        for finer in (1, 8):
            shares = share + _EIGHTHS / finer  # (k, 1)
            inside = self._inside(space, braked + shares * (speed - braked))
            share = shares[inside].max(initial=share)
        return np.asarray(braked + share * (speed - braked))

    def _inside(self, space: Workspace, speed: Float64[np.ndarray, "k d"]) -> Bool[np.ndarray, " k"]:
        """Whether the tool stays inside with each next speed, if all joints brake after it."""
        u, a = self._u + speed * self._dt, (speed - self._w) / self._dt
        ways = self._brake.ways(u, speed, a)  # (k, s, d)
        held: np.ndarray = space.holds(ways.reshape(-1, ways.shape[-1])).reshape(ways.shape[:2]).all(axis=1)
        return held

    @property
    def _braked(self) -> Float64[np.ndarray, " d"]:
        """The speed of the next step if it brakes."""
        return self._w + self._brake.next(self._w, self._a) * self._dt

    def _go(self, speed: Float64[np.ndarray, " d"]) -> None:
        self._u = self._u + speed * self._dt
        self._w, self._a = speed, (speed - self._w) / self._dt

    def _explain(
        self,
        reasons: dict[str, tuple[str, ...]],
        changed: Bool[np.ndarray, " d"],
        at_once: Float64[np.ndarray, " d"],
        fits: Bool[np.ndarray, " d"],
    ) -> None:
        """Which promises the joints that do not go where they were asked would have broken."""
        acceleration = (at_once - self._w) / self._dt
        jerk = (acceleration - self._a) / self._dt
        broken = {
            "speed": np.abs(at_once) > self._limit,
            "acceleration": np.abs(acceleration) > self._brake.acceleration,
            "jerk": np.abs(jerk) > self._brake.jerk,
            "braking": ~fits,
        }
        for name, joints in broken.items():
            self._note(reasons, name, changed & joints)
        self._note(reasons, "approach", changed & ~np.any(list(broken.values()), axis=0))

    def _start(
        self, here: Float64[np.ndarray, " d"], otherwise: Float64[np.ndarray, " d"]
    ) -> Float64[np.ndarray, " d"]:
        """Where the arm is taken to rest: where it is measured, and ``otherwise`` of what is not.

        A little outside it is brought inside with the first command, which is no faster than any other.
        """
        low, high = self._low, self._high
        room = self._limit * self._dt + _SLACK * (high - low)
        astray = np.flatnonzero((here < low - room) | (here > high + room))
        if len(astray):
            name, at = self._names[astray[0]], here[astray[0]]
            raise ContractError(
                f"the robot: {name} stands at {at:g}, outside of {low[astray[0]]:g} to {high[astray[0]]:g}; move it "
                "inside by hand, or calibrate it"
            )
        start = np.clip(np.where(np.isfinite(here), here, otherwise), low, high)
        if (space := self._motion.workspace) is not None and not space.holds(start[None])[0]:
            x, y, z = space.forward(start[None])[0]
            raise ContractError(
                f"the robot: its tool is at ({x:.3f}, {y:.3f}, {z:.3f}) m, outside of the workspace from "
                f"{space.low_m} to {space.high_m}; move it inside by hand, or widen the workspace"
            )
        return start

    def _of(self, state: Float32[np.ndarray, " s"]) -> Float64[np.ndarray, " d"]:
        """What is measured of each dimension of an action; NaN where nothing is."""
        return np.array([np.nan if i is None else state[i] for i in self._measured], np.float64)

    def _each(self, value: float | tuple[float, ...]) -> Float64[np.ndarray, " d"]:
        """A number for each dimension."""
        found = np.asarray(value, np.float64)
        if found.ndim and len(found) != len(self._names):
            raise ConfigError(f"motion: {value} has {len(found)} numbers, and an action {len(self._names)}")
        return np.broadcast_to(found, len(self._names))

    def _note(self, reasons: dict[str, tuple[str, ...]], name: str, broken: Bool[np.ndarray, " d"]) -> None:
        if broken.any():
            reasons[name] = tuple(n for n, is_broken in zip(self._names, broken, strict=True) if is_broken)


def _nearest(
    tried: Float64[np.ndarray, "k d"],
    miss: Float64[np.ndarray, "k d"],
    fits: Bool[np.ndarray, "k d"],
    *,
    otherwise: Float64[np.ndarray, " d"],
) -> Float64[np.ndarray, " d"]:
    """The speed that misses the target least, between two that were tried; ``otherwise`` where none fits.

    What is missed rises with the speed, and so do the ends of the way: between two that fit, all do.
    """
    miss = np.where(fits, miss, np.nan)
    below = np.where(miss <= 0, tried, -np.inf).argmax(axis=0)  # the fastest that ends before the target
    beyond = np.where(miss >= 0, tried, np.inf).argmin(axis=0)  # the slowest that ends behind it
    columns = np.arange(tried.shape[1])
    near, far = miss[below, columns], miss[beyond, columns]
    before, behind = near <= 0, far >= 0  # whether there is one
    span = np.where(before & behind & (far > near), far - near, 1.0)
    share = np.where(before & behind, np.nan_to_num(-near / span), np.where(behind, 1.0, 0.0))
    speed = tried[below, columns] * (1 - share) + tried[beyond, columns] * share
    return np.where(before | behind, speed, otherwise)
