"""A robot that a server drives, and that believes no loop: it counts what it is sent by a clock of its own."""

import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from jaxtyping import Float32, Float64

from vla.bench.serving.policies import swinging
from vla.core.contract import Contract
from vla.core.errors import VlaError
from vla.core.machine.processes import end_with_parent
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.control.drive import Pace
from vla.deploy.control.loop import ControlLoop
from vla.deploy.control.operator import Operator, Order
from vla.deploy.control.realtime import real_time
from vla.deploy.remote import RemotePolicy
from vla.deploy.robots.motion import Motion

MOTION = Motion(speed=2.0, acceleration=20.0, jerk=1000.0)
_PICTURES = 8
_ROUNDING_S = 1e-6


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What one drive was like: what the loop says of it, and what the robot saw."""

    ticks: int
    missed: int
    uncounted: int
    """Deadlines that went by and are neither a tick nor missed, or that are either and never were."""
    unsent: int
    """Ticks without a command, or commands without a tick."""
    hurried: int
    """Commands that made up for one that was missed: the second before came less than a period ago."""
    ungated: int
    """Commands that were faster, harder accelerated or more jerked than the robot's motion allows."""
    starved: int
    lateness_ms: tuple[float, float, float]
    """Median, 99th percentile and most."""
    latency_s: Float64[np.ndarray, " n"]
    """From a question to its answer, of each that was answered."""
    errors: int


class Witness:
    """Seven joints that are at once where they are told to be, and two cameras."""

    def __init__(self, hz: float) -> None:
        self.contract, self.motion, self.instruction = swinging(hz), MOTION, "swing"
        self.commands = self.hurried = self.ungated = 0
        self.began_s = math.nan
        """When it was first looked at, since `begin`."""
        self.sent_s = self._before_s = -math.inf
        self._state = np.zeros(len(self.contract.action), np.float32)
        self._way = np.zeros((3, len(self._state)))  # place, speed, acceleration
        rng = np.random.default_rng(0)
        self._pictures = [
            {camera.name: rng.integers(0, 256, camera.shape, np.uint8) for camera in self.contract.cameras}
            for _ in range(_PICTURES)
        ]
        self._looks = 0

    def begin(self) -> None:
        """The time counts from the next look on."""
        self.began_s = math.nan

    def observe(self) -> Observation:
        """New pictures each time, as a camera's are."""
        if math.isnan(self.began_s):
            self.began_s = time.monotonic()
        self._looks += 1
        pictures = {name: image.copy() for name, image in self._pictures[self._looks % _PICTURES].items()}
        return Observation(
            images=pictures, state=self._state, instruction=self.instruction, time_ns=time.monotonic_ns()
        )

    def measure(self) -> Float32[np.ndarray, " s"]:
        """Where it was told to be."""
        return self._state

    def command(self, action: Float32[np.ndarray, " d"]) -> None:
        """At once there, and counted."""
        now, hz = time.monotonic(), self.contract.control_hz
        # A command leaves after its deadline and before the next one, or that one is missed: of three there is always
        # a whole period between the first and the last.
        self.hurried += now - self._before_s < 1 / hz - _ROUNDING_S
        self._before_s, self.sent_s = self.sent_s, now
        place, speed, acceleration = self._way
        faster = (action.astype(np.float64) - place) * hz
        harder = (faster - speed) * hz
        jerk = (harder - acceleration) * hz
        most = MOTION.speed, MOTION.acceleration, MOTION.jerk
        self.ungated += any((np.abs(a) > b).any() for a, b in zip((faster, harder, jerk), most, strict=True))
        self._way = np.stack([action.astype(np.float64), faster, harder])
        self._state = action
        self.commands += 1

    def close(self) -> None:
        """Nothing to let go of."""


class Timed:
    """Implements `vla.core.types.Policy` by another one, and keeps what its answers take."""

    def __init__(self, policy: Policy, most: int) -> None:
        self._policy = policy
        self._took_s = np.full(most, np.nan)  # filled now: what is taken later would look like a leak
        self.answers = self.errors = 0

    @property
    def contract(self) -> Contract:
        """Of the other."""
        return self._policy.contract

    @property
    def took_s(self) -> Float64[np.ndarray, " n"]:
        """What each answer took, as far as there is room."""
        return self._took_s[: self.answers].copy()

    def reset(self, slot: int) -> None:
        """Of the other."""
        self._policy.reset(slot)

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """Of the other."""
        began = time.monotonic()
        try:
            chunks = self._policy.act(observations)
        except VlaError:
            self.errors += 1
            raise
        if self.answers < len(self._took_s):
            self._took_s[self.answers] = time.monotonic() - began
        self.answers += 1
        return chunks


def drive(
    policy: Policy, *, hz: float, until: Callable[[], object], most_s: float, robot: Witness | None = None
) -> Counted:
    """Drive a robot ahead of the policy; ``until`` is waited for on a thread, and for ``most_s`` there is room."""
    robot, operator = robot or Witness(hz), Operator()
    timed = Timed(policy, 1000 + int(most_s * hz))

    def wait() -> None:
        until()
        operator.give(Order.QUIT)

    with closing(ControlLoop(timed, robot, pace=Pace(ahead=True), operator=operator)) as loop, real_time(priority=0):
        threading.Thread(target=wait, daemon=True).start()
        robot.begin()
        before_s = time.monotonic()
        found = loop.run(sys.maxsize)
        after_s = time.monotonic()
    rhythm = found.rhythm
    counted = rhythm.ticks + rhythm.missed
    # The loop has begun between the first two of these, and woken up last after the robot's last command.
    least, most = int((robot.sent_s - robot.began_s) * hz) + 1, int((after_s - before_s) * hz)
    return Counted(
        ticks=rhythm.ticks,
        missed=rhythm.missed,
        uncounted=max(0, least - counted, counted - most),
        unsent=abs(rhythm.ticks - robot.commands),
        hurried=robot.hurried,
        ungated=robot.ungated,
        starved=found.starved,
        lateness_ms=(rhythm.lateness_p50_ms, rhythm.lateness_p99_ms, rhythm.lateness_max_ms),
        latency_s=timed.took_s,
        errors=timed.errors,
    )


def drive_remotely(pipe: Connection, address: str, hz: float, most_s: float) -> None:
    """In a process of its own: says when it drives, goes on until it hears a word, and answers with `Counted`."""
    end_with_parent()

    def until() -> None:
        pipe.send("driving")
        pipe.recv()

    try:
        with closing(RemotePolicy(address)) as policy:
            pipe.send(drive(policy, hz=hz, until=until, most_s=most_s))
    except VlaError as error:
        pipe.send(error)
