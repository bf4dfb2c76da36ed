"""What a user says about somebody else's recordings: names, units, limits, gripper and cameras, in a YAML file.

The file is loaded strictly. Every dimension and camera says what the source calls it (``was``), so that a description
of other recordings is refused; what the file leaves out stays as in the source.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from vla.core.config import from_dict, read_yaml, to_dict
from vla.core.errors import ConfigError
from vla.datasets.formats.source import Hints

UNITS: Mapping[str, tuple[str, float]] = {
    "rad": ("rad", 1.0),
    "m": ("m", 1.0),
    "1": ("1", 1.0),
    "image": ("image", 1.0),
    "deg": ("rad", math.pi / 180),
    "mm": ("m", 1e-3),
    "cm": ("m", 1e-2),
    "%": ("1", 1e-2),
}
"""What numbers may be recorded in, with the unit of the dataset, and the factor that makes one of the other."""


@dataclass(frozen=True, kw_only=True)
class DescribedDimension:
    """One number of the state or the action."""

    was: str
    """What the source calls it."""
    name: str
    unit: str | int
    """What the recordings hold; the dataset gets radians, metres and ratios."""
    low: float | None = None
    """The robot's own limit, in that unit; null keeps the range of the data, widened."""
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class DescribedCamera:
    """One camera."""

    was: str
    """What the source calls it."""
    name: str | None = None
    """null leaves the camera out."""
    height: int | None = None
    """Compared with the source's."""
    width: int | None = None


@dataclass(frozen=True, kw_only=True)
class Gripper:
    """Which number of the action is the gripper."""

    action: str
    """Its new name."""
    opens: Literal["larger", "smaller"]
    """Which numbers open it; where it is the smaller ones, numbers are mirrored between the limits: larger opens."""


@dataclass(frozen=True, kw_only=True)
class Description(Hints):
    """The whole file: every hint, and what only a file can say."""

    format: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Of the format, as with --set."""
    gripper: Gripper | None = None
    state: tuple[DescribedDimension, ...] | None = None
    """All numbers, in the order of the source."""
    action: tuple[DescribedDimension, ...] | None = None
    cameras: tuple[DescribedCamera, ...] | None = None

    def hints(self, given: Hints) -> Hints:
        """What a source is opened with: what is ``given`` on the command line wins."""
        said = {f.name: getattr(self, f.name) for f in fields(Hints) if getattr(given, f.name) is None}
        return replace(given, **said)


def load_description(path: Path) -> Description:
    """Read the file; an unknown key, a value of the wrong type or unit, and limits out of order are a `ConfigError`."""
    description = from_dict(Description, read_yaml(path, what="description"), where=str(path))
    for part in ("state", "action"):
        dimensions: tuple[DescribedDimension, ...] = getattr(description, part) or ()
        for place, dimension in enumerate(dimensions):
            _check_dimension(dimension, f"{path}: {part}[{place}]")
        _check_unique([d.name for d in dimensions], f"{path}: {part}")
    _check_unique([c.name for c in description.cameras or () if c.name is not None], f"{path}: cameras")
    if description.control_hz is not None and not 0 < description.control_hz < math.inf:
        raise ConfigError(f"{path}: control_hz: expected steps a second, got {description.control_hz:g}; correct it")
    return description


def as_provenance(description: Description, path: Path) -> dict[str, Any]:
    """What a dataset keeps of it, as plain JSON."""
    return {"file": str(path), **{key: value for key, value in to_dict(description).items() if value not in (None, {})}}


def origin_of_limits(provenance: Mapping[str, Any]) -> str:
    """Where the limits of a segment with this provenance come from, in a few words."""
    packed = provenance.get("packed_from")
    if isinstance(packed, Mapping) and packed:
        return origin_of_limits(next(iter(packed.values())))
    described = provenance.get("description")
    if isinstance(described, Mapping):
        numbers = [number for part in ("state", "action") for number in described.get(part) or ()]
        given = sum(number.get("low") is not None and number.get("high") is not None for number in numbers)
        if given:
            rest = "all" if given == len(numbers) else f"{given} of {len(numbers)} numbers, the others of the data"
            return f"known: described in {described.get('file')} for {rest}"
    if "notes" in provenance:
        return "not known: what the recordings or the range of their data say; describe them when importing"
    if copied := next((provenance[key] for key in ("merged_from", "repaired_from") if key in provenance), None):
        return f"not said here: the episodes were copied from {copied}"
    return "known: those of the robot or environment that recorded"


def _check_dimension(dimension: DescribedDimension, where: str) -> None:
    if not dimension.name.strip():
        raise ConfigError(f"{where}.name: expected a name, got {dimension.name!r}; {dimension.was!r} keeps the old one")
    if str(dimension.unit) not in UNITS:
        raise ConfigError(f"{where}.unit: expected one of {', '.join(UNITS)}, got {str(dimension.unit)!r}; convert it")
    for key in ("low", "high"):
        value = getattr(dimension, key)
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"{where}.{key}: expected a finite number, got {value}; null keeps the range of the data")
    if dimension.low is not None and dimension.high is not None and not dimension.low < dimension.high:
        raise ConfigError(
            f"{where}: low must be below high, got [{dimension.low:g}, {dimension.high:g}] of {dimension.name}; "
            "swap or correct them"
        )


def _check_unique(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{where}: expected names of their own, got {', '.join(twice)} more than once; rename one")
