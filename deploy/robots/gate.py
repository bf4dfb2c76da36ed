"""The safety gate: what stands between whatever commands and whatever moves, on the robot's side, and always on.

Whatever comes in, what goes out is finite, within the limits, no faster and no harder accelerated than the robot's
`Motion` says, and can be stopped before an end is reached: of all next steps that keep these promises it sends the one
that is nearest to what was asked. A command that keeps them by itself passes as it is.

Time goes in steps of ``dt``, the robot's control period. ``u`` is what was sent last, ``w`` the speed of that step::

    u + w' dt is sent next, with  |w'| <= speed,  |w' - w| <= acceleration dt,
    and from w' on, braking by acceleration dt a step, the arm comes to rest at the end of its range or before

The last is what a limit alone does not give: an arm that flies towards an end within all limits cannot be held there.
Since it held of ``w``, braking is always among what is allowed, so there is always something to send.
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
from vla.deploy.robots.motion import Motion

_EXACT = 4 * float(np.finfo(np.float32).eps)
"""Share of a number within which its float32, and differences of such, may lie beside it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be sent."""

    command: Float32[np.ndarray, " d"]
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Why it is not what was asked: of each promise that would have been broken, the dimensions."""


class Gate:
    """Remembers what was sent; one for each robot, asked once in each control period."""

    def __init__(self, contract: Contract, motion: Motion, *, where: Float32[np.ndarray, " s"]) -> None:
        """The arm rests at the state ``where``; a `ContractError` says that it stands outside of its limits."""
        self._names, self._dt, self._stale_s = (
            [d.name for d in contract.action],
            1 / contract.control_hz,
            motion.stale_s,
        )
        low, high = limits(contract.action, np.float64)
        self._grain = grain = _EXACT * np.maximum(
            np.abs(low), np.abs(high)
        )  # what rounding may do to a number that is sent
        self._low, self._high = low + motion.margin * (high - low) + grain, high - motion.margin * (high - low) - grain
        self._limit = self._each(motion.speed) - grain / self._dt
        self._change = self._each(motion.acceleration) * self._dt - 2 * grain / self._dt
        self._braking = self._change - grain / self._dt  # a little less: what rounding adds to a speed is braked too
        self._deviation = self._each(motion.deviation)
        if not (np.minimum(self._limit, self._braking) > 0).all():
            raise ConfigError(
                f"motion: speed={motion.speed} and acceleration={motion.acceleration} are less than a float32 can say "
                f"at {contract.control_hz:g} Hz; raise them"
            )
        states = [d.name for d in contract.state]
        self._measured = [states.index(name) if name in states else None for name in self._names]
        here = self._of(where)
        astray = np.flatnonzero(
            (here < low - contract.tolerance * (high - low)) | (here > high + contract.tolerance * (high - low))
        )
        if len(astray):
            name, at = self._names[astray[0]], here[astray[0]]
            raise ContractError(
                f"the robot: {name} stands at {at:g}, outside of {low[astray[0]]:g} to {high[astray[0]]:g}; move it "
                "inside by hand, or calibrate it"
            )
        self._sent = np.where(np.isfinite(here), np.clip(here, self._low, self._high), (self._low + self._high) / 2)
        self._target, self._speed = self._sent, np.zeros(len(self._names))
        self._stopped = False
        self.gated: Counter[str] = Counter()
        """Steps at which each promise would have been broken."""

    def check(self, asked: Any, *, state: Float32[np.ndarray, " s"], age_s: float) -> Verdict:
        """What to send instead of ``asked``, which rests on an observation of ``age_s`` ago; ``state`` is measured now.

        Never raises, whatever is asked: what is no command at all, or too old, is answered by coming to rest.
        """
        reasons: dict[str, tuple[str, ...]] = {}
        wish = self._wish(asked, age_s, reasons)
        if wish is None:
            speed = np.zeros(len(self._names))
            self._target = self._sent
        else:
            here = self._of(state)
            near = np.clip(wish, here - self._deviation, here + self._deviation)
            near = np.where(np.isfinite(near), near, wish)
            inside = np.clip(near, self._low, self._high)
            self._note(reasons, "deviation", near != wish)
            self._note(reasons, "position", np.abs(inside - near) > 4 * self._grain)
            speed = self._approach(inside, reasons)
        allowed = self._allowed(speed, reasons)
        command = (self._sent + allowed * self._dt).astype(np.float32)
        if wish is not None and not reasons and np.array_equal(inside, wish):
            command = wish.astype(np.float32)  # to the last bit
        sent = command.astype(np.float64)
        self._speed, self._sent = (sent - self._sent) / self._dt, sent
        self.gated.update(reasons.keys())
        return Verdict(command=command, reasons=reasons)

    def stop(self) -> None:
        """Come to rest and stay there, whatever is asked, until `release`."""
        self._stopped = True

    def release(self) -> None:
        """Let commands through again."""
        self._stopped = False

    def _wish(self, asked: Any, age_s: float, reasons: dict[str, tuple[str, ...]]) -> Float64[np.ndarray, " d"] | None:
        """The target that is asked for; None for none."""
        everything = tuple(self._names)
        if self._stopped:
            reasons["stopped"] = everything
        elif not 0 <= age_s <= self._stale_s:  # nor NaN
            reasons["stale"] = everything
        elif not isinstance(asked, np.ndarray) or asked.shape != self._sent.shape or asked.dtype.kind != "f":
            reasons["shape"] = everything
        elif not np.isfinite(asked).all():
            self._note(reasons, "finite", ~np.isfinite(asked))
        else:
            return asked.astype(np.float64)
        return None

    def _approach(
        self, target: Float64[np.ndarray, " d"], reasons: dict[str, tuple[str, ...]]
    ) -> Float64[np.ndarray, " d"]:
        """The speed that reaches ``target`` in a step, or if it is farther away, one that does not overshoot.

        Seen from the target, which has a pace of its own, that is again to come to rest within the way that is left.
        """
        lead, pace = target - self._sent, np.clip((target - self._target) / self._dt, -self._limit, self._limit)
        self._target = target
        closing = np.sign(lead) * self._brakable(np.abs(lead))
        at_once = lead / self._dt
        speed = np.where(lead > 0, np.minimum(at_once, pace + closing), np.maximum(at_once, pace + closing))
        self._note(reasons, "approach", np.abs(speed - at_once) > self._grain / self._dt)
        return speed

    def _allowed(
        self, speed: Float64[np.ndarray, " d"], reasons: dict[str, tuple[str, ...]]
    ) -> Float64[np.ndarray, " d"]:
        """The speed of the next step that is nearest to ``speed`` and keeps all promises."""
        up, down = self._brakable(self._high - self._sent), -self._brakable(self._sent - self._low)
        for name, low, high in (
            ("speed", -self._limit, self._limit),
            ("braking", down, up),
            ("acceleration", self._speed - self._change, self._speed + self._change),  # the last word: it is always met
        ):
            kept = np.clip(speed, low, high)
            self._note(reasons, name, kept != speed)
            speed = kept
        return speed

    def _brakable(self, room: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " d"]:
        """The highest speed of the next step from which the arm comes to rest within ``room``.

        At speed ``w`` it takes that step and ``n = floor(w / braking)`` more, each slower by ``braking``, and goes
        ``dt ((n + 1) w - braking n (n + 1) / 2)``; that is turned around here.
        """
        step = self._braking * self._dt
        n = np.floor((np.sqrt(1 + 8 * np.maximum(room, 0) / step) - 1) / 2)
        highest: np.ndarray = (room / self._dt + self._braking * n * (n + 1) / 2) / (n + 1)
        return highest

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
