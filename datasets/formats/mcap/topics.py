"""Which topics of a recording are state, action, cameras and instruction."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vla.core.errors import DatasetError
from vla.datasets.formats.mcap.file import Channel
from vla.datasets.formats.mcap.messages import PICTURES, schema_type, unreadable

_ACTION = re.compile(r"(^|[/_.-])(actions?|commands?|cmd|targets?|goals?|leader|desired|setpoints?)", re.IGNORECASE)
_STATE = re.compile(r"states?|joints?|proprio|observation|follower", re.IGNORECASE)
_INSTRUCTION = re.compile(r"instruction|language|prompt|task", re.IGNORECASE)
_VECTORS = (
    ("JointState", "JointStates"),
    ("RobotState", "Action", "JointTrajectory", "Float64MultiArray", "Float32MultiArray"),
)
"""Types that hold states and commands, the likeliest first; of other types names decide."""
_NO_VECTORS = ("String", "CameraInfo", "TFMessage", "PointCloud2", "TransitionEvent", "Log", "ParameterEvent", "Clock")
_GENERIC = (
    "compressed",
    "image_raw",
    "image",
    "image_rect",
    "image_rect_color",
    "image_color",
    "compressedDepth",
    "raw",
)


@dataclass(frozen=True, kw_only=True)
class McapTopics:
    """Topics to use instead of those that are found; nothing leaves it to names and types."""

    state: tuple[str, ...] = ()
    """Side by side, in this order."""
    action: tuple[str, ...] = ()
    cameras: dict[str, str] = field(default_factory=dict)
    """The topic of each camera."""
    instruction: str | None = None
    events: tuple[str, ...] = ()
    """Topics that only tell of changes, as a gripper's open and close may: silence is no hole, the last value holds."""
    clock: Literal["header", "log"] | None = None
    """The times in the messages, or those at which they were logged; by default the former where they are one clock."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The topics of a contract."""

    state: tuple[str, ...]
    action: tuple[str, ...]
    cameras: Mapping[str, str]
    instruction: str | None
    notes: tuple[str, ...]

    @property
    def vectors(self) -> tuple[str, ...]:
        """State and action."""
        return (*self.state, *self.action)


def choose_topics(
    path: Path, channels: Mapping[str, Channel], topics: McapTopics, silent: Collection[str] = ()
) -> Choice:
    """What the user names, else what type and name suggest; more than one likely topic is a `DatasetError`.

    ``silent`` topics have no messages: they are taken only where they are named.
    """
    named = (*topics.state, *topics.action, *topics.cameras.values(), *topics.events, topics.instruction)
    for topic in (topic for topic in named if topic is not None):
        if topic not in channels:
            raise DatasetError(f"{path}: topic {topic!r} is not there; it has {_listed(channels)}")
        if reason := unreadable(channels[topic]):
            raise DatasetError(f"{path}: topic {topic} is not readable ({reason}); it has {_listed(channels)}")
    for part, several in (("state", topics.state), ("action", topics.action)):
        if len(set(several)) != len(several):
            raise DatasetError(f"{path}: {part}: expected topics that differ, got {', '.join(several)}; name each once")
    readable = {topic: channel for topic, channel in channels.items() if not unreadable(channel)}
    notes: list[str] = []
    instruction = topics.instruction or next((t for t, c in readable.items() if _is_instruction(c)), None)
    vectors = [
        topic
        for topic, channel in readable.items()
        if schema_type(channel) not in (*PICTURES, *_NO_VECTORS) and topic != instruction and topic not in silent
    ]
    taken = {*topics.state, *topics.action}
    commands = [topic for topic in vectors if _ACTION.search(topic) and topic not in taken]
    action = topics.action or _likeliest(path, channels, commands, _ACTION, "action")
    states = [topic for topic in vectors if topic not in (*commands, *action, *taken)]
    state = topics.state or _likeliest(path, channels, states, _STATE, "state")
    cameras = dict(topics.cameras) or _cameras(readable, notes)
    used = {*state, *action, *cameras.values(), instruction}
    left = [
        f"{topic} ({reason})" if (reason := unreadable(channels[topic])) else topic
        for topic in sorted(channels)
        if topic not in used
    ]
    if left:
        notes.append(f"These topics are left out: {', '.join(left)}.")
    return Choice(state=state, action=action, cameras=cameras, instruction=instruction, notes=tuple(notes))


def _likeliest(
    path: Path, channels: Mapping[str, Channel], topics: Sequence[str], name: re.Pattern[str], role: str
) -> tuple[str, ...]:
    """The one topic of the best rank."""
    ranked: dict[int, list[str]] = {}
    for topic in topics:
        kind = schema_type(channels[topic])
        rank = next((place for place, kinds in enumerate(_VECTORS) if kind in kinds), len(_VECTORS))
        if rank == 0 or name.search(topic):
            ranked.setdefault(rank, []).append(topic)
    best = ranked[min(ranked)] if ranked else []
    if len(best) == 1:
        return (best[0],)
    if best:
        together = ", ".join(sorted(best))
        raise DatasetError(
            f"{path}: several topics may be the {role}: {together}; name one, or several side by side: "
            f'--set "{role}=[{together}]". The file has {_listed(channels)}'
        )
    raise DatasetError(
        f"{path}: no topic looks like the {role}; name it: --set {role}=[/topic]. The file has {_listed(channels)}"
    )


def _cameras(channels: Mapping[str, Channel], notes: list[str]) -> dict[str, str]:
    """A camera for each topic of pictures; of one that is recorded twice, the packed pictures."""
    found: dict[str, str] = {}
    pictures = [topic for topic, channel in sorted(channels.items()) if schema_type(channel) in PICTURES]
    for topic in sorted(pictures, key=lambda t: (schema_type(channels[t]) != "CompressedImage", t)):
        name = _camera_name(topic, found)
        if name in found:
            notes.append(f"{topic} is left out: {found[name]} is the same camera.")
        else:
            found[name] = topic
    return dict(sorted(found.items()))


def _camera_name(topic: str, taken: Collection[str]) -> str:
    """The parts of a topic that say which camera it is."""
    parts = [part for part in topic.split("/") if part]
    while len(parts) > 1 and parts[-1] in _GENERIC:
        parts.pop()
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", ".".join(parts)).lstrip("_.-")
    return name or f"camera{len(taken)}"


def _is_instruction(channel: Channel) -> bool:
    kind = schema_type(channel)
    return bool(_INSTRUCTION.search(channel.topic)) and (kind == "String" or channel.encoding == "json")


def _listed(channels: Mapping[str, Channel]) -> str:
    ordered = sorted(channels.values(), key=lambda channel: channel.topic)
    return ", ".join(f"{c.topic} ({unreadable(c) or c.schema or c.encoding})" for c in ordered) or "no topics"
