"""The last step of an RLDS episode: it holds an observation, and an action that means nothing.

The specification says so of every last step; many datasets store a real action there all the same. A filler is known by
what it is: zeros, numbers that are not finite, or what all episodes of the dataset end with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32

_FEWEST = 3
"""Episodes that tell what all end with."""


@dataclass(frozen=True, kw_only=True)
class Filler:
    """What episodes end with."""

    constant: tuple[float, ...] = ()
    """The last action of all episodes; empty where they differ."""
    repeated: bool = False
    """Whether the last action of every episode is the one before it again."""

    def note(self) -> str:
        """What is made of it."""
        what = "is all zeros" + ("" if not self.constant else f", or {list(self.constant)} as in all episodes")
        what += ", or the one before it again, as in all episodes" if self.repeated else ""
        return f"A last step whose action {what}, is a filler: it is kept, and marked as not valid."

    def steps(self, action: Float32[np.ndarray, "t d"], flags: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " t"]:
        """Which steps of an episode hold a filler: bool (t,)."""
        last = np.arange(len(action)) == len(action) - 1
        if "is_last" in flags:
            last |= flags["is_last"].astype(bool)
        filler = ~action.any(axis=1) | ~np.isfinite(action).all(axis=1)
        if self.constant:
            filler |= (action == np.array(self.constant, np.float32)).all(axis=1)
        if self.repeated:
            filler[1:] |= (action[1:] == action[:-1]).all(axis=1)
        return np.asarray(last & filler)


@dataclass(kw_only=True)
class Endings:
    """Looks at the last actions of a whole dataset."""

    _last: list[bytes] = field(default_factory=list)
    _moving: int = 0
    """Episodes whose last action is another than the one before."""
    _longer: int = 0

    def add(self, action: Float32[np.ndarray, "t d"]) -> None:
        """One episode."""
        self._last.append(np.ascontiguousarray(action[-1], np.float32).tobytes())
        if len(action) > 1:
            self._longer += 1
            self._moving += not np.array_equal(action[-1], action[-2])

    def filler(self) -> Filler:
        """What all have in common, where there are enough of them and it is not just how their actions always are."""
        enough = self._longer >= _FEWEST
        same = len(set(self._last)) == 1 and self._moving > 0
        constant = np.frombuffer(self._last[0], np.float32) if enough and same else np.empty(0, np.float32)
        return Filler(
            constant=tuple(constant.tolist()) if constant.any() and np.isfinite(constant).all() else (),
            repeated=enough and self._moving == 0,
        )


def oddities(flags: Mapping[str, np.ndarray]) -> list[str]:
    """Where flags of the first and the last step say something else than their place."""
    found = []
    for name, place in (("is_first", 0), ("is_last", -1)):
        if name in flags:
            said = np.flatnonzero(flags[name]).tolist()
            expected = place % len(flags[name])
            if said != [expected]:
                found.append(f"{name} is set at steps {said[:5]}, expected {expected} alone: the order of steps counts")
    return found
