"""Closed-loop evaluation: many episodes, explicit seeds, several environments a process, several processes.

Every episode has its own seed and runs to its own end, so short (successful) episodes are not counted more often.
An episode that raises is a crash: reported, and no failure of the policy.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from vla.core.chunks import ChunkBuffer
from vla.core.errors import VlaError
from vla.core.processes import run_shares
from vla.core.types import Observation, Policy
from vla.envs.registry import env_spec, to_observation
from vla.envs.settings import EvaluationConfig
from vla.envs.spec import RobotEnv

_WHOLE_CHUNK = 1_000_000
MakePolicy = Callable[[Sequence[RobotEnv]], Policy]
"""Builds the policy inside a worker process; the environments are for experts, which read their state."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """What became of one episode."""

    seed: int
    instruction: str
    """What the policy was told."""
    goal: str
    """What counts as success, whatever the wording."""
    success: bool
    success_unsaid: bool
    """With ``language: wrong``: the goal of the scene that was *not* said was reached at the end."""
    grasped: bool
    """The named block was in the gripper and off the table at some step."""
    steps: int
    distance_m: float
    """From the named block to the named plate at the end."""
    grounding_error_m: float | None
    """Mean error of where the policy believed the named things in the first frame."""
    inference_ms: float
    """Mean time of one inference, of all environments that shared it."""
    crash: str | None = None
    """What the simulator raised: no failure of the policy."""
    failure: str | None = None
    """Why the policy itself ended the episode early: counted as a failure."""
    actions: np.ndarray = field(repr=False, default_factory=lambda: np.zeros((0, 0), np.float32))
    """float32 (t, d): what was executed, enough to replay the episode from its seed."""

    def to_json(self) -> dict[str, Any]:
        """All but the actions."""
        return {k: v for k, v in asdict(self).items() if k != "actions"}


def evaluate(
    config: EvaluationConfig, make_policy: MakePolicy, on_episode: Callable[[EpisodeResult], None] | None = None
) -> list[EpisodeResult]:
    """Run all episodes and return their results in the order of the seeds."""
    seeds = list(range(config.seed, config.seed + config.episodes))
    workers = max(1, min(config.workers, config.episodes))
    shares = [seeds[i::workers] for i in range(workers)]
    if workers == 1:
        results = run_share(config, make_policy, shares[0], on_episode)
    else:
        run = partial(_run_share_reporting, config, make_policy)
        futures = run_shares(run, shares, workers=workers, on_report=on_episode)
        results = [result for future in futures for result in future.result()]
    return sorted(results, key=lambda result: result.seed)


def _run_share_reporting(
    config: EvaluationConfig, make_policy: MakePolicy, seeds: list[int], report: Callable[[EpisodeResult], None]
) -> list[EpisodeResult]:
    return run_share(config, make_policy, seeds, report)


def run_share(
    config: EvaluationConfig,
    make_policy: MakePolicy,
    seeds: Sequence[int],
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Run the episodes of ``seeds`` in this process, ``config.batch`` environments at a time."""
    spec = env_spec(config.env)
    envs = [spec.make(config.settings) for _ in range(min(config.batch, len(seeds)))]
    try:
        policy = make_policy(envs)
        pending = list(reversed(seeds))
        slots = [_Slot(env, config, policy, i) for i, env in enumerate(envs)]
        results: list[EpisodeResult] = []
        while True:
            for slot in slots:
                if slot.result is not None:
                    results.append(slot.result)
                    if on_episode:
                        on_episode(slot.result)
                    slot.result = None
                if not slot.running and pending:
                    slot.start(pending.pop())
            if not any(slot.running or slot.result for slot in slots):
                return results
            _ask(policy, slots)
            for slot in slots:
                slot.step()
    finally:
        for env in envs:
            env.close()


def _ask(policy: Policy, slots: Sequence["_Slot"]) -> None:
    """One inference for all slots that want a chunk now."""
    observations = [slot.observation if slot.wants_chunk else None for slot in slots]
    if not any(observation is not None for observation in observations):
        return
    start = time.perf_counter()
    chunks = policy.act(observations)
    elapsed_ms = (time.perf_counter() - start) * 1e3
    for slot, chunk in zip(slots, chunks, strict=True):
        if slot.wants_chunk:
            slot.take(chunk, elapsed_ms)


class _Slot:
    """One environment and the episode that runs in it."""

    def __init__(self, env: RobotEnv, config: EvaluationConfig, policy: Policy, index: int) -> None:
        self._env, self._config, self._policy, self._index = env, config, policy, index
        self.running = False
        self.result: EpisodeResult | None = None
        self.observation: Observation | None = None

    def start(self, seed: int) -> None:
        """Begin the episode of ``seed``."""
        self._seed, self._grasped = seed, False
        self._grounding_error: float | None = None
        self._actions: list[np.ndarray] = []
        self._latency_ms: list[float] = []
        self._info: dict[str, Any] = {}
        execute = self._config.execute or int(self._policy.contract.policy.get("execute", _WHOLE_CHUNK))
        self._buffer = ChunkBuffer(execute=execute, ensemble=self._config.ensemble)
        self._policy.reset(self._index)
        self.running = True
        try:
            raw, self._info = self._env.reset(seed=seed, options={"language": self._config.language})
        except VlaError:
            raise
        except Exception as error:
            self._finish(crash=f"reset: {type(error).__name__}: {error}")
            return
        self.observation = to_observation(raw, self._info)

    @property
    def wants_chunk(self) -> bool:
        """Whether the episode needs the policy before its next step."""
        return self.running and self._buffer.wants_chunk

    def take(self, chunk: Any, elapsed_ms: float) -> None:
        """Receive the policy's answer; one that is not finite ends the episode as a failure."""
        self._latency_ms.append(elapsed_ms)
        expected = len(self._env.contract.action)
        if chunk is None or chunk.actions.ndim != 2 or chunk.actions.shape[1] != expected or not len(chunk.actions):
            got = None if chunk is None else chunk.actions.shape
            self._finish(failure=f"the policy must return a chunk of (steps, {expected}) actions, got {got}")
            return
        if not np.isfinite(chunk.actions).all():
            self._finish(failure="the policy returned actions that are not finite")
            return
        if self._grounding_error is None and chunk.grounding is not None and "grounding" in self._info:
            metres = [d.unit == "m" for d in self._env.contract.grounding]
            self._grounding_error = float(np.abs(chunk.grounding - self._info["grounding"])[metres].mean())
        self._buffer.add(chunk)

    def step(self) -> None:
        """Run one control step of the episode."""
        if not self.running:
            return
        action = self._buffer.pop()
        self._actions.append(action)
        try:
            raw, _, terminated, truncated, self._info = self._env.step(action)
        except Exception as error:
            self._finish(crash=f"step {len(self._actions)}: {type(error).__name__}: {error}")
            return
        self._grasped |= bool(self._info.get("grasped", False))
        self.observation = to_observation(raw, self._info)
        if terminated or truncated:
            self._finish()

    def _finish(self, crash: str | None = None, failure: str | None = None) -> None:
        self.running = False
        self.result = EpisodeResult(
            seed=self._seed,
            instruction=self._env.instruction,
            goal=str(self._info.get("goal", self._env.instruction)),
            success=bool(self._info.get("success", False)) and crash is None,
            success_unsaid=bool(self._info.get("success_unsaid", False)),
            grasped=self._grasped,
            steps=len(self._actions),
            distance_m=float(self._info.get("distance_m", float("nan"))) if self._info else 0.0,
            grounding_error_m=self._grounding_error,
            inference_ms=float(np.mean(self._latency_ms)) if self._latency_ms else 0.0,
            crash=crash,
            failure=failure,
            actions=np.array(self._actions, np.float32),
        )
