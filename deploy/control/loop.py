"""The control loop: a policy drives a robot at the robot's rate, on absolute deadlines, and nothing holds it up.

Each control period::

    hear the operator ─▶ look ─▶ take an answer ─▶ ask, if a chunk is due ─▶ the command of this step
                                                                                    │
         robot ◀── gate ◀── on the way there, at the servo rate ◀───────────────────┘

A policy is asked from a thread (`asking.py`). Waiting for it, the robot holds still, and what comes is run from its
first step; ahead of it (``ahead``), the commands of older chunks run meanwhile, and of what comes the steps that were
consumed are dropped. A policy that was trained for it is told which commands will run until its answer is there.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from vla.core.chunks import ChunkBuffer, Execution
from vla.core.contract import require_match
from vla.core.delay import Delay
from vla.core.errors import ConfigError, ContractError, RobotError, ServeError
from vla.core.fit import check_chunk, check_observation
from vla.core.types import Observation, Policy
from vla.deploy.control.asking import Answer, Asking, Question
from vla.deploy.control.cadence import Cadence
from vla.deploy.control.drive import Drive, Pace, Step, Tally, note_stale_steps
from vla.deploy.control.operator import Operator, Order
from vla.deploy.control.travel import Travel
from vla.deploy.engines.engine import Engine
from vla.deploy.robots.gate import Gate, Verdict
from vla.deploy.robots.robot import Robot, Scenes

_AGAIN_S = 0.2
"""After which a policy that failed is asked again."""
_SPARE = 0.1
"""Share of a servo period that is kept for sending what is there, when an answer is waited for."""
_START_S = 600.0
"""At most, for the first answer of a policy."""
_HALT_S = 5.0
"""At most, for coming to rest at the end."""

_log = logging.getLogger(__name__)


class ControlLoop:
    """One session of a policy on a robot, over one episode or several; what it asks of the machine is `real_time`'s."""

    def __init__(
        self,
        policy: Policy | Engine,
        robot: Robot,
        *,
        instruction: str | None = None,
        pace: Pace | None = None,
        operator: Operator | None = None,
        on_step: Callable[[Step], None] = lambda step: None,
    ) -> None:
        """The policy must fit the robot; ``instruction`` replaces the robot's own."""
        self._robot, self._contract, self._spec = robot, robot.contract, policy.contract.policy
        fix = "Choose a policy of this robot and these cameras"
        require_match(policy.contract, self._contract, who="the policy", whom="the robot", fix=fix)
        self._pace, self._operator, self._on_step = pace or Pace(), operator or Operator(), on_step
        self.instruction = instruction
        self._execution = self._pace.execution or Execution.of(self._spec)
        note_stale_steps(self._execution, self._spec, self._contract.control_hz, robot.motion.stale_s)
        self._ticks = robot.motion.ticks(self._contract.control_hz)
        self._cadence = Cadence(float(self._contract.control_hz * self._ticks))
        self._delay = Delay(1 / self._contract.control_hz)
        # A first inference allocates and compiles, which is no part of any period, nor of any delay.
        here = check_observation(robot.observe(), self._contract, who="the robot")
        first = here if instruction is None else replace(here, instruction=instruction)
        self._asking = Asking(policy, patience_s=robot.motion.hold_s / 2)
        self._asking.ask(Question(observation=first, step=0, looked_s=time.monotonic()), reset=True)
        warm = self._asking.poll(_START_S)
        late = RobotError(f"the policy did not answer within {_START_S:g} s")
        if (error := late if warm is None else warm.error) is not None:
            self._asking.close()
            raise error
        self.gate = Gate(self._contract, robot.motion, where=self._measured())  # where it stands by now
        self._home = self.gate.sent
        self._paused = False
        self._carried = 0
        self._travel: Travel | None = None
        self._begin()

    def run(self, steps: int) -> Drive:
        """At most ``steps`` control periods, or until the scene or the session ends; the robot is at rest then."""
        if steps < 1:
            raise ConfigError(f"steps={steps} must be at least 1")
        self._tally, self._ended = Tally(), "time"
        self.gate.gated.clear()
        self._begin()
        self._cadence.begin()
        try:
            while steps > 0:
                mode = self._step()
                # Who pauses a robot that stands somewhere has all the time in the world.
                steps -= not (mode in ("pause", "stop") and self._operator.listeners and not self._scenes)
                if self._ended == "time" and self._scenes and self._scenes.finished:
                    self._ended = "success" if self._scenes.success else "failure"
                if self._ended != "time":
                    break
        finally:
            self._halt()
        return self._tally.drive(self._cadence.rhythm(), self.gate.gated, self._ended)

    def begin_anew(self) -> None:
        """The robot was moved by others, as where a scene is laid out: take it as it stands; a stop stays one."""
        before = self.gate
        self.gate = Gate(self._contract, self._robot.motion, where=self._measured(), before=before.sent)
        if before.stopped:
            self.gate.stop()
        self._home, self._travel = self.gate.sent, None

    @property
    def _scenes(self) -> Scenes | None:
        return self._robot if isinstance(self._robot, Scenes) else None

    def _measured(self) -> Float32[np.ndarray, " s"]:
        state = self._robot.measure()
        if not np.isfinite(state).all():
            raise RobotError("the robot measures NaN or infinity; nothing is sent before it knows where it stands")
        return state

    def close(self) -> None:
        """Let go of the policy."""
        self._asking.close()

    def _begin(self) -> None:
        """A new episode: what was decided is not valid any more."""
        self._fresh_s = time.monotonic()
        self._buffer = ChunkBuffer(self._execution)
        self._past: deque[Observation] = deque(maxlen=(self._spec.history if self._spec else 1) - 1)
        self._new, self._guarded = True, False
        self._target = self.gate.sent
        self._looked_s: dict[int, float] = {}
        self._consumed = 0
        self._episode = getattr(self, "_episode", 0) + 1
        self._before_s: float | None = None
        self._again_s = 0.0

    def _step(self) -> str:
        for order in self._operator.heard():
            self._obey(order)
        shown = self._robot.observe()
        looked_s = time.monotonic()
        seen = check_observation(shown, self._contract, who="the robot")
        self._tally.counts["states_clipped"] += seen is not shown
        seen = seen if self.instruction is None else replace(seen, instruction=self.instruction)
        self._take(self._asking.poll())
        listens = self._listens and bool(seen.instruction)
        if self._buffer.wants_chunk and not self._asking.busy and listens and looked_s >= self._again_s:
            self._ask(seen, looked_s)
        self._past.append(seen)
        asked, age_s, mode = self._decide(told=bool(seen.instruction))
        verdict = self._move(asked, seen, age_s)
        self._tally.counts["steps"] += 1
        self._on_step(
            Step(
                seen=seen,
                asked=asked,
                verdict=verdict,
                looked_ns=round(looked_s * 1e9),
                sent_ns=self._sent_ns,
                mode=mode,
                late_s=self._cadence.late_s,
                inference_s=self._tally.inference_s.last,
                unsure=self._tally.unsure.last,
            )
        )
        return mode

    @property
    def _listens(self) -> bool:
        """Whether the policy has a say."""
        return not (self._paused or self.gate.stopped or self._travel)

    def _ask(self, seen: Observation, looked_s: float) -> None:
        ahead = self._pace.ahead and not self._buffer.empty
        committed = None
        if ahead:
            self._buffer.latency = self._delay.steps
            if self._pace.committed and self._spec and self._spec.committed:
                committed = self._buffer.ahead(min(self._delay.steps, self._spec.committed))
        observation = replace(seen, history=tuple(self._past), committed=committed)
        question = Question(observation=observation, step=self._buffer.step, looked_s=looked_s, episode=self._episode)
        self._consumed = 0
        self._asking.ask(question, reset=self._new)
        self._new = False
        if not ahead:  # the answer is waited for as long as nothing is due
            self._take(self._asking.poll(max(1e-4, self._cadence.left_s - _SPARE * self._cadence.period_s)))

    def _take(self, answer: Answer | None) -> None:
        if answer is None or answer.question.episode != self._episode:
            return
        question, tally = answer.question, self._tally
        if (answer.chunk is None and answer.error is None) or isinstance(answer.error, ServeError):
            tally.counts["failures"] += 1
            _log.warning("the policy did not answer (%s); asking again", answer.error or "no chunk")
            self._new, self._again_s = True, time.monotonic() + _AGAIN_S
            return
        if answer.error is not None:
            raise answer.error
        chunk = replace(answer.chunk, time_ns=question.observation.time_ns)  # type: ignore[type-var]  # there is one
        chunk = check_chunk(chunk, self._contract, who="the policy's answer")
        committed = question.observation.committed
        start = self._buffer.step - self._consumed
        self._disagree(chunk.actions[self._consumed :])
        try:
            self._buffer.add(chunk, asked=start, committed=0 if committed is None else len(committed))
        except ContractError:
            tally.counts["wasted"] += 1
            return
        tally.counts["inferences"] += 1
        tally.inference_s.append(answer.took_s)
        tally.delay_s.append(delay_s := answer.answered_s - question.looked_s)
        self._delay.measured(delay_s)
        self._looked_s[chunk.time_ns] = question.looked_s
        if len(self._looked_s) > 64:
            del self._looked_s[min(self._looked_s)]

    def _disagree(self, new: Float32[np.ndarray, "k d"]) -> None:
        """Note how far the new chunk is from the commands that it replaces."""
        old = self._buffer.ahead(len(new))
        if old is None:
            return
        ranges = np.array([d.high - d.low for d in self._contract.action])
        unsure = float((np.abs(old - new[: len(old)]).mean(axis=0) / ranges).max())
        self._tally.unsure.append(unsure)
        if unsure > self._pace.unsure:
            _log.warning("unsure: chunks disagree by %.2f of an action's range; pausing", unsure)
            self._operator.give(Order.PAUSE)

    def _decide(self, *, told: bool) -> tuple[Float32[np.ndarray, " d"] | None, float, str]:
        """The target of this period, how old what it rests on is, and whose: nobody's before it is told what to do."""
        now = time.monotonic()
        if self.gate.stopped or self._operator.stopping.is_set():
            return None, 0.0, "stop"
        if self._travel is not None:
            self._fresh_s = now
            target = self._travel.next()
            if self._travel.there:
                self._paused, self._travel = self._travel.then_pause, None
                self._begin()
            return target, 0.0, "travel"
        if self._paused or not told:
            self._fresh_s = now
            return None, 0.0, "pause"
        if self._buffer.empty:
            self._tally.counts["starved"] += 1
            if self._asking.reviving:  # what takes its own time, and is bounded
                self._fresh_s = now
            if now - self._fresh_s > self._robot.motion.hold_s:
                raise RobotError(
                    f"no command for {now - self._fresh_s:.1f} s: the robot was held where it is; see why the policy "
                    "does not answer"
                )
            return (self._target if self._guarded else None), self._age(now), "hold"
        self._fresh_s = now
        looked_s = self._looked_s[self._buffer.time_ns]
        if looked_s != self._before_s and self._before_s is not None:
            self._tally.reaction_s.append(now - self._before_s)
        self._before_s = looked_s
        self._tally.counts["clipped"] += self._buffer.clipped
        target = self._buffer.pop()
        self._consumed += 1
        return (target, now - looked_s, "policy") if self._guard(target) else (None, 0.0, "pause")

    def _age(self, now: float) -> float:
        return now - self._before_s if self._before_s is not None else 0.0

    def _guard(self, first: Float32[np.ndarray, " d"]) -> bool:
        """Whether the first target of an episode may be sent: one that is far away is gone to first, or refused."""
        if self._guarded:
            return True
        self._guarded = True
        away = np.abs(first - self.gate.sent)
        far = np.flatnonzero(away > self._robot.motion.most_jump)
        if not len(far):
            return True
        name, by = self._contract.action[far[0]].name, away[far[0]]
        if self._pace.refuse:
            raise RobotError(f"the first target of {name} is {by:.3g} from where it stands; move it there, or approach")
        _log.warning("the first target of %s is %.3g from where it stands; going there slowly", name, by)
        self._travel = Travel(self.gate.sent, first, self._robot.motion, self._contract, then_pause=False)
        return False

    def _move(self, target: Float32[np.ndarray, " d"] | None, seen: Observation, age_s: float) -> Verdict:
        """Send what passes the gate on the straight way from the last target to this one, at the servo rate."""
        start, state, tick = self._target, seen.state, 1 + self._carried
        while True:
            if self._operator.stopping.is_set():
                self.gate.stop()
            if target is None:
                verdict = self.gate.rest()
            else:
                share = tick / self._ticks
                wish = target if share == 1 else (start + (target - start) * share).astype(np.float32)
                verdict = self.gate.check(wish, state=state, age_s=age_s)
            self._robot.command(verdict.command)
            self._sent_ns = time.monotonic_ns()
            self._tally.counts["late"] += self._cadence.left_s < self._cadence.period_s / 2
            tick += 1 + self._cadence.wait()  # of the ticks that went by, none is caught up
            if tick > self._ticks:
                break
            state = self._robot.measure()
        self._carried = (tick - self._ticks - 1) % self._ticks  # a period is as long as it is
        self._target = self.gate.sent if target is None else target
        return verdict

    def _obey(self, order: Order | str) -> None:
        stopped = self.gate.stopped or self._operator.stopping.is_set()
        if isinstance(order, str):
            self.instruction, self._travel = order, None
            self._paused &= stopped  # whoever says what to do means now, but a stop is taken back by GO alone
            self._begin()
        elif order is Order.GO and (stopped or self._paused or self._travel):
            self._operator.stopping.clear()
            self.gate.release()
            self._paused, self._travel = False, None
            self._begin()
        elif order is Order.STOP:
            self._operator.stopping.set()
            self.gate.stop()
            self._travel = None
        elif order is Order.HOME and not stopped:
            motion = self._robot.motion
            self._travel = Travel(self.gate.sent, self._home, motion, self._contract, then_pause=True)
        elif order in (Order.QUIT, Order.NEXT):
            self._ended = order.value
        elif order is Order.PAUSE:
            self._paused, self._travel = True, None

    def _halt(self) -> None:
        """Come to rest, however the drive ended; where the scene is over, nothing moves any more."""
        if self._scenes and self._scenes.finished:
            return
        deadline = time.monotonic() + _HALT_S
        with suppress(RobotError):  # the one that ended it is told
            while self.gate.moving and time.monotonic() < deadline:
                self._robot.command(self.gate.rest().command)
                self._cadence.wait()
