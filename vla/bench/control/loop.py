"""How well the control loop keeps its rate beside a loaded core, with every command through the gate."""

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla.bench.measure import Note, Row, in_fresh_process
from vla.bench.settings import LoopConfig
from vla.core.contract import Contract, Dimension
from vla.core.types import ActionChunk, Observation
from vla.deploy.robots.motion import Motion

_JOINTS = tuple(Dimension(name=f"joint{i}", unit="rad", low=-2.9, high=2.9) for i in range(7))
_MOTION = Motion(speed=2.0, acceleration=20.0, jerk=1000.0)
_HORIZON = 50
_PRIORITY = 50


def bench_loop(config: LoopConfig, note: Note) -> list[Row]:
    """At each rate, as an ordinary thread and, where it is permitted, as a real-time one."""
    rows: list[Row] = []
    for hz in config.rates:
        for priority in (0, _PRIORITY):
            kind = f"SCHED_FIFO {priority}" if priority else "ordinary thread"
            note(f"{hz:g} Hz for {config.seconds:g} s, {kind}, {config.load} busy processes")
            found = in_fresh_process(measure_loop, hz, config.seconds, priority, config.load)
            rows += _rows(f"{hz:g} Hz, {kind}", found, real_time=bool(priority) and "SCHED_FIFO" in found.granted)
    return rows


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What one run of the loop was like."""

    granted: str
    ticks: int
    missed: int
    uncounted: int
    """Periods between the first deadline and the last that are neither a tick nor missed."""
    ungated: int
    """Commands that were faster or harder accelerated than the robot's motion allows, at their rate."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    drift_ms: float
    gate_ms: float
    """What the work of a tick takes, mean."""


def _rows(title: str, found: Kept, *, real_time: bool) -> list[Row]:
    return [
        Row(name=f"{title}: drift", value=abs(found.drift_ms), unit="ms", bar=1.0 if real_time else None),
        Row(name=f"{title}: lateness p50", value=found.p50_ms, unit="ms"),
        Row(name=f"{title}: lateness p99", value=found.p99_ms, unit="ms", bar=1.0 if real_time else None),
        Row(name=f"{title}: lateness max", value=found.max_ms, unit="ms"),
        Row(name=f"{title}: work of a tick", value=found.gate_ms, unit="ms"),
        Row(name=f"{title}: deadlines missed", value=float(found.missed), unit=f"of {found.ticks + found.missed}"),
        Row(name=f"{title}: misses not counted", value=float(found.uncounted), unit="", bar=0.0),
        Row(name=f"{title}: commands not gated", value=float(found.ungated), unit="", bar=0.0),
    ]


class Registers:
    """Seven joints that go where they are told at once."""

    def __init__(self, hz: float, most: int) -> None:
        self.contract = Contract(robot="bench", cameras=(), state=_JOINTS, action=_JOINTS, control_hz=hz)
        self.motion, self.instruction = _MOTION, ""
        self.sent = np.zeros((most, len(_JOINTS)), np.float32)
        self.count, self._looks = 0, 0
        self._state = np.zeros(len(_JOINTS), np.float32)

    def observe(self) -> Observation:
        """Where they are."""
        self._looks += 1
        return Observation(images={}, state=self._state, instruction="", time_ns=self._looks)

    def measure(self) -> np.ndarray:
        """The same."""
        return self._state

    def command(self, action: np.ndarray) -> None:
        """At once."""
        self.sent[self.count] = action
        self.count += 1
        self._state = action

    def close(self) -> None:
        """Nothing to let go of."""


class Waves:
    """Chunks of slow waves, and now and then one that no arm should follow."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._rng = np.random.default_rng(0)

    def reset(self, slot: int) -> None:
        """Nothing is remembered."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """One chunk each."""
        return [None if seen is None else self._chunk(seen) for seen in observations]

    def _chunk(self, seen: Observation) -> ActionChunk:
        time_s = (seen.time_ns + np.arange(_HORIZON))[:, None] / self.contract.control_hz
        actions = np.sin(time_s * np.linspace(0.2, 0.8, len(_JOINTS)))
        if self._rng.random() < 0.1:
            actions = actions + self._rng.uniform(-3, 3, len(_JOINTS))
        return ActionChunk(actions=np.clip(actions, -2.9, 2.9).astype(np.float32), time_ns=seen.time_ns)


def measure_loop(hz: float, seconds: float, priority: int, load: int) -> Kept:
    """Drive for so long, beside ``load`` processes that never rest."""
    from vla.core.chunks import Execution
    from vla.deploy.control.drive import Pace
    from vla.deploy.control.loop import ControlLoop
    from vla.deploy.control.realtime import real_time

    steps = round(seconds * hz)
    robot = Registers(hz, steps + round(6 * hz))  # and those that bring it to rest
    pace = Pace(execution=Execution(execute=_HORIZON // 2), ahead=True)
    loop = ControlLoop(Waves(robot.contract), robot, pace=pace)
    busy = [multiprocessing.get_context("spawn").Process(target=_burn, args=(os.getpid(),)) for _ in range(load)]
    for process in busy:
        process.start()
    try:
        with real_time(priority=priority) as granted:
            used = time.thread_time()
            drive = loop.run(steps)
            used = time.thread_time() - used
    finally:
        for process in busy:
            process.kill()
            process.join()
        loop.close()
    rhythm = drive.rhythm
    drift_ms = rhythm.drift_ms - rhythm.missed * 1e3 / hz  # what neither ticks nor misses account for
    sent = np.concatenate([np.zeros((2, len(_JOINTS))), robot.sent[: robot.count].astype(np.float64)])
    speed = np.diff(sent, axis=0) * hz
    hard = np.abs(np.diff(speed, axis=0)) * hz > np.asarray(_MOTION.acceleration)
    return Kept(
        granted=granted,
        ticks=rhythm.ticks,
        missed=rhythm.missed,
        uncounted=int(abs(drift_ms) * hz / 1e3),
        ungated=int(((np.abs(speed[1:]) > np.asarray(_MOTION.speed)) | hard).any(axis=1).sum()),
        p50_ms=rhythm.lateness_p50_ms,
        p99_ms=rhythm.lateness_p99_ms,
        max_ms=rhythm.lateness_max_ms,
        drift_ms=drift_ms,
        gate_ms=1e3 * used / max(1, rhythm.ticks),
    )


def _burn(parent: int) -> None:
    value = 0
    while os.getppid() == parent:
        for i in range(1_000_000):
            value += i
