r"""Robots that are written for LeRobot, without LeRobot: any object of the shape of its robots.

Such an object has ``observation_features``, ``action_features``, ``is_connected``, ``connect``, ``get_observation``,
``send_action`` and ``disconnect``. Its numbers are called ``shoulder_pan.pos`` and the like, and are degrees, or shares
of a calibrated range; which, the settings say. Its cameras are read together with its joints, so `LeRobotRobot.measure`
takes as long as a look.

    vla run --policy … --robot lerobot --set make=my_arm:MyArm control_hz=30 \
      'joints={pan: {units: deg, low: -1.9, high: 1.9}, gripper: {units: percent, low: 0.0, high: 1.0}}' \
      'motion={speed: 2.0, acceleration: 20.0}'
"""

import inspect
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.core.config import from_dict
from vla.core.contract import Camera
from vla.core.errors import ConfigError, RobotError
from vla.core.lookup import lookup
from vla.core.sealed import parse_json
from vla.core.types import Observation
from vla.deploy.robots.described import contract_of, dimension, motion_of

_NEEDS = ("observation_features", "action_features", "is_connected", "connect", "get_observation", "send_action",
          "disconnect")  # fmt: skip
_FACTORS = {"rad": ("rad", 1.0), "deg": ("rad", math.pi / 180), "m": ("m", 1.0), "percent": ("1", 0.01)}
"""Units of theirs: ours, and how many of ours one of theirs is."""
_SHARES = {"m100_100": (-100.0, 100.0), "percent": (0.0, 100.0)}
"""Units that are shares of a calibrated range: what its two ends are called."""
_SAME = 1e-4
"""Of a joint's range: what is sent back is not to the last bit what was sent."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """One joint of such a robot."""

    units: str
    """What the robot's numbers are: rad, deg, m, m100_100 (-100 to 100 across its range) or percent (0 to 100)."""
    low: float
    """Limits of the joint, in our unit: rad, m, or 1 for a percent that no ``ends`` are said of."""
    high: float
    ends: tuple[float, float] | None = None
    """What the two ends of the calibrated range are, for m100_100 and percent, in ``unit``."""
    unit: str = "rad"
    """Of the ends."""
    key: str | None = None
    """By default NAME.pos."""


@dataclass(frozen=True, kw_only=True)
class _Line:
    """ours = slope * theirs + start."""

    unit: str
    slope: float
    start: float = 0.0


class LeRobotRobot:
    """A `vla.deploy.robots.robot.Robot` around one; what its driver sends instead of a command is counted and said."""

    def __init__(
        self,
        make: str,
        *,
        joints: Mapping[str, Mapping[str, Any]],
        motion: Mapping[str, Any],
        control_hz: int | float,
        config: str | None = None,
        settings: Mapping[str, Any] | None = None,
        calibration: str | None = None,
        resolution: int = 4096,
        cameras: Sequence[str] | None = None,
        name: str | None = None,
        gripper: str | None = None,
        instruction: str = "",
    ) -> None:
        """``make`` is module:Name; called with ``settings``, or with ``config`` (module:Name) of these settings.

        ``joints`` are those of `JointConfig` by name, in the order of state and action. ``calibration`` is the file
        that LeRobot's calibration wrote: it says the ends of ranges, in steps of which ``resolution`` are a turn.
        ``cameras`` are by default all. ``motion`` is what `vla.deploy.robots.motion.Motion` wants, in our units.
        """
        found = {n: from_dict(JointConfig, dict(said), where=f"joints.{n}") for n, said in joints.items()}
        ends = _read_ends(Path(calibration), resolution) if calibration else {}
        self._lines = {n: _line(n, joint, ends.get(n)) for n, joint in found.items()}
        self._keys = {n: joint.key or f"{n}.pos" for n, joint in found.items()}
        self._joints = tuple(
            dimension(n, unit=self._lines[n].unit, low=joint.low, high=joint.high) for n, joint in found.items()
        )
        self._robot = _made(make, config, settings or {})
        self._make, self._open = make, True
        self.changed: Counter[str] = Counter()
        """Commands that the driver did not send as they were, by joint."""
        _check_features(self._robot, self._keys)
        self.motion, self.instruction = motion_of(list(found), motion), instruction
        known = name or str(getattr(self._robot, "name", None) or make.rpartition(":")[2])
        views = _cameras(self._robot, cameras)
        self.contract = contract_of(known, self._joints, views, gripper=gripper, control_hz=control_hz)
        self._connect()

    def observe(self) -> Observation:
        """Joints and cameras, as the robot reads them."""
        found = self._read()
        images = {camera.name: np.array(self._of(found, camera.name)) for camera in self.contract.cameras}
        return Observation(
            images=images, state=self._state(found), instruction=self.instruction, time_ns=time.monotonic_ns()
        )

    def measure(self) -> Float32[np.ndarray, " s"]:
        """The joints of a look: such a robot does not tell them without its cameras."""
        return self._state(self._read())

    def command(self, action: Float32[np.ndarray, " d"]) -> None:
        """Convert and send; what was sent instead is counted."""
        asked = {}
        for joint, value in zip(self._joints, action.tolist(), strict=True):
            line = self._lines[joint.name]
            asked[self._keys[joint.name]] = (value - line.start) / line.slope
        sent = self._call("send_action", dict(asked))
        if not isinstance(sent, Mapping):
            return  # the driver does not say
        for joint in self._joints:
            key, line = self._keys[joint.name], self._lines[joint.name]
            away = abs(float(sent.get(key, math.nan)) - asked[key]) * abs(line.slope)
            if not away <= _SAME * (joint.high - joint.low):  # nor NaN
                if not self.changed[joint.name]:
                    _log.warning("%s: asked for %.6g, and its driver sent %s", key, asked[key], sent.get(key))
                self.changed[joint.name] += 1

    def close(self) -> None:
        """Disconnect: what holds the arm then is for its driver to say."""
        if not self._open:
            return
        self._open = False
        if self.changed:
            counts = ", ".join(f"{count} of {name}" for name, count in self.changed.items())
            _log.warning("the driver of %s changed commands: %s", self._make, counts)
        if self._robot.is_connected:
            self._call("disconnect")

    def _connect(self) -> None:
        if self._robot.is_connected:
            return
        # Calibrating asks a person to move the arm and to press keys: there is nobody to see that here.
        knows = "calibrate" in inspect.signature(self._robot.connect).parameters
        self._call("connect", **({"calibrate": False} if knows else {}))
        if not getattr(self._robot, "is_calibrated", True):
            self.close()
            raise RobotError(f"robot {self._make} is not calibrated; calibrate it with its own tool first")

    def _read(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._call("get_observation")
        return found

    def _state(self, found: Mapping[str, Any]) -> Float32[np.ndarray, " s"]:
        lines = [(self._lines[joint.name], self._keys[joint.name]) for joint in self._joints]
        return np.array([line.slope * float(self._of(found, key)) + line.start for line, key in lines], np.float32)

    def _of(self, found: Mapping[str, Any], key: str) -> Any:
        if key not in found:
            raise RobotError(f"robot {self._make} gave no {key}, but {', '.join(found)}; see its cables and its log")
        return found[key]

    def _call(self, method: str, *arguments: Any, **settings: Any) -> Any:
        try:
            return getattr(self._robot, method)(*arguments, **settings)
        except Exception as error:  # whatever a driver raises
            raise RobotError(f"robot {self._make}: {method}: {type(error).__name__}: {error}") from error


def _made(make: str, config: str | None, settings: Mapping[str, Any]) -> Any:
    maker: Any = lookup("LeRobot robot", make, {}, group="vla.lerobot")
    try:
        if config is None:
            robot = maker(**settings)
        else:
            configuration: Any = lookup("configuration", config, {}, group="vla.lerobot")
            robot = maker(configuration(**settings))
    except TypeError as error:
        raise ConfigError(f"{make} does not take settings={dict(settings)} ({error})") from error
    if missing := [name for name in _NEEDS if not hasattr(robot, name)]:
        raise ConfigError(f"{make} gives {type(robot).__name__}, which lacks {', '.join(missing)} of a LeRobot robot")
    return robot


def _check_features(robot: Any, keys: Mapping[str, str]) -> None:
    """Each number that the robot takes is said, and it shows what it takes."""
    takes, shows = set(robot.action_features), set(robot.observation_features)
    if silent := takes - set(keys.values()):
        raise ConfigError(f"joints: nothing is said of {', '.join(sorted(silent))}, which the robot takes")
    for name, key in keys.items():
        if key not in takes & shows:
            raise ConfigError(f"joints.{name}: the robot has no {key}, but {', '.join(sorted(takes))}; say its key")


def _cameras(robot: Any, names: Sequence[str] | None) -> tuple[Camera, ...]:
    shapes = {key: shape for key, shape in robot.observation_features.items() if isinstance(shape, tuple)}
    if unknown := [name for name in names or () if name not in shapes]:
        raise ConfigError(f"cameras: the robot has no {', '.join(unknown)}, but {', '.join(shapes) or 'none'}")
    chosen = list(shapes) if names is None else list(names)
    for name in chosen:
        if len(shapes[name]) != 3 or shapes[name][2] != 3:
            raise ConfigError(f"cameras.{name}: expected (height, width, 3), got {shapes[name]}; leave it out")
    return tuple(Camera(name=name, height=shapes[name][0], width=shapes[name][1]) for name in chosen)


def _line(name: str, joint: JointConfig, calibrated: tuple[float, float] | None) -> _Line:
    """How the robot's numbers become ours; what only a calibration knows is not guessed."""
    shares, ends = _SHARES.get(joint.units), joint.ends
    if ends is None and calibrated is not None and joint.units == "m100_100":
        half = (calibrated[1] - calibrated[0]) / 2
        ends = (-half, half)  # the middle of the range is zero, as where LeRobot speaks of degrees
    if shares is not None and ends is not None:
        slope = (ends[1] - ends[0]) / (shares[1] - shares[0])
        if not math.isfinite(slope) or slope == 0:
            raise ConfigError(f"joints.{name}: ends={ends}: expected two different numbers")
        return _Line(unit=joint.unit, slope=slope, start=ends[0] - slope * shares[0])
    if joint.units not in _FACTORS:
        known = ", ".join(sorted({*_FACTORS, *_SHARES}))
        fix = "say its ends in rad, or its calibration" if joint.units in _SHARES else f"expected one of {known}"
        raise ConfigError(f"joints.{name}: units={joint.units}: {fix}")
    if ends is not None:
        raise ConfigError(f"joints.{name}: ends are of {', '.join(_SHARES)}, not of {joint.units}; leave them out")
    unit, factor = _FACTORS[joint.units]
    return _Line(unit=unit, slope=factor)


def _read_ends(path: Path, resolution: int) -> dict[str, tuple[float, float]]:
    """The ends of each motor's range in rad, from the file of a calibration."""
    if not path.is_file():
        raise ConfigError(f"calibration {path} does not exist; LeRobot keeps them by the robot's id")
    try:
        motors = parse_json(path.read_bytes())
        step_rad = 2 * math.pi / (resolution - 1)  # as LeRobot counts
        return {n: (motor["range_min"] * step_rad, motor["range_max"] * step_rad) for n, motor in motors.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"calibration {path}: expected range_min and range_max of each motor ({error!r})") from None
