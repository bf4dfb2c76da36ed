"""What messages say: numbers with names, pictures, texts and times, from JSON or ROS 2's CDR."""

import base64
import binascii
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vla.datasets.formats.mcap.file import Channel
from vla.datasets.formats.pictures import decode_picture

PICTURES = ("CompressedImage", "Image", "RawImage")
_NO_VALUES = ("header", "timestamp", "stamp", "layout", "time")
_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}
_DISTANCES = ("16UC1", "mono16")

Message = Mapping[str, Any]


class MessageError(ValueError):
    """A message that does not say what it should; callers add file, topic and time."""


def schema_type(channel: Channel) -> str:
    """The last part of a schema's name: ``Image`` for ``sensor_msgs/msg/Image``."""
    return channel.schema.replace(".", "/").rpartition("/")[2]


def unreadable(channel: Channel) -> str:
    """Why messages are not read; empty where they are JSON, or CDR with a ROS 2 definition."""
    if channel.encoding == "json":
        return ""
    if channel.encoding == "ros1":
        return "messages of ROS 1: convert the recording with mcap convert or rosbags-convert"
    if channel.encoding != "cdr":
        return f"messages in {channel.encoding or 'no encoding'}: only json, and cdr of ROS 2, are read"
    if channel.schema_encoding != "ros2msg":
        return f"cdr defined by {channel.schema_encoding or 'nothing'}: only ros2msg is read"
    return (
        ""
        if channel.schema_data.strip()
        else f"the definition of {channel.schema} is empty: record it with its message"
    )


def decoder(channel: Channel) -> Callable[[bytes], Message]:
    """What turns bytes into a message; it raises `MessageError`."""
    if channel.encoding == "json":
        return _from_json
    from mcap.records import Schema
    from mcap_ros2.decoder import DecoderFactory

    schema = Schema(id=1, name=channel.schema, encoding=channel.schema_encoding, data=channel.schema_data)
    try:
        decode = DecoderFactory().decoder_for(channel.encoding, schema)
    except (ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise MessageError(f"the definition of {channel.schema} is not understood ({error})") from None
    assert decode is not None, channel

    def from_cdr(data: bytes) -> Message:
        try:
            message: Message = _plain(decode(data))
        except (struct.error, ValueError, RuntimeError, IndexError, KeyError) as error:
            raise MessageError(f"{len(data)} bytes are no {channel.schema} ({error})") from None
        return message

    return from_cdr


def vector_of(message: Message, topic: str) -> tuple[list[str], list[float]]:
    """All numbers of a message with their names; of joints their positions only."""
    joints, positions = message.get("name"), message.get("position")
    if isinstance(joints, list) and isinstance(positions, list):
        return _joints(joints, positions)
    points = message.get("points")
    if isinstance(message.get("joint_names"), list) and isinstance(points, list):
        if not points:
            raise MessageError("a trajectory without points")
        return _joints(message["joint_names"], list(points[-1]["positions"]))
    found = list(_numbers({key: value for key, value in message.items() if key not in _NO_VALUES}, ""))
    base = topic.rpartition("/")[2] or "value"
    names = [base + name.removeprefix("data") if f"{name}.".startswith("data.") else name for name, _ in found]
    return names, [value for _, value in found]


def picture_of(message: Message) -> np.ndarray:
    """uint8 RGB (y, x, 3), or uint16 distances (y, x, 1); `MessageError` or `PictureError` for anything else."""
    data = message.get("data", b"")
    if isinstance(data, str):
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise MessageError(f"data: expected base64, got {error}") from None
    if "encoding" in message:
        return _raw(message, bytes(data))
    form = str(message.get("format", ""))
    if "compressedDepth" in form:
        if "32FC1" in form:
            raise MessageError("distances of 32FC1 are not read")
        data = data[12:]  # image_transport's own header
    return decode_picture(bytes(data))


def text_of(message: Message) -> str:
    """The text of a message: its ``data``, ``instruction``, ``text`` or ``task``."""
    for key in ("data", "instruction", "language_instruction", "text", "task"):
        if isinstance(message.get(key), str):
            return str(message[key]).strip()
    raise MessageError(f"expected a text, got {sorted(message)}")


def stamp_ns(message: Message) -> int | None:
    """When the thing was measured, as the message says; None where it does not."""
    header = message.get("header")
    stamp = header.get("stamp") if isinstance(header, Mapping) else message.get("timestamp")
    if not isinstance(stamp, Mapping):
        return None
    seconds = stamp.get("sec")
    rest = stamp.get("nanosec", stamp.get("nsec"))
    if not isinstance(seconds, int) or not isinstance(rest, int) or seconds == rest == 0:
        return None
    return seconds * 1_000_000_000 + rest


def _from_json(data: bytes) -> Message:
    try:
        message = json.loads(data)
    except ValueError as error:
        raise MessageError(f"{len(data)} bytes are no JSON ({error})") from None
    if not isinstance(message, dict):
        raise MessageError(f"expected a JSON object, got {type(message).__name__}")
    return message


def _plain(value: Any) -> Any:
    """A decoded ROS message as dictionaries and lists; bytes stay bytes."""
    slots = getattr(type(value), "__slots__", None)
    if slots is not None and hasattr(value, "_type"):
        return {name: _plain(getattr(value, name)) for name in slots}
    if isinstance(value, memoryview):
        return bytes(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _joints(names: list[Any], positions: list[Any]) -> tuple[list[str], list[float]]:
    if names and len(names) != len(positions):
        raise MessageError(f"expected a position for each of {len(names)} joints, got {len(positions)}")
    labels = [str(name) for name in names] or [f"position.{place}" for place in range(len(positions))]
    if len(set(labels)) != len(labels):
        raise MessageError(f"expected joints with names of their own, got {labels}")
    return labels, [float(position) for position in positions]


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Numbers in the order of the message."""
    if isinstance(value, bool | int | float):
        yield name, float(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _NO_VALUES:
                yield from _numbers(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _numbers(item, f"{name}.{place}")
    elif value is None:
        raise MessageError(f"{name}: expected a number, got null")


def _raw(message: Message, data: bytes) -> np.ndarray:
    """Pixels that are not packed; rows may have bytes to spare."""
    encoding, height, width = str(message["encoding"]), int(message["height"]), int(message["width"])
    size = 2 if encoding in _DISTANCES else _CHANNELS.get(encoding, 0)
    if not size:
        raise MessageError(f"pixels of the encoding {encoding} are not read, only {[*_CHANNELS, *_DISTANCES]}")
    step = int(message.get("step") or width * size)
    if height < 1 or width < 1 or step < width * size or len(data) != step * height:
        raise MessageError(f"expected {height} rows of {step} bytes for {width} pixels {encoding}, got {len(data)}")
    rows = np.frombuffer(data, np.uint8).reshape(height, step)[:, : width * size]
    if encoding in _DISTANCES:
        order = ">u2" if message.get("is_bigendian") else "<u2"
        return np.ascontiguousarray(rows).view(order).astype(np.uint16)[..., None]
    pixels = rows.reshape(height, width, size)
    return np.ascontiguousarray(pixels[..., 2::-1] if encoding.startswith("bgr") else pixels[..., :3])
