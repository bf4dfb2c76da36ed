"""Episodes of an expert, with disturbances on demand."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import ConfigError
from vla.core.fit import limits
from vla.core.types import BOX, CAPTIONS, PART, SCENE, Episode, Observation, Question
from vla.envs.disturbance import Disturbance
from vla.envs.spec import Expert, Questioned, RobotEnv, SimulatorModel, SimulatorState, to_observation

Driver = Callable[[Observation], np.ndarray]


def deviations(disturbance: Disturbance, contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    """float64 (d,) each: the standard deviations of noise and offset on each dimension of the action, in its unit.

    Joint targets are disturbed by angles. A target that is a place (the state has it too) is disturbed as a joint
    is, by a share of its range as of a turn; a command that the state does not have moves by so much or is a speed,
    and takes far more to have the same effect.
    """
    places = {(d.name, d.unit) for d in contract.state}
    noise, offset = np.zeros(len(contract.action)), np.zeros(len(contract.action))
    for i, d in enumerate(contract.action):
        width = d.high - d.low
        if d.unit == "rad":
            noise[i], offset[i] = disturbance.noise_rad, disturbance.offset_rad
        elif d.name == contract.gripper or not math.isfinite(width):
            continue
        elif (d.name, d.unit) in places:
            noise[i], offset[i] = (x / (2 * math.pi) * width for x in (disturbance.noise_rad, disturbance.offset_rad))
        else:
            noise[i], offset[i] = disturbance.noise_move * width, disturbance.offset_move * width
    return noise, offset


class _Pusher:
    """The disturbance of one episode, drawn step by step."""

    def __init__(self, disturbance: Disturbance, rng: np.random.Generator, contract: Contract) -> None:
        self._settings, self._rng = disturbance, rng
        self._noise, self._sideways = deviations(disturbance, contract)
        self._limits = limits(contract.action)
        self._active = rng.random() < disturbance.episode_share
        self._offset, self._left = np.zeros(len(contract.action)), 0

    def __call__(self, action: np.ndarray) -> np.ndarray:
        if not self._active:
            return action
        settings, rng = self._settings, self._rng
        if self._left == 0 and rng.random() < settings.offset_share:
            self._offset = rng.normal(0.0, 1.0, len(self._offset)) * self._sideways
            self._left = int(rng.integers(1, settings.offset_steps + 1))
        offset = np.zeros(len(self._offset))
        if self._left:
            offset += self._offset
            self._left -= 1
        if rng.random() < settings.step_share:
            offset += rng.normal(0.0, 1.0, len(offset)) * self._noise
        return np.clip((action + offset).astype(np.float32), *self._limits)


def record_episode(
    env: RobotEnv,
    expert: Expert,
    *,
    task: str,
    seed: int,
    split: str = "train",
    disturbance: Disturbance | None = None,
    driver: Driver | None = None,
    driver_steps: int | None = 0,
    label_driven: bool = False,
    questions: int = 0,
    captions: int = 0,
    parts: int = 0,
    boxes: int = 0,
    provenance: Mapping[str, Any] | None = None,
) -> Episode:
    """Run one episode and return all of it.

    With ``driver``, that policy executes the first ``driver_steps`` steps (None: all) and the expert takes over from
    the states it has reached; only the expert's own steps are ``valid`` (HG-DAgger, arXiv 1810.02890). With
    ``label_driven`` the driven ones are too: what the expert wanted there is their label (DAgger, arXiv 1011.0686), so
    it must be a function of the state alone. Of an environment that knows some, so many ``questions`` are asked at
    random steps, and at the last one of a success what was done; so many steps are described, the first and the last
    among them, by ``captions`` of all that is there and by ``parts`` of them; and at so many random steps it is asked
    where a thing is, which ``boxes`` answer. ``provenance`` is kept with the episode.
    """
    observation, info = env.reset(seed=seed)
    rng = np.random.default_rng([seed, 0x6E6F697365])
    pusher = _Pusher(disturbance, rng, env.contract) if disturbance else None
    askers = tuple(_askers(env, seed, questions=questions, captions=captions, parts=parts, boxes=boxes))
    rows: list[dict[str, Any]] = []
    terminated = truncated = False
    while not (terminated or truncated):
        driving = driver is not None and (driver_steps is None or len(rows) < driver_steps)
        action = expert.action()
        executed = action
        if driving and driver is not None:
            executed = driver(to_observation(observation, info))
        elif pusher is not None:
            executed = pusher(action)
        row: dict[str, Any] = {"images": observation["images"], "state": observation["state"], "action": action}
        if isinstance(env, SimulatorState):
            row["sim_state"] = env.sim_state()
        for asker in askers:
            asker.look(len(rows))
        row |= {
            "executed": executed,
            "signals": info.get("signals", {}),
            "time_ns": info["time_ns"],
            "valid": label_driven or not driving,
        }
        observation, reward, terminated, truncated, info = env.step(executed)
        rows.append(row | {"reward": reward, "done": terminated})
    success = bool(info["success"])
    asked = tuple(question for asker in askers for question in asker.chosen(success))
    episode = _episode(env, rows, asked, task=task, seed=seed, split=split, success=success)
    return replace(episode, provenance=dict(provenance or {}))


def finish(env: RobotEnv, expert: Expert) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Let the expert finish the present episode: the last observation, and ``info`` with it."""
    ended = False
    while not ended:
        observation, _, terminated, truncated, info = env.step(expert.action())
        ended = terminated or truncated
    return observation, info


def _askers(
    env: RobotEnv, seed: int, *, questions: int, captions: int, parts: int, boxes: int
) -> "Iterator[_Asking | _Telling]":
    """Each draws from a stream of its own: what one of them is asked for changes nothing of the others."""
    if questions:
        yield _Asking(env, np.random.default_rng([seed, 0x61736B]), questions)
    if captions or parts:
        yield _Telling(env, np.random.default_rng([seed, 0x74656C6C]), {SCENE: captions, PART: parts})
    if boxes:
        yield _Telling(env, np.random.default_rng([seed, 0x626F78]), {BOX: boxes}, ends=False)


class _Asking:
    """Questions of one episode, each kind as often, and of a kind each answer: most would be answered by one word.

    Captions and boxes are none of them: who wants those says how many.
    """

    def __init__(self, env: RobotEnv, rng: np.random.Generator, number: int) -> None:
        self._env, self._rng, self._number = _questioned(env, "questions"), rng, number
        self._found: list[Question] = []

    def look(self, step: int) -> None:
        """One question of this moment."""
        found: Sequence[Question] = [q for q in self._env.questions() if q.kind not in (*CAPTIONS, BOX)]
        for part in ("kind", "answer"):
            values = sorted({getattr(question, part) for question in found})
            chosen = values[self._rng.integers(len(values))] if values else None
            found = [question for question in found if getattr(question, part) == chosen]
        if found:
            self._found.append(replace(found[self._rng.integers(len(found))], step=step))

    def chosen(self, success: bool) -> tuple[Question, ...]:
        """So many of them as were wanted, in the order of their steps, and what was done."""
        last = self._found[-1].step if self._found else 0
        taken = np.sort(self._rng.permutation(len(self._found))[: self._number])
        deed = (replace(self._env.deed(), step=last),) if success and self._found else ()
        return (*(self._found[i] for i in taken), *deed)


class _Telling:
    """So many questions of each kind, of random moments of one episode; ``ends`` has its first and last among them."""

    def __init__(
        self, env: RobotEnv, rng: np.random.Generator, numbers: Mapping[str, int], *, ends: bool = True
    ) -> None:
        self._env, self._rng = _questioned(env, "captions" if ends else "boxes"), rng
        self._numbers, self._ends = numbers, ends
        self._found: dict[str, list[Question]] = {kind: [] for kind in numbers}

    def look(self, step: int) -> None:
        """One of each kind of this moment."""
        present = self._env.questions()
        for kind in self._numbers:
            found = [question for question in present if question.kind == kind]
            texts = sorted({question.text for question in found})  # each as often: most of what is there is beside
            if found:
                text = texts[self._rng.integers(len(texts))]
                found = [question for question in found if question.text == text]
                self._found[kind].append(replace(found[self._rng.integers(len(found))], step=step))

    def chosen(self, success: bool) -> tuple[Question, ...]:
        """So many of each kind, in the order of their steps; where there is one, it is of any moment."""
        return tuple(question for kind in self._numbers for question in self._of(kind))

    def _of(self, kind: str) -> Iterator[Question]:
        found, number = self._found[kind], self._numbers[kind]
        ends = {0, len(found) - 1} if self._ends and number > 1 and found else set()
        others = [i for i in self._rng.permutation(len(found)).tolist() if i not in ends]
        yield from (found[i] for i in sorted({*ends, *others[: number - len(ends)]}))


def _questioned(env: RobotEnv, what: str) -> Questioned:
    if not isinstance(env, Questioned):
        raise ConfigError(f"{what}: {type(env).__name__} knows none; collect without them")
    return env


def _episode(
    env: RobotEnv,
    rows: list[dict[str, Any]],
    questions: tuple[Question, ...],
    *,
    task: str,
    seed: int,
    split: str,
    success: bool,
) -> Episode:
    def stack(key: str, dtype: Any) -> np.ndarray:
        return np.array([row[key] for row in rows], dtype)

    cameras = [camera.name for camera in env.contract.cameras]
    time_ns = stack("time_ns", np.int64)
    return Episode(
        images={name: np.stack([row["images"][name] for row in rows]) for name in cameras},
        state=stack("state", np.float32),
        action=stack("action", np.float32),
        action_executed=stack("executed", np.float32),
        reward=stack("reward", np.float32),
        done=stack("done", np.bool_),
        valid=stack("valid", np.bool_),
        time_ns=time_ns,
        command_time_ns=time_ns.copy(),  # simulated time stands still while the action is chosen
        signals={name: np.array([row["signals"][name] for row in rows], np.float32) for name in env.contract.signals},
        instruction=env.instruction,
        instruction_alternatives=env.instruction_alternatives,
        task=task,
        split=split,
        seed=seed,
        success=success,
        questions=questions,
        sim_state=stack("sim_state", np.float64) if "sim_state" in rows[0] else None,
        model=env.model_xml if isinstance(env, SimulatorModel) else "",
    )
