"""A peer that speaks the rosbridge v2 protocol, as rosbridge_suite's specification has it, with an arm behind it.

It is strict: what is not advertised is not published, types must fit, and what is wrong is answered by a status. The
arm is MuJoCo's, moves in real time by itself, and tells of its joints in another order with every message.
"""

import base64
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import imagecodecs
import mujoco
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

NAMES = ("base", "shoulder", "elbow")
MODEL = """<mujoco><option timestep="0.002" gravity="0 0 0" integrator="implicitfast"/><default><joint armature="0.05"/>
</default><worldbody><body><joint name="base" axis="0 0 1"/><geom size="0.05" mass="0.5"/>
<body pos="0 0 0.1"><joint name="shoulder" axis="0 1 0"/><geom size="0.04" mass="0.3"/>
<body pos="0.2 0 0"><joint name="elbow" axis="0 1 0"/><geom size="0.03" mass="0.2"/></body></body></body></worldbody>
<actuator><position joint="elbow" name="elbow" kp="40" kv="4"/><position joint="base" name="base" kp="60" kv="6"/>
<position joint="shoulder" name="shoulder" kp="60" kv="6"/></actuator></mujoco>"""
_TYPES = {
    "/joint_states": "sensor_msgs/msg/JointState",
    "/camera/compressed": "sensor_msgs/msg/CompressedImage",
    "/camera/raw": "sensor_msgs/msg/Image",
    "/arm/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "/arm/commands": "std_msgs/msg/Float64MultiArray",
}
ARRAY_ORDER = ("shoulder", "base", "elbow")
"""The parameter ``joints`` of its forward command controller."""


class Peer:
    """Begins at once; `close` ends it, and `vanish` without a word."""

    def __init__(self) -> None:
        self._model = mujoco.MjModel.from_xml_string(MODEL)
        self._data = mujoco.MjData(self._model)
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._clients: dict[ServerConnection, dict[str, str]] = {}
        self.heard: list[Mapping[str, Any]] = []
        self.complaints: list[str] = []
        self.quiet = threading.Event()
        """Nothing is published, though the connection stays."""
        self.change = lambda topic, message: message
        """What is published of what would be."""
        self._server: Server = serve(self._serve, "127.0.0.1", 0, max_size=2**20)
        self.port: int = self._server.socket.getsockname()[1]
        for work in (self._server.serve_forever, self._live):
            threading.Thread(target=work, daemon=True).start()

    def joints(self) -> dict[str, float]:
        """Where they are in the physics."""
        with self._lock:
            return {name: float(self._data.joint(name).qpos[0]) for name in NAMES}

    def targets(self) -> dict[str, float]:
        """Where they are to go."""
        with self._lock:
            return {name: float(self._data.actuator(name).ctrl[0]) for name in NAMES}

    def vanish(self) -> None:
        """Cut every connection, as when the robot's computer goes off."""
        for connection in list(self._clients):
            connection.socket.shutdown(2)

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()

    def _serve(self, connection: ServerConnection) -> None:
        self._clients[connection] = {}
        advertised: dict[str, str] = {}
        try:
            for text in connection:
                message = json.loads(text)
                self.heard.append(message)
                if problem := self._do(connection, advertised, message):
                    self.complaints.append(problem)
                    said = {"op": "status", "level": "error", "msg": problem, "id": message.get("id")}
                    connection.send(json.dumps(said))
        except ConnectionClosed:
            pass
        finally:
            self._clients.pop(connection, None)

    def _do(self, connection: ServerConnection, advertised: dict[str, str], message: Mapping[str, Any]) -> str | None:
        """What is wrong with it."""
        op, topic = message["op"], message["topic"]
        if op in ("subscribe", "advertise") and _TYPES.get(topic) != message["type"]:
            return f"{op}: {topic} is not of type {message['type']}"
        if op == "subscribe":
            self._clients[connection][topic] = message["id"]
        elif op == "unsubscribe":
            del self._clients[connection][topic]
        elif op == "advertise":
            advertised[topic] = message["type"]
        elif op == "unadvertise":
            del advertised[topic]
        elif op == "publish":
            if topic not in advertised:
                return f"publish: {topic} is not advertised"
            return self._move(topic, message["msg"])
        else:
            return f"unknown op {op}"
        return None

    def _move(self, topic: str, message: Mapping[str, Any]) -> str | None:
        if topic == "/arm/commands":
            values = dict(zip(ARRAY_ORDER, message["data"], strict=True))
        else:
            (point,) = message["points"]
            if sorted(message["joint_names"]) != sorted(NAMES):
                return f"joint_names {message['joint_names']} are not those of this controller"
            if not 0 < point["time_from_start"]["sec"] + 1e-9 * point["time_from_start"]["nanosec"] < 1:
                return "time_from_start must be above 0"
            values = dict(zip(message["joint_names"], point["positions"], strict=True))
        with self._lock:
            for name, value in values.items():
                self._data.actuator(name).ctrl = value
        return None

    def _live(self) -> None:
        count, began = 0, time.monotonic()
        while not self._ended.wait(0.01):
            with self._lock:
                while self._data.time < time.monotonic() - began:
                    mujoco.mj_step(self._model, self._data)
            count += 1
            if self.quiet.is_set():
                continue
            order = [NAMES[(i + count) % 3] for i in range(3)] if count % 2 else [NAMES[i] for i in (2, 1, 0)]
            where = self.joints()
            stamp = {"sec": 1000 + count // 100, "nanosec": count % 100 * 10**7}
            state = {"name": order, "position": [where[name] for name in order], "velocity": [], "effort": []}
            self._publish("/joint_states", {"header": {"stamp": stamp, "frame_id": ""}, **state})
            if count % 3 == 0:
                self._pictures(stamp)

    def _pictures(self, stamp: Mapping[str, int]) -> None:
        pixels = np.zeros((16, 24, 3), np.uint8)
        pixels[..., 0] = 200  # red
        header = {"stamp": stamp, "frame_id": "camera"}
        packed = base64.b64encode(imagecodecs.png_encode(pixels)).decode()
        self._publish("/camera/compressed", {"header": header, "format": "png", "data": packed})
        rows = np.zeros((16, 80), np.uint8)  # with padding
        rows[:, :72] = pixels[..., ::-1].reshape(16, 72)
        raw = {"height": 16, "width": 24, "encoding": "bgr8", "is_bigendian": 0, "step": 80}
        self._publish("/camera/raw", {"header": header, **raw, "data": base64.b64encode(rows.tobytes()).decode()})

    def _publish(self, topic: str, message: dict[str, Any]) -> None:
        changed = self.change(topic, message)
        for connection, subscribed in list(self._clients.items()):
            if changed is not None and topic in subscribed:
                try:
                    connection.send(json.dumps({"op": "publish", "topic": topic, "msg": changed}))
                except ConnectionClosed:
                    continue
