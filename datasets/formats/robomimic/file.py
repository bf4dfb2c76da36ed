"""HDF5 files of robomimic and robosuite: opening them, and what they say beside their arrays.

That is the environment, the names and filter keys of demonstrations, and the language.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from vla.core.errors import DatasetError
from vla.core.machine.packages import needed_packages

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""How every HDF5 file begins."""
ROBOSUITE = 1
"""robomimic's number for environments of robosuite, in ``env_args``."""
_JSON = ("env_args", "env_info", "problem_info")
_ORIGIN = ("date", "time", "repository_version", "bddl_file_name", "macros_image_convention", "tag")
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


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The open ``h5py.File``; a missing, truncated or damaged one, here or while it is read, is a `DatasetError`."""
    with needed_packages(str(path)):
        import h5py
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist") from None
    except DatasetError:
        raise
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"{path}: not a readable HDF5 file ({reason}); it is cut short or damaged: copy it again"
        ) from None


@dataclass(frozen=True, kw_only=True)
class Header:
    """The attributes of ``/data``."""

    env_args: Mapping[str, Any]
    """As robomimic writes it; made as its own conversion does where robosuite's collector wrote ``env_info``."""
    problem_info: Mapping[str, Any]
    origin: Mapping[str, Any]
    """Dates, versions and file names: for the provenance."""

    @property
    def env_name(self) -> str:
        """The class of the environment."""
        return str(self.env_args.get("env_name") or "unknown")

    @property
    def task(self) -> str:
        """LIBERO's environments hold many tasks, each with a file of its own; elsewhere the environment is the task."""
        return PurePath(str(self.origin.get("bddl_file_name", ""))).stem or self.env_name

    @property
    def env_kwargs(self) -> Mapping[str, Any]:
        """What the environment was made with."""
        value = self.env_args.get("env_kwargs")
        return value if isinstance(value, Mapping) else {}

    @property
    def robot(self) -> str | None:
        """The robots, joined by ``+``."""
        robots = self.env_kwargs.get("robots")
        names = [robots] if isinstance(robots, str) else robots if isinstance(robots, list) else []
        return "+".join(str(name) for name in names) or None

    @property
    def control_hz(self) -> float | None:
        """Steps in one second."""
        value = self.env_kwargs.get("control_freq")
        return float(value) if isinstance(value, int | float) and value > 0 else None

    @property
    def upside_down(self) -> bool:
        """LIBERO stores robosuite's pixels as OpenGL gives them, row 0 at the bottom; robomimic turns them."""
        return self.origin.get("macros_image_convention") == "opengl"


def read_header(file: Any, path: Path) -> Header:
    """Read the attributes; damaged JSON is a `DatasetError`."""
    attributes = file["data"].attrs
    values = {key: read_object(attributes, key, f"{path}: /data") for key in _JSON}
    env_args, origin = values["env_args"], {key: plain(attributes[key]) for key in _ORIGIN if key in attributes}
    if not env_args:
        name = attributes.get("env", attributes.get("env_name"))
        kwargs = {key: value for key, value in values["env_info"].items() if key != "env_name"}
        if name is not None:
            env_args = {"type": ROBOSUITE, "env_name": plain(name), "env_kwargs": kwargs}
            if "repository_version" in origin:
                env_args["env_version"] = origin["repository_version"]
    return Header(env_args=env_args, problem_info=values["problem_info"], origin=origin)


def demonstrations(file: Any, path: Path) -> list[str]:
    """Names of the groups with actions, by number: ``demo_2`` comes before ``demo_10``."""
    import h5py

    data = file.get("data")
    if not isinstance(data, h5py.Group):
        raise DatasetError(f"{path}: expected a group /data, got {sorted(file)}; is it of robomimic?")
    names = [name for name in data if isinstance(data[name], h5py.Group) and "actions" in data[name]]
    return sorted(names, key=_number)


def filter_keys(file: Any, demo: str) -> list[str]:
    """The lists under ``/mask`` that name the demonstration."""
    if "mask" not in file:
        return []
    return [key for key, names in file["mask"].items() if demo in {plain(name) for name in names[()].tolist()}]


def split_of(keys: Sequence[str]) -> str:
    """``train`` unless it is listed as ``valid``."""
    return "valid" if "valid" in keys and "train" not in keys else "train"


def language(header: Header, demo: Any, path: Path) -> str | None:
    """The instruction that the file holds: of the demonstration (robocasa), the environment, or the task (LIBERO)."""
    attributes = demo.attrs
    candidates = [read_object(attributes, "ep_meta", f"{path}: {demo.name}").get("lang")]
    candidates += [plain(attributes[key]) for key in ("lang", "language", "language_instruction") if key in attributes]
    candidates += [header.env_args.get("lang"), header.env_kwargs.get("lang")]
    candidates += [header.problem_info.get("language_instruction")]
    for candidate in candidates:
        if isinstance(candidate, list):  # LIBERO: words, or letters
            letters = all(isinstance(part, str) and len(part) == 1 for part in candidate)
            candidate = ("" if letters else " ").join(str(part) for part in candidate)
        if isinstance(candidate, str) and (text := candidate.strip().strip('"').strip()):
            return text
    return None


def described(env_name: str) -> str:
    """A plain sentence for an environment that has none."""
    base = re.sub(r"_D\d+$", "", env_name)  # MimicGen's variants: Stack_D0, Stack_D1
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\W]+", " ", base)
    return _TASKS.get(base) or words.strip().lower() or "do the task"


def plain(value: Any) -> Any:
    """An attribute as a value that JSON holds."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def read_object(attributes: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """A JSON object that is written in an attribute; empty where the attribute is missing."""
    if key not in attributes:
        return {}
    text = plain(attributes[key])
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"{where}: attribute {key}: expected JSON, got {str(text)[:60]!r} ({error}); the file is damaged"
        ) from None
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: attribute {key}: expected a JSON object, got {type(value).__name__}")
    return value


def _number(name: str) -> tuple[int, str]:
    digits = re.search(r"(\d+)$", name)
    return (int(digits[1]) if digits else -1, name)
