"""Recordings as ROS 2 writes them, by the formats' own libraries."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from mcap_ros2.writer import Writer as RosWriter
from PIL import Image

MS = 1_000_000
START = 1_700_000_000_000 * MS
STAMP = "builtin_interfaces/Time stamp\nstring frame_id\n"
RULE = "=" * 80
HEADER = f"{RULE}\nMSG: std_msgs/Header\n{STAMP}{RULE}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
LAYOUT = f"""{RULE}
MSG: std_msgs/MultiArrayLayout
MultiArrayDimension[] dim
uint32 data_offset
{RULE}
MSG: std_msgs/MultiArrayDimension
string label
uint32 size
uint32 stride
"""
DEFINITIONS = {
    "sensor_msgs/msg/JointState": "std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\n"
    "float64[] effort\n" + HEADER,
    "sensor_msgs/msg/CompressedImage": "std_msgs/Header header\nstring format\nuint8[] data\n" + HEADER,
    "sensor_msgs/msg/Image": "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\n"
    "uint8 is_bigendian\nuint32 step\nuint8[] data\n" + HEADER,
    "std_msgs/msg/String": "string data\n",
    "std_msgs/msg/Float64MultiArray": "std_msgs/MultiArrayLayout layout\nfloat64[] data\n" + LAYOUT,
    "std_msgs/msg/Float32MultiArray": "std_msgs/MultiArrayLayout layout\nfloat32[] data\n" + LAYOUT,
    "trajectory_msgs/msg/JointTrajectory": "std_msgs/Header header\nstring[] joint_names\n"
    "trajectory_msgs/JointTrajectoryPoint[] points\n" + HEADER + f"{RULE}\nMSG: trajectory_msgs/JointTrajectoryPoint\n"
    "float64[] positions\nfloat64[] velocities\nfloat64[] accelerations\nfloat64[] effort\n"
    "builtin_interfaces/Duration time_from_start\n"
    f"{RULE}\nMSG: builtin_interfaces/Duration\nint32 sec\nuint32 nanosec\n",
}
LAYOUT_VALUE = {"dim": [], "data_offset": 0}
JOINTS = ["shoulder", "elbow", "gripper"]

Rows = Iterable[tuple[int, dict[str, Any]]]


def header(time: int) -> dict[str, Any]:
    return {"stamp": {"sec": time // 10**9, "nanosec": time % 10**9}, "frame_id": "base"}


def joints(time: int, values: np.ndarray, names: list[str] | None = None) -> dict[str, Any]:
    position = [float(value) for value in values]
    return {"header": header(time), "name": JOINTS if names is None else names, "position": position}


def packed(time: int, pixels: np.ndarray, form: str = "png") -> dict[str, Any]:
    return {"header": header(time), "format": form, "data": encode(pixels, form)}


def raw(time: int, pixels: np.ndarray, encoding: str, padding: int = 0) -> dict[str, Any]:
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    shape = {"height": pixels.shape[0], "width": pixels.shape[1], "step": rows.shape[1]}
    return {"header": header(time), "encoding": encoding, "is_bigendian": 0, **shape, "data": rows.tobytes()}


def encode(pixels: np.ndarray, form: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form.upper())
    return buffer.getvalue()


def write_ros(
    path: Path, topics: dict[str, tuple[str, Rows]], *, delay: int = 0, metadata: dict[str, str] | None = None
) -> Path:
    """A file as ros2 bag record writes it: messages in the order of their log times, which come after the stamps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(time + delay, topic, kind, message) for topic, (kind, rows) in topics.items() for time, message in rows]
    with path.open("wb") as file:
        writer = RosWriter(file, chunk_size=2000)
        schemas = {kind: writer.register_msgdef(kind, DEFINITIONS[kind]) for kind in {row[2] for row in rows}}
        for time, topic, kind, message in sorted(rows, key=lambda row: row[0]):
            writer.write_message(topic, schemas[kind], message, log_time=time, publish_time=time)
        if metadata:
            writer.add_metadata("episode", metadata)
        writer.finish()
    return path


def arm(seed: int = 0, steps: int = 20, **changes: Any) -> tuple[dict[str, tuple[str, Rows]], dict[str, np.ndarray]]:
    """An arm at 20 Hz, commands 3 ms after, a camera at 10 Hz from 20 ms before; and the truth."""
    rng = np.random.default_rng(seed)
    truth = {
        "state": rng.standard_normal((steps, 3)).astype(np.float32),
        "action": rng.standard_normal((steps, 2)).astype(np.float32),
        "front": rng.integers(0, 256, (steps // 2 + 1, 6, 8, 3), np.uint8),
    }
    times = [START + step * 50 * MS for step in range(steps)]
    shots = [START - 20 * MS + shot * 100 * MS for shot in range(len(truth["front"]))]
    topics: dict[str, tuple[str, Rows]] = {
        "/joint_states": (
            "sensor_msgs/msg/JointState",
            [(time, joints(time, row)) for time, row in zip(times, truth["state"], strict=True)],
        ),
        "/arm/commands": (
            "std_msgs/msg/Float64MultiArray",
            [
                (time + 3 * MS, {"layout": LAYOUT_VALUE, "data": [float(value) for value in row]})
                for time, row in zip(times, truth["action"], strict=True)
            ],
        ),
        "/front/image_raw/compressed": (
            "sensor_msgs/msg/CompressedImage",
            [(time, packed(time, pixels)) for time, pixels in zip(shots, truth["front"], strict=True)],
        ),
        "/instruction": ("std_msgs/msg/String", [(START - 500 * MS, {"data": "stelle die Schüssel weg"})]),
    }
    return {**topics, **changes}, truth
