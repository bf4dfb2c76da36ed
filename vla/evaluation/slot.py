"""One environment and the episode that runs in it, step by step, driven by whatever answers for the policy."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla.core.chunks import Execution
from vla.core.delay import LateChunks, Lateness
from vla.core.errors import ConfigError, ContractError, UnknownNameError, VlaError
from vla.core.fit import check_chunk, check_observation
from vla.core.types import ActionChunk, Observation
from vla.envs.spec import RobotEnv, to_observation
from vla.evaluation.scenes.beginning import begin
from vla.evaluation.trials import EpisodeResult, Trial, digest
from vla.sound.synthesis import has_words, synthesise


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why an environment does not know the circumstances of a trial: a language or a split that it lacks."""

    trial: Trial
    reason: str


class Slot:
    """Runs one trial after the other in ``env``; an environment that raises ends its episode as a crash."""

    def __init__(
        self,
        env: RobotEnv,
        execution: Execution,
        *,
        history: int = 1,
        horizon: int | None = None,
        lateness: Lateness | None = None,
        told: int = 0,
        speech: str = "",
    ) -> None:
        """``execution`` is of trials that do not say their own; ``history`` counts the observations that are read.

        A trial that would execute more steps than a chunk of ``horizon`` has left is refused. Answers are late as
        ``lateness`` says; of what runs until they are there, the policy hears at most ``told`` steps. With ``speech``
        that voice says the instruction, and nothing is written.
        """
        self._inner, self._env = env, env
        self._execution, self._history = execution, history
        self._horizon, self._lateness, self._told = horizon, lateness or Lateness(), told
        self._voice, self._spoken = speech, ("", np.zeros(0, np.float32))
        self._period_s = 1 / env.contract.control_hz
        self.running = False
        self.crashed = False
        """An episode has crashed here: the environment should not be used any more."""
        self.ended: tuple[Trial, EpisodeResult] | Refusal | None = None
        """What the last trial brought, until it is taken away."""
        self.observation: Observation | None = None

    def start(self, trial: Trial) -> None:
        """Begin an episode."""
        self._trial, self._began = trial, time.perf_counter()
        execution, how = trial.condition.execution or self._execution, self._lateness
        self._chunks = LateChunks(execution, how, told=self._told, seed=trial.seed, period_s=self._period_s)
        self._actions: list[np.ndarray] = []
        self._latencies_ms: list[float] = []
        self._info: dict[str, Any] = {}
        self._instruction, self._said = "", None
        self._best, self._clipped, self._states_clipped = 0.0, 0, 0
        self._past: deque[Observation] = deque(maxlen=self._history - 1)
        self._errors: dict[str, float] | None = None
        condition = trial.condition
        self.running = True
        try:
            if condition.execution and self._horizon:
                condition.execution.require_within(self._horizon, self._lateness.steps)
            begun = begin(self._inner, trial.seed, **condition.circumstances)
            self._env, self._info = begun.env, begun.info
            self._instruction, self._said = begun.instruction, begun.said
        except (ConfigError, UnknownNameError) as error:
            self.running, self.ended = False, Refusal(trial=trial, reason=str(error))
        except VlaError:
            raise
        except Exception as error:
            self._finish(crash=f"reset: {type(error).__name__}: {error}")
        else:
            self._look(begun.raw)

    @property
    def wants_chunk(self) -> bool:
        """Whether the episode needs the policy before its next step."""
        return self.running and self._chunks.wants_chunk

    def take(self, chunk: ActionChunk | None, elapsed_ms: float) -> None:
        """Receive the policy's answer; one that is of the wrong shape or not finite ends the episode as a failure."""
        self._latencies_ms.append(round(elapsed_ms, 3))  # as the folder keeps it
        try:
            chunk = check_chunk(chunk, self._env.contract, who="the policy's answer")
            self._chunks.take(chunk)
        except ContractError as error:
            self.fail(str(error))
            return
        if self._errors is None:
            truth = self._info.get("signals", {})
            self._errors = {
                f"{name}_error": float(np.abs(believed - truth[name]).mean())
                for name, believed in chunk.signals.items()
                if name in truth
            }

    def fail(self, why: str) -> None:
        """End the episode: the policy broke down."""
        self._finish(failure=why)

    def step(self) -> None:
        """Run one control step of the episode."""
        if not self.running:
            return
        self._clipped += self._chunks.clipped
        action = self._chunks.command()
        self._actions.append(action)
        try:
            raw, _, terminated, truncated, self._info = self._env.step(action)
        except VlaError:  # what it says of itself is not so: true of all episodes
            raise
        except Exception as error:
            self._finish(crash=f"step {len(self._actions)}: {type(error).__name__}: {error}")
            return
        self._look(raw)
        if self.running and (terminated or truncated):
            self._finish()

    def _look(self, raw: Mapping[str, Any]) -> None:
        """Take what the environment shows; what does not fit its own contract ends the episode as a crash."""
        shown = to_observation(raw, self._info)
        try:
            seen = check_observation(shown, self._env.contract, who="the environment")
        except ContractError as error:
            self._finish(crash=f"step {len(self._actions)}: {error}")
            return
        self._states_clipped += seen is not shown
        seen = seen if self._said is None else replace(seen, instruction=self._said)
        seen = self._aloud(seen) if self._voice else seen
        committed = self._chunks.committed if self.wants_chunk else None
        self.observation = replace(seen, history=tuple(self._past), committed=committed)
        self._past.append(seen)
        self._best = max(self._best, self._progress())

    def _aloud(self, seen: Observation) -> Observation:
        """The same with its instruction spoken; said once, and heard for as long as it holds."""
        if not has_words(seen.instruction):
            return replace(seen, instruction="")
        if seen.instruction != self._spoken[0]:
            self._spoken = seen.instruction, synthesise(seen.instruction, self._voice)
        return replace(seen, instruction="", speech=self._spoken[1])

    def _progress(self) -> float:
        return float(self._info.get("progress", self._info.get("success", False)))

    def _finish(self, crash: str | None = None, failure: str | None = None) -> None:
        self.running = False
        self.crashed |= crash is not None
        info, latencies = self._info, self._latencies_ms
        metrics = {**info.get("metrics", {}), **(self._errors or {})}
        if self._states_clipped:
            metrics["states_clipped"] = self._states_clipped
        actions = np.array(self._actions, np.float32)
        result = EpisodeResult(
            seed=self._trial.seed,
            instruction=self._instruction,
            goal=str(info.get("goal", self._instruction)),
            success=bool(info.get("success", False)) and crash is None,
            success_unsaid=bool(info.get("success_unsaid", False)),
            progress=self._progress(),
            best_progress=self._best,
            steps=len(self._actions),
            clipped=self._clipped,
            metrics={k: float(v) for k, v in metrics.items() if np.isfinite(v)},
            inference_ms=float(np.mean(latencies)) if latencies else 0.0,
            latencies_ms=tuple(latencies),
            seconds=time.perf_counter() - self._began,
            crash=crash,
            failure=failure,
            actions_digest=digest(actions),
            actions=actions,
        )
        self.ended = (self._trial, result)
