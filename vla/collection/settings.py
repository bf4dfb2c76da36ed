"""Which demonstrations to collect. Free of heavy imports, so that help is instant."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vla.core.config import require_at_least_one
from vla.core.delay import Lateness, measured_ms
from vla.core.errors import ConfigError
from vla.core.machine.processes import cores
from vla.envs.disturbance import Disturbance


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Which demonstrations to collect."""

    env: str | tuple[str, ...] = "tabletop/place"
    """Tasks, or patterns of them ('metaworld/*'); those that share a robot and its cameras become one dataset."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the environments that differ from their defaults."""
    episodes: int = 2000
    """Of each task."""
    seed: int = 0
    """Episode i runs on seed + i."""
    disturbance: Disturbance = field(default_factory=Disturbance)
    """What pushes the arm off the expert's path; ``--disturbance.episode-share 0`` for none."""
    policy: str = ""
    """Who drives instead of the expert: a checkpoint folder, or any other name of a policy."""
    label: Literal["expert", "takeover"] | None = None
    """What is learned where a policy drives: what the expert would have done in each state that it reached, or only
    what the expert does itself, which takes over after a while and finishes."""
    takeover: tuple[float, float] = (0.05, 0.7)
    """Least and most of an episode's longest time that the policy drives before the expert takes over."""
    execute: int | None = None
    """Steps of a policy's chunk that run before it is asked again; by default what its checkpoint says, or all."""
    latency_steps: tuple[int, ...] = (0,)
    """Control steps that each inference of a policy takes, of which each episode draws one: the commands of the chunk
    before run on meanwhile, as in ``vla eval``."""
    latencies: Path | None = None
    """Times in ms that were measured, which each inference's is drawn from instead: a JSON list, or what ``vla run
    --json`` wrote."""
    committed: bool = True
    """Tell a checkpoint that was trained for it what runs while it computes."""
    questions: int = 0
    """Questions of each episode that are recorded with their right answers, at random steps, where the environment
    knows some; and what was done, where it was."""
    captions: int = 0
    """Steps of each episode, the first and the last among them, that are described in a sentence, for models that tell
    which picture belongs to which: all that is there, and in relation to what."""
    parts: int = 0
    """Steps that are described by one thing that is there alone, as who searches would say it."""
    boxes: int = 0
    """Questions of each episode where a thing is, at random steps, with its box in the first camera's picture as the
    answer, where the environment knows it."""
    workers: int = field(default_factory=cores)
    patience_s: float = 600.0
    """A worker that finishes no episode for so long hangs, and is ended."""

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.workers < 1:
            raise ConfigError(f"collect: episodes={self.episodes} and workers={self.workers} must be at least 1")
        require_at_least_one(self, "execute", where="collect: ")
        for name in ("questions", "captions", "parts", "boxes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"collect: {name}={getattr(self, name)} must be at least 0")
        if bool(self.policy) != bool(self.label):
            raise ConfigError(
                "collect: --policy drives and --label (expert, takeover) says what is learned: give both, or neither"
            )
        if not 0 <= self.takeover[0] <= self.takeover[1] < 1:
            raise ConfigError(f"collect: takeover={list(self.takeover)} must be [least, most], from 0 to below 1")
        if (any(self.lateness) or self.execute) and not self.policy:
            raise ConfigError(
                "collect: execute, latency_steps and latencies are of a policy that drives, and the expert acts at "
                "once; give --policy and --label, or leave them out"
            )

    @functools.cached_property
    def lateness(self) -> tuple[Lateness, ...]:
        """How late a policy's answers may be, of which each episode draws one."""
        ms = () if self.latencies is None else measured_ms(self.latencies)
        found = tuple(Lateness(steps=steps, ms=ms, told=self.committed) for steps in self.latency_steps)
        if not found:
            raise ConfigError("collect: latency_steps: expected at least one number of steps, got none; give 0, or 0 4")
        return found

    @property
    def patterns(self) -> tuple[str, ...]:
        """``env`` as several."""
        return (self.env,) if isinstance(self.env, str) else self.env
