"""ROS 2's messages as rosbridge writes them in JSON, to our values and back; a `ValueError` says what does not fit."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vla.core.contract import Camera
from vla.deploy.pictures import decode_picture

_MOST_JOINTS = 1000
_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0)}


def positions_of(message: Mapping[str, Any]) -> dict[str, float]:
    """Of a JointState, by name."""
    names, positions = message.get("name"), message.get("position")
    if not isinstance(names, list) or not isinstance(positions, list) or len(names) != len(positions):
        raise ValueError(f"expected as many names as positions, got {str(names)[:80]} and {str(positions)[:80]}")
    if len(names) > _MOST_JOINTS or len(set(map(str, names))) < len(names):
        raise ValueError(f"expected each joint once, got {', '.join(map(str, names[:10]))}")
    found = {}
    for name, position in zip(names, positions, strict=True):
        if isinstance(position, bool) or not isinstance(position, int | float) or not math.isfinite(position):
            raise ValueError(f"{name}: expected a finite position, got {position}")
        found[str(name)] = float(position)
    return found


def stamp_of(message: Mapping[str, Any]) -> float:
    """When it was measured, in s on the sender's clock; 0 where that is not said."""
    stamp = message.get("header", {}).get("stamp", {})
    seconds, nanoseconds = stamp.get("sec", 0), stamp.get("nanosec", 0)
    if not isinstance(seconds, int | float) or not isinstance(nanoseconds, int | float):
        raise ValueError(f"expected a stamp of sec and nanosec, got {stamp}")
    return float(seconds) + 1e-9 * float(nanoseconds)


def image_of(message: Mapping[str, Any], camera: Camera, *, compressed: bool) -> np.ndarray:
    """The pixels (y, x, 3) of a CompressedImage or an Image, of the size that ``camera`` has."""
    try:
        data = base64.b64decode(message["data"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise ValueError(f"expected data in base64 ({error})") from None
    if compressed:
        return decode_picture(data, camera)
    height, width, step = (message.get(key) for key in ("height", "width", "step"))
    encoding = str(message.get("encoding"))
    if encoding not in _CHANNELS or (height, width) != camera.shape[:2]:
        raise ValueError(
            f"expected {camera.height}x{camera.width} of {' or '.join(_CHANNELS)}, got {height}x{width} of {encoding}"
        )
    if not isinstance(step, int) or step < 3 * camera.width or len(data) != step * camera.height:
        raise ValueError(f"expected {camera.height} rows of {step} bytes, got {len(data)}")
    rows = np.frombuffer(data, np.uint8).reshape(camera.height, step)[:, : 3 * camera.width]
    return rows.reshape(camera.shape)[..., _CHANNELS[encoding]]


def to_trajectory(targets: Mapping[str, float], reach_s: float) -> dict[str, Any]:
    """A JointTrajectory of one point, to be reached ``reach_s`` from when it arrives."""
    due_ns = round(reach_s * 1e9)
    point = {
        "positions": list(targets.values()),
        "velocities": [],
        "accelerations": [],
        "effort": [],
        "time_from_start": {"sec": due_ns // 10**9, "nanosec": due_ns % 10**9},
    }
    header = {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": ""}  # no stamp: from now on
    return {"header": header, "joint_names": list(targets), "points": [point]}


def to_array(values: Sequence[float]) -> dict[str, Any]:
    """A Float64MultiArray."""
    return {"layout": {"dim": [], "data_offset": 0}, "data": list(values)}
