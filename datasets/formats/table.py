"""The formats by name, ours and users' own, and which of them a path holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vla.core.errors import DatasetError
from vla.core.lookup import known_names, lookup
from vla.core.media.signatures import kind_of
from vla.datasets.formats.diffusion_policy.format import DIFFUSION_POLICY
from vla.datasets.formats.lerobot.format import LEROBOT
from vla.datasets.formats.mcap.format import MCAP
from vla.datasets.formats.rlds.format import RLDS
from vla.datasets.formats.robomimic.format import ROBOMIMIC
from vla.datasets.formats.source import Format, Hints, Source

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

    ``options`` is a value of the format's own `Format.options`. A path of no known format is a `DatasetError` that says
    what was found and what each format looks like; an unknown name is an `UnknownNameError`.
    """
    if name is None:
        if not path.exists():
            raise DatasetError(f"{path} does not exist")
        name = recognise(path)
        if name is None:
            raise DatasetError(_explain(path))
    entry = format_of(name)
    with needed_libraries(name, entry):
        return entry.open(path, hints) if options is None else entry.open(path, hints, options)


@contextmanager
def needed_libraries(name: str, entry: Format) -> Iterator[None]:
    """Make a library that is not installed a `DatasetError` that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise DatasetError(f"format {name}: needs the package {error.name}: pip install 'vla[{entry.extra}]'") from None


def recognise(path: Path) -> str | None:
    """The name of the first format that ``path`` looks like."""
    return next((name for name, entry in all_formats().items() if entry.recognise(path)), None)


def _explain(path: Path) -> str:
    known = "; ".join(f"{name}: {entry.looks}" for name, entry in all_formats().items())
    inside = [(child, recognise(child)) for child in sorted(path.iterdir())[:20]] if path.is_dir() else []
    nearby = next((f"; did you mean {child} ({name})?" for child, name in inside if name is not None), "")
    return f"{path}: expected recorded episodes, got {_found(path)}{nearby}. Formats are: {known}"


def _found(path: Path) -> str:
    if path.is_dir():
        names = sorted(child.name + ("/" if child.is_dir() else "") for child in path.iterdir())
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"a folder with {', '.join(names[:8])}{more}" if names else "an empty folder"
    with path.open("rb") as file:
        start = file.read(512)
    kind = kind_of(start)
    return f"a file of {path.stat().st_size} bytes " + (f"({kind})" if kind else f"that begins with {start[:8]!r}")
