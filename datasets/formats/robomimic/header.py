"""What the attributes of a robomimic file say beside its arrays: the environment, its rate and robot, the language.

Attributes are written by hand and by many programs: one that is missing, or is not what it should be, leaves its
question open, and is named.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from vla.core.errors import DatasetError
from vla.datasets.formats.robomimic.tree import first_text

ROBOSUITE = 1
"""robomimic's number for environments of robosuite, in ``env_args``."""
_JSON = ("env_args", "env_info", "problem_info")
_ORIGIN = ("date", "time", "repository_version", "bddl_file_name", "macros_image_convention", "tag")
_LANGUAGE = ("lang", "language", "language_instruction", "instruction", "task_description", "prompt")
_TASKS = {
    "Lift": "lift the cube",
    "Stack": "stack the red cube on the green cube",
    "PickPlace": "put each object into its bin",
    "PickPlaceCan": "put the can into its bin",
    "PickPlaceMilk": "put the milk into its bin",
    "PickPlaceBread": "put the bread into its bin",
    "PickPlaceCereal": "put the cereal into its bin",
    "NutAssembly": "put each nut on its peg",
    "NutAssemblySquare": "put the square nut on its peg",
    "NutAssemblyRound": "put the round nut on its peg",
    "Door": "open the door",
    "Wipe": "wipe the table",
    "ToolHang": "assemble the frame and hang the tool on it",
    "TwoArmLift": "lift the pot with both arms",
    "TwoArmPegInHole": "put the peg into the hole",
    "TwoArmHandover": "hand the hammer over to the other arm",
    "TwoArmTransport": "hand the hammer over and put it into the target bin",
}
"""robosuite's environments have no language; these sentences say what their success conditions ask for."""


_GENERIC = re.compile(r"(demos?|data|dataset|input|output|test|train|low_dim|image|ph|mh|merged|all|hdf5|h5|v?\d+|_)+")
"""File names that say nothing of the task."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The attributes of ``/data``."""

    env_args: Mapping[str, Any]
    """As robomimic writes it; made as its own conversion does where robosuite's collector wrote ``env_info``."""
    problem_info: Mapping[str, Any]
    origin: Mapping[str, Any]
    """Dates, versions and file names: for the provenance."""
    total: int | None
    """Steps of all demonstrations, as the file counts them."""
    notes: tuple[str, ...]
    """Attributes that are not what they should be."""

    @property
    def is_named(self) -> bool:
        """Whether the file says what its environment is."""
        return bool(self.env_args.get("env_name"))

    @property
    def env_name(self) -> str:
        """The class of the environment."""
        return str(self.env_args.get("env_name") or "unknown")

    def task(self, path: Path) -> str:
        """LIBERO's environments hold many tasks, each with a file of its own; elsewhere the environment is the task."""
        name = PurePath(str(self.origin.get("bddl_file_name", ""))).stem
        return name or (self.env_name if self.is_named else path.stem)

    @property
    def is_robosuite(self) -> bool:
        """Whether the environment is one of robosuite, which LIBERO's are too."""
        return self.env_args.get("type") == ROBOSUITE or bool(self.problem_info)

    @property
    def env_kwargs(self) -> Mapping[str, Any]:
        """What the environment was made with."""
        return _mapping(self.env_args.get("env_kwargs"))

    @property
    def robot(self) -> str | None:
        """The robots, joined by ``+``."""
        robots = self.env_kwargs.get("robots")
        names = [robots] if isinstance(robots, str) else robots if isinstance(robots, list) else []
        return "+".join(str(name) for name in names) or None

    @property
    def control_hz(self) -> float | None:
        """Steps in one second: robosuite's rate, or of Isaac Lab's physics every ``decimation``-th."""
        rate = _positive(self.env_kwargs.get("control_freq"))
        physics = _mapping(self.env_args.get("sim_args"))
        dt_s, decimation = _positive(physics.get("dt")), _positive(physics.get("decimation"))
        if rate is None and dt_s is not None and decimation is not None:
            rate = round(1 / (dt_s * decimation), 6)
        return rate

    @property
    def upside_down(self) -> bool | None:
        """Whether row 0 of pictures is at the bottom, as OpenGL gives them; None where the file does not say."""
        return {"opengl": True, "opencv": False}.get(str(self.origin.get("macros_image_convention", "")).lower())


def read_header(file: Any) -> Header:
    """Read the attributes of ``/data``, and of the file itself where that has none."""
    notes: list[str] = []
    values = {**read_attributes(file, notes), **read_attributes(file["data"], notes)}
    objects = {key: read_object(values, key, notes) for key in _JSON}
    env_args, origin = objects["env_args"], {key: values[key] for key in _ORIGIN if values.get(key) is not None}
    name = values.get("env", values.get("env_name"))
    if not env_args and name is not None:
        kwargs = {key: value for key, value in objects["env_info"].items() if key != "env_name"}
        env_args = {"type": ROBOSUITE, "env_name": name, "env_kwargs": kwargs}
        if "repository_version" in origin:
            env_args["env_version"] = origin["repository_version"]
    return Header(
        env_args=env_args,
        problem_info=objects["problem_info"],
        origin=origin,
        total=as_count(values.get("total")),
        notes=tuple(notes),
    )


def language(header: Header, attributes: Mapping[str, Any], demo: Any, where: str) -> str | None:
    """The instruction that the file holds: of the demonstration (robocasa), the environment, or the task (LIBERO).

    An ``ep_meta`` that cannot be read is a `DatasetError`: the words may be there.
    """
    damaged: list[str] = []
    candidates = [read_object(attributes, "ep_meta", damaged).get("lang")]
    if damaged:
        raise DatasetError(f"{where}: {damaged[0]}")
    candidates += [attributes.get(key) for key in _LANGUAGE]
    candidates += [first_text(demo, _LANGUAGE)]
    candidates += [header.env_args.get("lang"), header.env_kwargs.get("lang")]
    candidates += [header.problem_info.get("language_instruction")]
    for candidate in candidates:
        if isinstance(candidate, list):  # LIBERO: words, or letters
            letters = all(isinstance(part, str) and len(part) == 1 for part in candidate)
            candidate = ("" if letters else " ").join(str(part) for part in candidate)
        if isinstance(candidate, str) and (text := candidate.strip().strip('"').strip()):
            return text
    return None


def described(header: Header, path: Path) -> str:
    """A plain sentence for a file without language: from its environment, or else from its name."""
    if header.is_named:
        base = re.sub(r"_D\d+$", "", header.env_name)  # MimicGen's variants: Stack_D0, Stack_D1
        return _TASKS.get(base) or _words(base)
    stem = re.sub(r"^[A-Z_]+_SCENE\d+_|_demo$", "", path.stem)  # LIBERO's names
    return "do the task" if _GENERIC.fullmatch(stem.lower()) else _words(stem)


def read_attributes(item: Any, notes: list[str]) -> dict[str, Any]:
    """Attributes as values that JSON holds; those that cannot be read, and are not empty, are noted."""
    found = {}
    for key in item.attrs:
        try:
            found[key] = plain(item.attrs[key])
        except (OSError, TypeError, ValueError, RuntimeError, KeyError) as error:
            notes.append(f"Attribute {key} of {item.name} cannot be read ({error}) and is left out.")
    return {key: value for key, value in found.items() if value is not None}


def plain(value: Any) -> Any:
    """An attribute as a value that JSON holds; None for HDF5's empty one."""
    if type(value).__name__ == "Empty":
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="replace")
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    return value if isinstance(value, int | float | bool) or value is None else str(value)


def read_object(attributes: Mapping[str, Any], key: str, notes: list[str]) -> dict[str, Any]:
    """A JSON object that is written in an attribute; empty where it is missing, or noted as being something else."""
    text = attributes.get(key)
    if isinstance(text, list) and len(text) == 1:
        text = text[0]
    if text is None or text == "":
        return {}
    try:
        value = json.loads(text, parse_constant=str) if isinstance(text, str) else text
    except ValueError as error:
        notes.append(f"Attribute {key}: expected JSON, got {text[:60]!r} ({error}): what it says is not known.")
        return {}
    if not isinstance(value, dict):
        notes.append(f"Attribute {key}: expected a JSON object, got {str(text)[:60]!r}: what it says is not known.")
        return {}
    return value


def as_count(value: Any) -> int | None:
    """A whole number, also as text (LIBERO) or as an array of one; None for anything else."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    try:
        return int(value) if not isinstance(value, bool) and float(value).is_integer() else None
    except (TypeError, ValueError):
        return None


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\W]+", " ", name).strip().lower() or "do the task"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
