"""One environment and the episode that runs in it, step by step, driven by whatever answers for the policy."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from vla.core.chunks import ChunkBuffer
from vla.core.config import from_dict
from vla.core.contract import Contract
from vla.core.errors import ConfigError, ContractError, UnknownNameError, VlaError
from vla.core.fit import check_chunk, limits
from vla.core.types import ActionChunk, Observation
from vla.envs.spec import RobotEnv, to_observation
from vla.evaluation.trials import EpisodeResult, Trial


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why an environment does not know the circumstances of a trial: a language or a split that it lacks."""

    trial: Trial
    reason: str


class Slot:
    """Runs one trial after the other in ``env``; an environment that raises ends its episode as a crash."""

    def __init__(self, env: RobotEnv, *, execute: int, ensemble: float) -> None:
        self._inner, self._env = env, env
        self._execute, self._ensemble = execute, ensemble
        self._limits = _limits(env.contract)
        self.running = False
        self.crashed = False
        """An episode has crashed here: the environment should not be used any more."""
        self.ended: tuple[Trial, EpisodeResult] | Refusal | None = None
        """What the last trial brought, until it is taken away."""
        self.observation: Observation | None = None

    def start(self, trial: Trial) -> None:
        """Begin an episode."""
        self._trial, self._began = trial, time.perf_counter()
        self._buffer = ChunkBuffer(execute=self._execute, ensemble=self._ensemble)
        self._actions: list[np.ndarray] = []
        self._latencies_ms: list[float] = []
        self._info: dict[str, Any] = {}
        self._instruction, self._said = "", None
        self._grasped, self._best, self._clipped = False, 0.0, 0
        self._grounding_error: float | None = None
        condition = trial.condition
        self.running = True
        try:
            self._env = _perturbed(self._inner, condition.perturbation)
            raw, self._info = self._env.reset(seed=trial.seed, options=_options(trial))
            self._instruction = self._env.instruction
            if condition.language == "paraphrase":
                self._instruction = self._said = _paraphrase(self._env, trial)
        except (ConfigError, UnknownNameError) as error:
            self.running, self.ended = False, Refusal(trial=trial, reason=str(error))
        except VlaError:
            raise
        except Exception as error:
            self._finish(crash=f"reset: {type(error).__name__}: {error}")
        else:
            self._look(raw)

    @property
    def wants_chunk(self) -> bool:
        """Whether the episode needs the policy before its next step."""
        return self.running and self._buffer.wants_chunk

    def take(self, chunk: ActionChunk | None, elapsed_ms: float) -> None:
        """Receive the policy's answer; one that is of the wrong shape or not finite ends the episode as a failure."""
        self._latencies_ms.append(elapsed_ms)
        try:
            chunk = check_chunk(chunk, self._env.contract, who="the policy's answer")
        except ContractError as error:
            self.fail(str(error))
            return
        if self._grounding_error is None and chunk.grounding is not None and "grounding" in self._info:
            metres = [d.unit == "m" for d in self._env.contract.grounding]
            if any(metres):
                self._grounding_error = float(np.abs(chunk.grounding - self._info["grounding"])[metres].mean())
        self._buffer.add(chunk)

    def fail(self, why: str) -> None:
        """End the episode: the policy broke down."""
        self._finish(failure=why)

    def step(self) -> None:
        """Run one control step of the episode."""
        if not self.running:
            return
        low, high, slack = self._limits
        action = self._buffer.pop()
        if ((action < low - slack) | (action > high + slack)).any():
            action = np.clip(action, low, high)
            self._clipped += 1
        self._actions.append(action)
        try:
            raw, _, terminated, truncated, self._info = self._env.step(action)
        except Exception as error:
            self._finish(crash=f"step {len(self._actions)}: {type(error).__name__}: {error}")
            return
        self._look(raw)
        if terminated or truncated:
            self._finish()

    def _look(self, raw: Mapping[str, Any]) -> None:
        observation = to_observation(raw, self._info)
        self.observation = observation if self._said is None else replace(observation, instruction=self._said)
        self._grasped |= bool(self._info.get("grasped", False))
        self._best = max(self._best, self._progress())

    def _progress(self) -> float:
        return float(self._info.get("progress", self._info.get("success", False)))

    def _finish(self, crash: str | None = None, failure: str | None = None) -> None:
        self.running = False
        self.crashed |= crash is not None
        info, latencies = self._info, self._latencies_ms
        result = EpisodeResult(
            seed=self._trial.seed,
            instruction=self._instruction,
            goal=str(info.get("goal", self._instruction)),
            success=bool(info.get("success", False)) and crash is None,
            success_unsaid=bool(info.get("success_unsaid", False)),
            progress=self._progress(),
            best_progress=self._best,
            grasped=self._grasped,
            steps=len(self._actions),
            clipped=self._clipped,
            distance_m=float(info["distance_m"]) if "distance_m" in info else None,
            grounding_error_m=self._grounding_error,
            inference_ms=float(np.mean(latencies)) if latencies else 0.0,
            latencies_ms=tuple(latencies),
            seconds=time.perf_counter() - self._began,
            crash=crash,
            failure=failure,
            actions=np.array(self._actions, np.float32),
        )
        self.ended = (self._trial, result)


def _options(trial: Trial) -> dict[str, Any]:
    condition = trial.condition
    said = "right" if condition.language == "paraphrase" else condition.language
    return {"language": said} | ({"split": condition.split} if condition.split else {})


def _paraphrase(env: RobotEnv, trial: Trial) -> str:
    """One of the other wordings, chosen by the seed alone."""
    others = env.instruction_alternatives
    if not others:
        raise ConfigError(f"{trial.condition.env}: there is no other wording of {env.instruction!r} to say")
    return others[int(np.random.default_rng([trial.seed, 0x70617261]).integers(len(others)))]


def _perturbed(env: RobotEnv, settings: Mapping[str, Any]) -> RobotEnv:
    if not settings:
        return env
    from vla.envs.perturbations import PerturbationConfig, Perturbed

    return cast(RobotEnv, Perturbed(env, from_dict(PerturbationConfig, dict(settings), where="perturbation")))


def _limits(contract: Contract) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 (d,) each: low, high, and how far outside of them is rounding."""
    low, high = limits(contract.action)
    return low, high, np.float32(1e-6) * np.where(np.isfinite(high - low), high - low, 0).astype(np.float32)
