"""What is evaluated, one episode at a time: the condition and the seed of a trial, and what became of it."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from vla.core.chunks import Execution
from vla.core.config import from_dict
from vla.envs.spec import Language


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Who acts, where, and under what circumstances."""

    env: str
    policy: str = ""
    """A label; empty where there is only one."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the environment, that differ from its defaults."""
    split: str = ""
    """Of the environment; empty is its default."""
    language: Language = "right"
    perturbation: dict[str, Any] = field(default_factory=dict)
    """Settings of ``vla.envs.perturbations`` that differ from none at all."""
    execution: Execution | None = None
    """How chunks are executed, where it is not as the evaluation says."""

    @property
    def plain(self) -> bool:
        """Neither disturbed nor executed in another way."""
        return not self.perturbation and self.execution is None

    @property
    def circumstances(self) -> dict[str, Any]:
        """What decides how an episode begins, besides its seed; see `vla.evaluation.scenes.beginning`."""
        return {"language": self.language, "split": self.split, "perturbation": self.perturbation}

    @property
    def key(self) -> str:
        """A text that is the same for equal conditions."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def stage(self) -> tuple[str, str, str]:
        """What is the same for all conditions that one policy and its environments can run one after the other."""
        return self.policy, self.env, json.dumps(self.settings, sort_keys=True)


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
    metrics: dict[str, float] = field(default_factory=dict)
    """What the environment says at the end, finite numbers, and for each signal that policy and environment give
    ``<signal>_error``: the mean absolute error of what the policy believed in the first frame."""
    inference_ms: float = 0.0
    """Mean time of one inference, of all environments that shared it."""
    latencies_ms: tuple[float, ...] = field(default=(), compare=False)
    """Of every inference; in the folder of an evaluation, but not in its result."""
    seconds: float = 0.0
    """From reset to end, other episodes of the same worker included."""
    crash: str | None = None
    """What the simulator raised: no failure of the policy."""
    failure: str | None = None
    """Why the policy itself ended the episode early: counted as a failure."""
    actions_digest: str = ""
    """Stands for the actions where they are left out."""
    actions: np.ndarray = field(repr=False, compare=False, default_factory=lambda: np.zeros((0, 0), np.float32))
    """float32 (t, d): what was executed, enough to replay the episode from its seed; left out of results."""

    def to_json(self) -> dict[str, Any]:
        """All but the actions and the times of inferences, as `from_json` reads it."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("actions", "latencies_ms")}

    @staticmethod
    def from_json(value: dict[str, Any], *, where: str) -> "EpisodeResult":
        """Read what `to_json` wrote."""
        return from_dict(EpisodeResult, value, where=where)

    def to_record(self) -> dict[str, Any]:
        """All of it as JSON that `from_record` reads back."""
        value = self.to_json()
        actions = {"shape": self.actions.shape, "float32": base64.b64encode(_bytes(self.actions)).decode()}
        return value | {"latencies_ms": list(self.latencies_ms), "actions": actions}

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


def digest(actions: np.ndarray) -> str:
    """What `EpisodeResult.actions_digest` says of these actions."""
    return hashlib.blake2b(_bytes(actions), digest_size=8).hexdigest()


def _bytes(actions: np.ndarray) -> bytes:
    return np.ascontiguousarray(actions, "<f4").tobytes()
