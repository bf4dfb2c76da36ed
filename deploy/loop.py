"""The control loop: a policy drives a robot at the robot's rate, on absolute deadlines.

Inference is part of the period in which a chunk is due. A policy that takes longer than a period makes the loop late:
that is counted, the ticks that went by are skipped, and the next command comes with the next tick.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from vla.core.chunks import ChunkBuffer, Execution
from vla.core.contract import require_match
from vla.core.errors import ConfigError
from vla.core.fit import check_chunk, check_observation
from vla.core.types import Observation, Policy
from vla.deploy.robots.gate import Gate
from vla.deploy.robots.robot import Robot

OnStep = Callable[[Observation, Float32[np.ndarray, " d"]], None]
"""Called with what was seen and what passed the gate, before the robot gets it."""


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What a drive was like."""

    steps: int
    inferences: int
    late: int
    """Steps whose command left more than half a period after its deadline."""
    clipped: int
    """Steps of which the command was outside of the robot's limits, and was brought inside."""
    states_clipped: int
    """Observations of which the state was: see `vla.core.contract.Contract.tolerance`."""
    gated: Mapping[str, int]
    """Steps of which the command was changed by the gate, by reason; a step may have several."""
    longest_inference_s: float


def drive(
    policy: Policy,
    robot: Robot,
    *,
    steps: int,
    instruction: str | None = None,
    execute: int | None = None,
    on_step: OnStep = lambda observation, action: None,
) -> Drive:
    """Run ``policy`` for ``steps`` control periods; it must fit the robot.

    ``instruction`` replaces the robot's own, ``execute`` the number of steps of a chunk that run before the next.
    """
    if steps < 1:
        raise ConfigError(f"steps={steps} must be at least 1")
    contract, trained = robot.contract, policy.contract.policy
    fix = "Choose a policy of this robot and these cameras"
    require_match(policy.contract, contract, who="the policy", whom="the robot", fix=fix)
    buffer = ChunkBuffer(Execution.of(trained, execute=execute))
    past: deque[Observation] = deque(maxlen=(trained.history if trained else 1) - 1)
    period, late, inferences, longest = 1 / contract.control_hz, 0, 0, 0.0
    clipped = states = 0
    # A first inference allocates and compiles, which is no part of any period.
    here = check_observation(robot.observe(), contract, who="the robot")
    policy.act([here])
    policy.reset(0)
    gate = Gate(contract, robot.motion, where=here.state)
    deadline = looked = time.monotonic()
    for _ in range(steps):
        shown = robot.observe()
        seen = check_observation(shown, contract, who="the robot")
        states += seen is not shown
        if instruction is not None:
            seen = replace(seen, instruction=instruction)
        if buffer.wants_chunk:
            looked = time.monotonic()
            (chunk,) = policy.act([replace(seen, history=tuple(past))])
            longest, inferences = max(longest, time.monotonic() - looked), inferences + 1
            buffer.add(check_chunk(chunk, contract, who="the policy's answer"))
        past.append(seen)
        clipped += buffer.clipped
        passed = gate.check(buffer.pop(), state=seen.state, age_s=time.monotonic() - looked).command
        on_step(seen, passed)
        robot.command(passed)
        now = time.monotonic()
        late += now > deadline + period / 2
        missed = max(0, int((now - deadline) / period))  # ticks that went by are skipped: nothing is caught up
        deadline += (missed + 1) * period
        time.sleep(max(0.0, deadline - now))
    return Drive(
        steps=steps,
        inferences=inferences,
        late=late,
        clipped=clipped,
        states_clipped=states,
        gated=dict(gate.gated),
        longest_inference_s=longest,
    )
