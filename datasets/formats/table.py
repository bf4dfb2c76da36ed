"""The formats by name, ours and users' own, and which of them a path holds."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from vla.core.config import from_dict
from vla.core.errors import ConfigError, DatasetError
from vla.core.lookup import known_names, lookup
from vla.core.machine.packages import needed_packages
from vla.core.media.signatures import cause_of, kind_of
from vla.datasets.formats.diffusion_policy.format import DIFFUSION_POLICY
from vla.datasets.formats.lerobot.format import LEROBOT
from vla.datasets.formats.mcap.format import MCAP
from vla.datasets.formats.rlds.format import RLDS
from vla.datasets.formats.robomimic.format import ROBOMIMIC
from vla.datasets.formats.source import Format, Hints, Source, TurnedSource, check_flips

FORMATS: dict[str, Format] = {
    "lerobot": LEROBOT,
    "robomimic": ROBOMIMIC,
    "diffusion-policy": DIFFUSION_POLICY,
    "rlds": RLDS,
    "mcap": MCAP,
}
_GROUP = "vla.formats"


def format_of(name: str) -> Format:
    """The format of this name: one of ours, of an entry point ``vla.formats``, or ``module:Name``."""
    return lookup("dataset format", name, FORMATS, group=_GROUP)


def all_formats() -> dict[str, Format]:
    """Every format that has a name, ours first."""
    return {name: format_of(name) for name in known_names(FORMATS, group=_GROUP)}


def open_source(path: Path, hints: Hints, name: str | None = None, options: Any = None) -> Source:
    """Open recorded episodes in the format of this name, or in the one that the path is recognised as.

    ``options`` is a value of the format's own `Format.options`, or a mapping of what differs from it. A path of no
    known format is a `DatasetError` that says what was found and what each format looks like; an unknown name is an
    `UnknownNameError`.
    """
    name = name or recognised(path)
    entry = format_of(name)
    if isinstance(options, Mapping):
        if options and entry.options is None:
            raise ConfigError(f"format {name} has no options, got {', '.join(map(str, options))}; leave --set out")
        options = from_dict(entry.options, dict(options), where="--set") if entry.options and options else None
    with needed_libraries(name, entry):
        source: Source = entry.open(path, hints) if options is None else entry.open(path, hints, options)
    if not hints.flip_images or entry.orients:
        return source
    check_flips(hints.flip_images, [camera.name for camera in source.contract.cameras])
    return TurnedSource(source=source, cameras=hints.flip_images)


def needed_libraries(name: str, entry: Format) -> AbstractContextManager[None]:
    """Make a library that is not installed a `MissingPackageError` that says what to install."""
    return needed_packages(f"format {name}", extra=entry.extra)


def recognised(path: Path) -> str:
    """The name of the format that ``path`` looks like; none at all is a `DatasetError`."""
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    name = recognise(path)
    if name is None:
        raise DatasetError(_explain(path))
    return name


def recognise(path: Path) -> str | None:
    """The name of the first format that ``path`` looks like."""
    return next((name for name, entry in all_formats().items() if entry.recognise(path)), None)


def _explain(path: Path) -> str:
    known = "; ".join(f"{name}: {entry.looks}" for name, entry in all_formats().items())
    inside = [(child, recognise(child)) for child in sorted(path.iterdir())[:20]] if path.is_dir() else []
    nearby = next((f"; did you mean {child} ({name})?" for child, name in inside if name is not None), "")
    return f"{path}: {_found(path)}{nearby}. Formats are: {known}"


def _found(path: Path) -> str:
    expected = "recorded episodes"
    if path.is_dir():
        names = sorted(child.name + ("/" if child.is_dir() else "") for child in path.iterdir())
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        found = f"a folder with {', '.join(names[:8])}{more}" if names else "an empty folder"
        return f"expected {expected}, got {found}"
    if cause := cause_of(path, expected):
        return cause
    with path.open("rb") as file:
        start = file.read(512)
    kind = kind_of(start)
    return f"expected {expected}, got a file of {path.stat().st_size} bytes " + (
        f"({kind})" if kind else f"that begins with {start[:8]!r}"
    )
