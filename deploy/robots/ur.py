r"""Arms of Universal Robots, through ur_rtde: joints over RTDE, commands by ``servoj`` in the program that it loads.

**Not tried on hardware**: tested with ur_rtde itself against a peer of ours that speaks RTDE and the dashboard, and
does what the program would do; no controller has interpreted that program. Without a gripper: what is at the tool is
driven by its own means.

The robot is on, its brakes released, in remote control, with RTDE, the dashboard and the primary client permitted. The
program stops the arm by itself when no sign comes for ``watchdog_s``. A stop is final, and so is a lost connection:
what was to be sent is not sent to an arm that somebody has just set free.

    vla run --policy … --robot ur --set host=192.168.0.10 control_hz=20 \
      'motion={speed: 0.5, acceleration: 2.0}' 'cameras={wrist: {source: "0"}}'
"""

import math
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float32

from vla.core.config import from_dict
from vla.core.errors import ConfigError, RobotError
from vla.core.machine.packages import require_package
from vla.core.machine.spawned import refuse_unguarded, spawn
from vla.core.types import Observation
from vla.deploy.cameras.camera import Camera
from vla.deploy.cameras.sources import CameraConfig, described, open_camera
from vla.deploy.robots.described import contract_of, dimension, motion_of
from vla.deploy.robots.ur_process import PLAYING, RUNNING, SAFE, Look, Servoing, serve, target, unpacked

JOINTS = ("shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint", "wrist_1_joint", "wrist_2_joint", "wrist_3_joint")
"""As the manufacturer's descriptions call them, in the order of the controller."""
UR5E = {"speed": math.pi, "acceleration": 5.0, "deviation": 1.0}
"""What a UR5e may: its fastest in rad/s, in rad/s² what its manufacturer plans with, and the way in rad by which it may
trail its target at that speed."""
PORTS = {29999: "the dashboard", 30003: "the realtime client", 30004: "RTDE"}
"""That ur_rtde connects to."""
_SERVO_HZ = 125.0
"""At most, where nothing is said: what each controller can."""
_LOOKAHEAD_S, _GAIN = (0.03, 0.2), (100.0, 2000.0)
"""What ``servoj`` takes."""
_CLOSE_S, _KILL_S, _TOLD = 3.0, 1.0, 400
_SAFETY = {
    3: ("a protective stop", "see what it ran into, unlock it on the pendant"),
    4: ("recovery mode", "move it back inside its safety limits by hand"),
    5: ("a safeguard stop", "close the guard and reset the safeguard"),
    6: ("an emergency stop of the system", "release the button, and unlock it on the pendant"),
    7: ("an emergency stop", "release the button, and unlock it on the pendant"),
    8: ("a violation of its safety limits", "see the pendant's log, and restart safety there"),
    9: ("a fault", "see the pendant's log, and restart safety there"),
    12: ("a safeguard stop in automatic mode", "close the guard and reset the safeguard"),
    13: ("a stop by the three-position switch", "hold the switch in its middle, or choose automatic mode"),
}
_MODES = {-1: "without a controller", 0: "disconnected", 1: "to be confirmed on the pendant", 2: "booting",
          3: "powered off", 4: "powered, its brakes closed", 5: "idle, its brakes closed", 6: "moved by hand",
          8: "updating its firmware"}  # fmt: skip
_PROGRAM = {0: "is stopping", 1: "is stopped", 3: "is pausing", 4: "is paused", 5: "is resuming"}


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """One joint."""

    low: float = -2 * math.pi
    high: float = 2 * math.pi
    ur: str | None = None
    """Which of `JOINTS`, where it is called otherwise here."""


class UrRobot:
    """A `vla.deploy.robots.robot.Robot` with a controller of Universal Robots, CB3 from 3.4 on or e-Series."""

    def __init__(
        self,
        host: str,
        *,
        control_hz: int | float,
        joints: Mapping[str, Mapping[str, Any]] | None = None,
        motion: Mapping[str, Any] | None = None,
        cameras: Mapping[str, Any] | None = None,
        lookahead_s: float = 0.1,
        gain: float = 300.0,
        stale_s: float = 0.5,
        watchdog_s: float = 0.2,
        connect_s: float = 20.0,
        name: str = "ur",
        instruction: str = "",
    ) -> None:
        """Connect, load the program, and wait at most ``connect_s`` until it runs; nothing moves by that.

        ``joints`` are the six, in the order of state and action; by default all turns that the controller allows.
        ``motion`` replaces parts of `UR5E`; its ``servo_hz`` is by default the multiple of ``control_hz`` next to
        125. ``lookahead_s`` (0.03 to 0.2) smooths, and ``gain`` (100 to 2000) stiffens how targets are followed. A
        state that is older than ``stale_s`` ends the drive.
        """
        refuse_unguarded()
        require_package("rtde_control", "the UR robot")
        found = _joints(joints or {joint: {} for joint in JOINTS})
        places = [JOINTS.index(joint.ur or n) for n, joint in found.items()]
        self._places, self._theirs = places, [places.index(place) for place in range(len(JOINTS))]
        _check("lookahead_s", lookahead_s, *_LOOKAHEAD_S)
        _check("gain", gain, *_GAIN)
        _check("watchdog_s", watchdog_s, 0.02, 10.0)
        servo_hz = control_hz * max(1, _SERVO_HZ // control_hz)
        self.motion = motion_of(list(found), {**UR5E, "servo_hz": servo_hz, **(motion or {})})
        settings = {n: from_dict(CameraConfig, dict(c), where=f"cameras.{n}") for n, c in (cameras or {}).items()}
        dimensions = [dimension(n, unit="rad", low=joint.low, high=joint.high) for n, joint in found.items()]
        views = [described(n, config) for n, config in settings.items()]
        self.contract = contract_of(name, dimensions, views, gripper=None, control_hz=control_hz)
        self.instruction = instruction
        self._where, self._stale_s, self._ended = f"the UR at {host}", stale_s, ""
        period_s = 1 / (control_hz * self.motion.ticks(float(control_hz)))
        how = Servoing(period_s=period_s, lookahead_s=lookahead_s, gain=gain, watchdog_s=watchdog_s)
        self._fix = f"; its program stops it {watchdog_s:g} s after the last sign; see its cable and log, connect anew"
        _reach(host, connect_s)
        self._cameras: dict[str, Camera] = {}
        self._log = os.memfd_create("vla-ur")
        self._process, self._pipe = spawn(serve, DupFd(self._log), host, how)
        try:
            self._require(self._heard(connect_s))
            for camera, config in settings.items():
                self._cameras[camera] = open_camera(camera, config)
        except BaseException:
            self.close()
            raise

    def observe(self) -> Observation:
        """The newest frame of each camera, and the state now."""
        images = {name: camera.latest().image for name, camera in self._cameras.items()}
        return Observation(
            images=images, state=self.measure(), instruction=self.instruction, time_ns=time.monotonic_ns()
        )

    def measure(self) -> Float32[np.ndarray, " s"]:
        """The newest of each joint, none older than the settings allow."""
        look = self._ask(b"")
        if look.age_s > self._stale_s:
            raise RobotError(
                f"{self._where} has told nothing for {look.age_s:.2f} s, though it is connected; see its cable, and "
                "the load of this machine"
            )
        return np.array([look.q_rad[place] for place in self._places], np.float32)

    def command(self, action: Float32[np.ndarray, " d"]) -> None:
        """Set the targets, in the order of the controller."""
        values = action.astype(float).tolist()
        self._ask(target(tuple(values[place] for place in self._theirs)))

    def close(self) -> None:
        """Stop, end the program, and let go: an arm that holds its last target would not know whose it is."""
        if self._log < 0:
            return
        self._pipe.close()
        self._process.join(_KILL_S if self._ended else _CLOSE_S)
        self._process.kill()
        self._process.join(_KILL_S)
        os.close(self._log)
        self._log, self._ended = -1, self._ended or "it is closed"
        for camera in self._cameras.values():
            camera.close()

    def _ask(self, message: bytes) -> Look:
        if self._ended:
            raise RobotError(f"{self._where}: {self._ended}")
        with suppress(OSError):  # why is told by what it said last
            self._pipe.send_bytes(message)
        return self._require(self._heard(self._stale_s))

    def _heard(self, within_s: float) -> Look:
        try:
            if not self._pipe.poll(within_s):
                self._process.kill()
                said = self._said()  # it speaks of nothing but what breaks, see `ur_process`
                broke = "the connection broke: " if said else ""
                self._end(f"{broke}ur_rtde did not answer within {within_s:g} s{said}{self._fix}")
            return unpacked(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self._process.join(_KILL_S)
            code = self._process.exitcode or 0
            died = f"died (signal {-code})" if code < 0 else f"ended (exit code {code})"
            self._end(f"ur_rtde's process {died}: the connection broke{self._said()}{self._fix}")

    def _require(self, look: Look) -> Look:
        """The look, or a `RobotError` that says why the arm does not do what it is told."""
        if look.problem:
            self._end(f"{look.problem}{self._said()}{self._fix}")
        if look.safety_mode not in SAFE:
            stop, fix = _SAFETY.get(look.safety_mode, (f"safety mode {look.safety_mode}", "see the pendant"))
            self._end(f"{stop}; {fix}, and begin again")
        if look.robot_mode != RUNNING:
            mode = _MODES.get(look.robot_mode, f"in mode {look.robot_mode}")
            self._end(f"it is {mode}; on the pendant switch it on and release its brakes, and begin again")
        if look.runtime_state != PLAYING:
            state = _PROGRAM.get(look.runtime_state, f"is in state {look.runtime_state}")
            self._end(
                f"its program {state}: somebody stopped it on the pendant, or another program was begun, or no sign "
                f"came in time; see the pendant's log, and begin again{self._said()}"
            )
        return look

    def _end(self, why: str) -> NoReturn:
        self._ended = why
        raise RobotError(f"{self._where}: {why}")

    def _said(self) -> str:
        """What ur_rtde wrote last, to put behind another."""
        size = os.fstat(self._log).st_size
        text = os.pread(self._log, _TOLD, max(0, size - _TOLD)).decode(errors="replace")
        return f" (ur_rtde says: {' '.join(text.split())})" if text.strip() else ""


def _joints(joints: Mapping[str, Mapping[str, Any]]) -> dict[str, JointConfig]:
    found = {n: from_dict(JointConfig, dict(said), where=f"joints.{n}") for n, said in joints.items()}
    if sorted(joint.ur or n for n, joint in found.items()) != sorted(JOINTS):
        raise ConfigError(
            f"joints: {', '.join(found)}: expected each of {', '.join(JOINTS)} once; one of another name says ur: which"
        )
    return found


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # nor NaN
        raise ConfigError(f"{name}={value}: expected {low:g} to {high:g}")


def _reach(host: str, connect_s: float) -> None:
    """Connect to each port once: ur_rtde does not say which of them does not answer, nor wait for a bounded time."""
    for port, what in PORTS.items():
        try:
            socket.create_connection((host, port), timeout=connect_s).close()
        except OSError as error:
            raise RobotError(
                f"the UR at {host}: {what} (port {port}) cannot be reached ({error}); see that the robot is on, its "
                "address, and its settings under security, services"
            ) from None
