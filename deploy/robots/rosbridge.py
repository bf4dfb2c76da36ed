r"""Robots behind ROS 2, by rosbridge: JSON over a websocket, with nothing of ROS installed here.

**Not tried on hardware**: tested against a peer of ours that speaks the rosbridge v2 protocol with an arm behind it.

On the robot's side ``ros2 launch rosbridge_server rosbridge_websocket_launch.xml`` runs beside a joint state
broadcaster, and a ``joint_trajectory_controller`` (``command: trajectory``) or a ``forward_command_controller``
(``command: array``, whose order of joints must be said).

Joints go by name on every way; messages may have them in any order, and tell of some at a time. Freshness is by when a
message arrived here and that its stamp rises, for the clocks of two machines differ. Quality of service is rosbridge's
to choose: it subscribes as its publishers offer (sensor data is often best effort: what is lost is not sent again),
keeps one message a topic (``queue_length`` 1), and publishes reliably, without latching: a controller that begins later
gets no old command. A lost connection is final, for roslibpy would send what waits when it is there again.

    vla run --policy … --robot rosbridge --set host=robot.local control_hz=20 \
      'joints={shoulder: {low: -1.9, high: 1.9}, elbow: {low: -2.5, high: 2.5}}' \
      'motion={speed: 1.0, acceleration: 10.0}' \
      'cameras={front: {topic: /camera/image_raw/compressed, height: 480, width: 640}}'
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.core.config import from_dict
from vla.core.contract import Camera
from vla.core.errors import ConfigError, RobotError
from vla.core.types import Observation
from vla.deploy.robots.bridge import Bridge, Received
from vla.deploy.robots.described import contract_of, dimension, motion_of
from vla.deploy.robots.ros_messages import image_of, positions_of, stamp_of, to_array, to_trajectory

STATE = "sensor_msgs/msg/JointState"
IMAGES = {True: "sensor_msgs/msg/CompressedImage", False: "sensor_msgs/msg/Image"}
COMMANDS = {"trajectory": "trajectory_msgs/msg/JointTrajectory", "array": "std_msgs/msg/Float64MultiArray"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """One joint."""

    low: float
    high: float
    unit: str = "rad"
    """rad, or m for one that slides: as ROS has them."""
    ros: str | None = None
    """Its name there, where it is another."""


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """One topic with images."""

    topic: str
    height: int
    width: int
    compressed: bool = True
    """JPEG or PNG; otherwise rgb8 or bgr8."""
    stale_s: float = 0.5
    """An image is no older."""


class RosBridgeRobot:
    """A `vla.deploy.robots.robot.Robot` on the other side of a rosbridge server."""

    def __init__(
        self,
        *,
        joints: Mapping[str, Mapping[str, Any]],
        motion: Mapping[str, Any],
        control_hz: int | float,
        host: str = "127.0.0.1",
        port: int = 9090,
        secure: bool = False,
        cameras: Mapping[str, Mapping[str, Any]] | None = None,
        state_topic: str = "/joint_states",
        command_topic: str = "/joint_trajectory_controller/joint_trajectory",
        command: str = "trajectory",
        order: Sequence[str] | None = None,
        reach_s: float | None = None,
        stale_s: float = 0.5,
        connect_s: float = 10.0,
        name: str = "ros",
        gripper: str | None = None,
        instruction: str = "",
    ) -> None:
        """Connect, and wait at most ``connect_s`` until each joint and camera was heard of.

        ``order`` is that of an array's joints. A trajectory has one point, due ``reach_s`` after it arrives: by default
        when the next command leaves. A joint that nothing is heard of for ``stale_s`` ends the drive.
        """
        found = {n: from_dict(JointConfig, dict(said), where=f"joints.{n}") for n, said in joints.items()}
        self._joints = tuple(dimension(n, unit=j.unit, low=j.low, high=j.high) for n, j in found.items())
        self._ros_names = [joint.ros or n for n, joint in found.items()]
        self.motion, self.instruction = motion_of(list(found), motion), instruction
        self._views = {
            n: from_dict(CameraConfig, dict(said), where=f"cameras.{n}") for n, said in (cameras or {}).items()
        }
        self._cameras = {n: Camera(name=n, height=view.height, width=view.width) for n, view in self._views.items()}
        views = list(self._cameras.values())
        self.contract = contract_of(name, self._joints, views, gripper=gripper, control_hz=control_hz)
        self._places = _places(found, command, order)
        self._reach_s = reach_s or 1 / (control_hz * self.motion.ticks(float(control_hz)))
        self._stale_s, self._state_topic, self._command_topic = stale_s, state_topic, command_topic
        self._positions: dict[str, Received[float]] = {}
        self._newest: dict[str, float] = {}
        self._pictures: dict[str, Received[np.ndarray]] = {}
        self._wrong: str | None = None
        self._bridge = Bridge(host, port, secure=secure, connect_s=connect_s)
        try:
            self._bridge.subscribe(state_topic, STATE, self._on_state)
            for view in self._views.values():
                self._bridge.subscribe(view.topic, IMAGES[view.compressed])
            self._bridge.advertise(command_topic, COMMANDS[command])
            self._wait(connect_s)
        except BaseException:
            self._bridge.close()
            raise

    def observe(self) -> Observation:
        """The newest of each joint and camera, none older than the settings allow."""
        state = self.measure()
        images = {name: self._picture(name) for name in self._views}
        return Observation(images=images, state=state, instruction=self.instruction, time_ns=time.monotonic_ns())

    def measure(self) -> Float32[np.ndarray, " s"]:
        """The newest of each joint."""
        self._bridge.require()
        if self._wrong is not None:
            raise RobotError(f"{self._state_topic}: {self._wrong}")
        if late := self._silent(self._stale_s):
            raise RobotError(
                f"{self._state_topic}: nothing of {', '.join(late)} for more than {self._stale_s:g} s, though "
                f"{self._bridge.url} is connected; see whether its publisher runs{self._bridge.said}"
            )
        return np.array([self._positions[name].value for name in self._ros_names], np.float32)

    def command(self, action: Float32[np.ndarray, " d"]) -> None:
        """Publish the targets by name, or in the order that the controller has."""
        self._bridge.require()
        values = action.astype(float).tolist()
        if self._places is None:
            message = to_trajectory(dict(zip(self._ros_names, values, strict=True)), self._reach_s)
        else:
            message = to_array([values[place] for place in self._places])
        self._bridge.publish(self._command_topic, message)

    def close(self) -> None:
        """Disconnect: a trajectory controller holds its last point."""
        self._bridge.close()

    def _on_state(self, message: Mapping[str, Any]) -> None:
        """Take in what one message tells, in the bridge's thread; what is no joint state is said at the next look."""
        try:
            told, stamp = positions_of(message), stamp_of(message)
        except ValueError as error:
            self._wrong = str(error)
            return
        now = time.monotonic()
        for name, position in told.items():
            if stamp and stamp <= self._newest.get(name, -math.inf):
                continue  # sent again, or overtaken
            self._newest[name] = stamp
            self._positions[name] = Received(value=position, at_s=now)

    def _silent(self, for_s: float) -> list[str]:
        since = time.monotonic() - for_s
        return [n for n in self._ros_names if n not in self._positions or self._positions[n].at_s < since]

    def _picture(self, name: str) -> np.ndarray:
        view = self._views[name]
        latest = self._bridge.latest.get(view.topic)
        if latest is None or latest.at_s < time.monotonic() - view.stale_s:
            raise RobotError(
                f"{view.topic}: no image for more than {view.stale_s:g} s, though {self._bridge.url} is connected; see "
                f"whether the camera runs{self._bridge.said}"
            )
        known = self._pictures.get(name)
        if known is None or known.at_s != latest.at_s:
            try:
                decoded = image_of(latest.value, self._cameras[name], compressed=view.compressed)
            except ValueError as error:
                raise RobotError(f"{view.topic}: {error}") from None
            known = self._pictures[name] = Received(value=decoded, at_s=latest.at_s)
        return known.value

    def _wait(self, connect_s: float) -> None:
        deadline = time.monotonic() + connect_s
        while True:
            self._bridge.require()
            topics = [view.topic for view in self._views.values() if view.topic not in self._bridge.latest]
            missing = self._silent(math.inf)
            if not missing and not topics:
                return
            if self._wrong is not None or time.monotonic() > deadline:
                told = f" (it tells of {', '.join(sorted(self._positions))})" if self._positions else ""
                what = [self._wrong] if self._wrong else [f"nothing of {', '.join(missing)}{told}"] if missing else []
                what = [f"{self._state_topic}: {text}" for text in what] + [f"{topic}: no image" for topic in topics]
                raise RobotError(f"{self._bridge.url}: {'; '.join(what)}{self._bridge.said}")
            time.sleep(0.01)


def _places(joints: Mapping[str, JointConfig], command: str, order: Sequence[str] | None) -> list[int] | None:
    """Which of our joints stands at each place of an array; None where names travel along."""
    names = list(joints)
    if command not in COMMANDS:
        raise ConfigError(f"command={command}: expected one of {', '.join(COMMANDS)}")
    if command == "trajectory":
        if order is not None:
            raise ConfigError("order is for command=array; a trajectory has its joints by name: leave it out")
        return None
    if order is None or sorted(order) != sorted(names):
        raise ConfigError(
            f"order={order}: say the joints of the controller in its order (its parameter joints), each of "
            f"{', '.join(names)} once: an array has no names"
        )
    return [names.index(name) for name in order]
