"""The process in which ur_rtde runs, and what it tells of the arm.

It has one of its own for three reasons: it holds Python's lock while it connects, for as long as nobody answers; a
connection that breaks may end its process; and it connects again by itself, loads its program anew and sends what was
to be sent. Here a connection that is lost is lost: the process ends before that.
"""

import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

HZ = 125.0
"""At which the controller tells of itself: each 8 ms, which the oldest of them can."""
TELLS = ["timestamp", "actual_q", "robot_mode", "safety_mode", "runtime_state"]
RUNNING, PLAYING, SAFE = 7, 2, (1, 2)
"""Robot mode, state of the program, and safety modes (normal, reduced) in which it may be commanded."""
_FRAME = struct.Struct("<7d3i")
_TARGET = struct.Struct("<6d")
_LOOK_S = 0.004
_AGAIN_S = 0.02
"""After which a stop is looked at again: why a program stands is told a little after that it does."""
_PLAY_S = 2.0
_HEARS_S = 0.25
_REALTIME = -1
"""Leave the scheduling of threads alone."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the controller told last."""

    q_rad: tuple[float, ...]
    """Where its joints are, in its own order."""
    age_s: float
    robot_mode: int
    safety_mode: int
    runtime_state: int
    problem: str = ""
    """Why ur_rtde does not go on, where that is not told by the rest."""

    @property
    def on(self) -> bool:
        """Whether it is powered, with its brakes released, and not stopped for safety."""
        return self.robot_mode == RUNNING and self.safety_mode in SAFE

    @property
    def fine(self) -> bool:
        """Whether it does what it is told."""
        return self.on and self.runtime_state == PLAYING and not self.problem

    def packed(self) -> bytes:
        """As it crosses the pipe."""
        numbers = (*self.q_rad, self.age_s, self.robot_mode, self.safety_mode, self.runtime_state)
        return _FRAME.pack(*numbers) + self.problem.encode()


def unpacked(data: bytes) -> Look:
    """The other way."""
    *q_rad, age_s, robot_mode, safety_mode, runtime_state = _FRAME.unpack_from(data)
    return Look(
        q_rad=tuple(q_rad),
        age_s=age_s,
        robot_mode=robot_mode,
        safety_mode=safety_mode,
        runtime_state=runtime_state,
        problem=data[_FRAME.size :].decode(errors="replace"),
    )


@dataclass(frozen=True, kw_only=True)
class Servoing:
    """How targets are followed: what URScript's ``servoj`` takes, and when the program gives up."""

    period_s: float
    lookahead_s: float
    gain: float
    watchdog_s: float
    """Without a sign from here for so long the program stops, and the arm with it."""


def target(q_rad: tuple[float, ...]) -> bytes:
    """The message that sets a target, in the order of the controller; an empty one only asks."""
    return _TARGET.pack(*q_rad)


def serve(pipe: Connection, said: Any, host: str, servoing: Servoing) -> None:
    """The child: one `Look` when it is ready, one for each message, until the pipe ends; ``said`` is a `DupFd`."""
    log = said.detach()
    os.dup2(log, 1)
    os.dup2(log, 2)
    arm = None
    try:
        arm = _Arm(host, servoing)
        _serve(pipe, arm)
    except (EOFError, OSError):
        pass  # nobody listens any more
    except Exception as error:  # of ur_rtde
        problem = " ".join(str(error).split()) or type(error).__name__
        with suppress(OSError):
            pipe.send_bytes(replace(_NOTHING, problem=problem).packed())
        os._exit(1)
    if arm is not None:
        arm.end()
    os._exit(0)  # what ur_rtde does at the end takes a second, and may end in an abort


def _serve(pipe: Connection, arm: "_Arm") -> None:
    pipe.send_bytes(arm.look().packed())
    while not arm.lost:
        if pipe.poll(_LOOK_S):
            message = pipe.recv_bytes(_TARGET.size)
            if message:
                arm.servo(list(_TARGET.unpack(message)))
            if not arm.lost:
                pipe.send_bytes(arm.look().packed())
        arm.watch()
    pipe.send_bytes(arm.look().packed())  # whether or not it is asked for: before ur_rtde is there again


_NOTHING = Look(q_rad=(0.0,) * 6, age_s=0.0, robot_mode=RUNNING, safety_mode=SAFE[0], runtime_state=PLAYING)


class _Arm:
    """Both of ur_rtde's connections."""

    def __init__(self, host: str, servoing: Servoing) -> None:
        from rtde_control import RTDEControlInterface
        from rtde_receive import RTDEReceiveInterface

        self._servoing = servoing
        self._control: Any = None
        self._signed_s, self._before = 0.0, 0
        self._stamp, self._heard_s = -1.0, time.monotonic()
        self._ended: Look | None = None
        self._receive = RTDEReceiveInterface(host, HZ, TELLS, False, False, _REALTIME)
        if not (now := self._now()).on:
            self._ended = now  # a program would not run
            return
        flags = RTDEControlInterface.FLAG_UPLOAD_SCRIPT | RTDEControlInterface.FLAG_NO_EXT_FT
        self._control = RTDEControlInterface(host, HZ, flags, 50002, _REALTIME)
        if not self._control.setWatchdog(1 / servoing.watchdog_s):
            raise RuntimeError("the program on the controller does not take a watchdog")
        self._sign()
        deadline = time.monotonic() + _PLAY_S  # the two connections do not tell the same at the same time
        while not self._now().fine and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            self._sign()
        self._before = _written()

    @property
    def lost(self) -> bool:
        """Whether it is over for good."""
        return self._ended is not None and bool(self._ended.problem)

    def look(self) -> Look:
        """Where it is now; of an arm that was stopped, what it told then."""
        now = self._now()
        return now if self._ended is None else replace(self._ended, q_rad=now.q_rad, age_s=now.age_s)

    def watch(self) -> None:
        """See whether it goes on, and give the program a sign where no target did."""
        if self._ended is not None:
            return
        if not (now := self._now()).fine:
            time.sleep(_AGAIN_S)
            again = self._now()
            self._ended = now if again.fine else again
        elif not (self._receive.isConnected() and self._control.isConnected()) or _written() > self._before:
            self._ended = replace(now, problem="the connection broke")
        elif time.monotonic() > self._signed_s + self._servoing.watchdog_s / 4:
            self._sign()

    def servo(self, q_rad: list[float]) -> None:
        """Set the target."""
        self.watch()
        if self._ended is not None:
            return
        how = self._servoing
        self._signed_s = time.monotonic()
        if not self._control.servoJ(q_rad, 0.0, 0.0, how.period_s, how.lookahead_s, how.gain):
            time.sleep(_AGAIN_S)
            self.watch()
            if self._ended is None:
                self._ended = replace(self._now(), problem="the program on the controller does not take commands")

    def end(self) -> None:
        """Stop, and end the program; where nothing is told ur_rtde would wait for minutes, and the watchdog does it."""
        self.watch()
        if self._ended is None and self._now().age_s < _HEARS_S:
            self._control.servoStop()
            self._control.stopScript()

    def _sign(self) -> None:
        self._signed_s = time.monotonic()
        self._control.kickWatchdog()

    def _now(self) -> Look:
        receive, now_s = self._receive, time.monotonic()
        stamp = receive.getTimestamp()
        if stamp != self._stamp:
            self._stamp, self._heard_s = stamp, now_s
        return Look(
            q_rad=tuple(receive.getActualQ()),
            age_s=now_s - self._heard_s,
            robot_mode=receive.getRobotMode(),
            safety_mode=receive.getSafetyMode(),
            runtime_state=receive.getRuntimeState(),
        )


def _written() -> int:
    """Bytes that ur_rtde wrote: nothing else tells that it connects again, and it writes nothing while all is well."""
    return os.fstat(2).st_size
