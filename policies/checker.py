"""Whether a policy keeps what `vla.core.types.Policy` promises: to run on one's own before anything is evaluated.

Evaluations and servers ask for several episodes at once, and results rest on these not disturbing each other: on
slots that are forgotten when told, and on answers that do not depend on who else is asking.
"""

from collections.abc import Sequence

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import VlaError
from vla.core.fit import check_actions
from vla.core.types import ActionChunk, Observation, Policy, SeededPolicy

_SLOTS = 3
_SEED = 7
_TOLERANCE = 1e-3
"""Of a dimension's range: what rounding may change when other observations are in the batch."""


def check_policy(policy: Policy, observations: Sequence[Observation] | None = None) -> list[str]:
    """Raise `VlaError` with what is wrong; return sentences on what is allowed and yet worth knowing.

    ``observations`` are three that the policy could see, one for each slot; by default they are made up from its
    contract, of noise. The slots are left in some episode.
    """
    if not isinstance(policy.contract, Contract):
        raise VlaError(f"contract: expected a Contract, got {type(policy.contract).__name__}")
    seen = list(observations or made_up_observations(policy.contract, _SLOTS))
    if len(seen) != _SLOTS:
        raise VlaError(f"observations: expected {_SLOTS}, one for each slot, got {len(seen)}")
    _begin(policy, *range(_SLOTS))
    together = _act(policy, seen)
    _check_slots(policy, seen, together)
    return _outside(policy.contract, together)


def made_up_observations(contract: Contract, count: int) -> list[Observation]:
    """Noise of the shapes that the contract says, the state within its limits, with an instruction."""
    rng = np.random.default_rng(_SEED)
    ends = [(max(d.low, -1e3), min(d.high, 1e3)) for d in contract.state]
    return [
        Observation(
            images={c.name: rng.integers(0, 256, c.shape).astype(c.dtype) for c in contract.cameras},
            state=np.array([rng.uniform(low, high) for low, high in ends], np.float32),
            instruction="put the red block on the blue plate",
            time_ns=1_000_000 * (i + 1),
        )
        for i in range(count)
    ]


def _begin(policy: Policy, *slots: int) -> None:
    for slot in slots:
        policy.reset(slot)
        if isinstance(policy, SeededPolicy):
            policy.seed(slot, _SEED + slot)


def _act(policy: Policy, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
    """Ask, and hold every answer against the promise."""
    answers = policy.act(observations)
    if len(answers) != len(observations):
        raise VlaError(f"act: got {len(observations)} observations and returned {len(answers)} answers")
    for slot, (observation, chunk) in enumerate(zip(observations, answers, strict=True)):
        if observation is None:
            if chunk is not None:
                raise VlaError(f"act: slot {slot} asked for nothing (None) and got a chunk; answer None with None")
            continue
        _check_chunk(policy.contract, observation, chunk, slot)
    return answers


def _check_chunk(contract: Contract, observation: Observation, chunk: ActionChunk | None, slot: int) -> None:
    if not isinstance(chunk, ActionChunk):
        raise VlaError(f"act: slot {slot} has an observation and got {type(chunk).__name__} instead of an ActionChunk")
    check_actions(chunk.actions, contract, who="the policy")
    if chunk.time_ns != observation.time_ns:
        raise VlaError(
            f"time_ns: a chunk has that of the observation it answers, {observation.time_ns}, got {chunk.time_ns}"
        )


def _check_slots(policy: Policy, seen: Sequence[Observation], first: Sequence[ActionChunk | None]) -> None:
    """Forget, then ask for each alone, again in company, and once more beside an episode that goes on."""
    for slot, observation in enumerate(seen):
        alone: list[Observation | None] = [None] * _SLOTS
        alone[slot] = observation
        _begin(policy, slot)
        _same(policy, first[slot], _act(policy, alone)[slot], f"slot {slot} asked alone after reset({slot})")
    _begin(policy, *range(_SLOTS))
    followed = [_act(policy, [seen[0], None, None])[0], _act(policy, [seen[0], None, None])[0]]
    _begin(policy, 0)
    again = [_act(policy, [seen[0], seen[1], None])[0]]
    _begin(policy, 1)
    again.append(_act(policy, [seen[0], seen[2], None])[0])
    for step, (a, b) in enumerate(zip(followed, again, strict=True)):
        _same(policy, a, b, f"step {step} of slot 0 while slot 1 has another episode, which is reset")


def _same(policy: Policy, a: ActionChunk | None, b: ActionChunk | None, what: str) -> None:
    assert a is not None
    assert b is not None
    if a.actions.shape != b.actions.shape:
        raise VlaError(f"{what}: a chunk of {a.actions.shape} became one of {b.actions.shape}")
    span = np.array([min(d.high - d.low, 1e3) for d in policy.contract.action], np.float32)
    off = np.abs(a.actions - b.actions) / span  # (h, d), in shares of the range
    if off.max() > _TOLERANCE:
        worst = policy.contract.action[int(off.max(axis=0).argmax())].name
        raise VlaError(
            f"{what}: the same observations gave another chunk, {worst} is off by {off.max():.2%} of its range; keep "
            "what is remembered apart for each slot, and drop it in reset(slot)"
        )


def _outside(contract: Contract, answers: Sequence[ActionChunk | None]) -> list[str]:
    """Commands beyond the limits are clipped by whoever runs them: allowed, and said."""
    actions = np.concatenate([chunk.actions for chunk in answers if chunk is not None])
    notes = []
    for i, d in enumerate(contract.action):
        beyond = np.maximum(d.low - actions[:, i], actions[:, i] - d.high)
        slack = 1e-6 * (d.high - d.low) if np.isfinite(d.high - d.low) else 0.0
        count = int((beyond > slack).sum())
        if count:
            notes.append(
                f"{d.name}: {count} of {len(actions)} commands are outside [{d.low:g}, {d.high:g}], by up to "
                f"{float(beyond.max()):.3g} {d.unit}; they will be clipped"
            )
    return notes
