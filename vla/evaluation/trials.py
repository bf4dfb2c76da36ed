"""What is evaluated, one episode at a time: the condition and the seed of a trial, and what became of it."""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from vla.envs.spec import Language


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Who acts, where, and under what circumstances."""

    env: str
    policy: str = ""
    """A label; empty where there is only one."""
    split: str = ""
    """Of the environment; empty is its default."""
    language: Language = "right"
    perturbation: Mapping[str, Any] = field(default_factory=dict)
    """Settings of ``vla.envs.perturbations`` that differ from none at all."""

    @property
    def key(self) -> str:
        """A text that is the same for equal conditions."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One episode to run."""

    condition: Condition
    seed: int

    @property
    def key(self) -> str:
        """A text that is the same for equal trials."""
        return f"{self.seed} {self.condition.key}"


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """What became of one episode."""

    seed: int
    instruction: str
    """What the policy was told."""
    goal: str
    """What counts as success, whatever the wording."""
    success: bool
    success_unsaid: bool = False
    """With ``language: wrong``: the goal of the scene that was *not* said was reached at the end."""
    progress: float = 0.0
    """How far the task had come at the end, 0 to 1; without a crash 1 exactly at success."""
    best_progress: float = 0.0
    """The same at its best step."""
    steps: int
    clipped: int = 0
    """Steps whose action was outside the contract's limits and was clipped to them."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What the environment says at the end, finite numbers, and for each signal that policy and environment give
    ``<signal>_error``: the mean absolute error of what the policy believed in the first frame."""
    inference_ms: float = 0.0
    """Mean time of one inference, of all environments that shared it."""
    latencies_ms: tuple[float, ...] = ()
    """Of every inference."""
    seconds: float = 0.0
    """From reset to end, other episodes of the same worker included."""
    crash: str | None = None
    """What the simulator raised: no failure of the policy."""
    failure: str | None = None
    """Why the policy itself ended the episode early: counted as a failure."""
    actions: np.ndarray = field(repr=False, default_factory=lambda: np.zeros((0, 0), np.float32))
    """float32 (t, d): what was executed, enough to replay the episode from its seed."""

    def to_json(self) -> dict[str, Any]:
        """All but the actions, which a digest stands for; what is not finite is None."""
        value = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("actions", "latencies_ms")}
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value.items()}
        return plain | {"actions_digest": hashlib.blake2b(_bytes(self.actions), digest_size=8).hexdigest()}

    def to_record(self) -> dict[str, Any]:
        """All of it as JSON that `from_record` reads back."""
        value = self.to_json()
        del value["actions_digest"]
        actions = {"shape": self.actions.shape, "float32": base64.b64encode(_bytes(self.actions)).decode()}
        return value | {"latencies_ms": [round(v, 3) for v in self.latencies_ms], "actions": actions}

    @staticmethod
    def from_record(value: Mapping[str, Any]) -> "EpisodeResult":
        """Read what `to_record` wrote."""
        stored = value["actions"]
        actions = np.frombuffer(base64.b64decode(stored["float32"]), "<f4").reshape(stored["shape"])
        rest = {k: v for k, v in value.items() if k not in ("actions", "latencies_ms")}
        return EpisodeResult(**rest, actions=actions, latencies_ms=tuple(value["latencies_ms"]))


TIMES = ("inference_ms", "latencies_ms", "seconds")
"""What differs when the same episode is run again."""


def trials_of(conditions: Iterable[Condition], seeds: Iterable[int]) -> list[Trial]:
    """Every condition on every seed, those of one seed together: pairs are complete as early as can be."""
    conditions = list(conditions)
    return [Trial(condition=condition, seed=seed) for seed in seeds for condition in conditions]


def _bytes(actions: np.ndarray) -> bytes:
    return np.ascontiguousarray(actions, "<f4").tobytes()
