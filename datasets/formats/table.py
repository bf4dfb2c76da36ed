"""Which format a path holds, and the importers and exporters of every format by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vla.core.errors import DatasetError
from vla.core.lookup import lookup
from vla.datasets.dataset import Dataset
from vla.datasets.formats.source import Exported, Hints, OnEpisode, Source

Export = Callable[[Dataset, Path, OnEpisode | None, bool], Exported]
"""Dataset, target, progress, and whether frames must stay exact where the format usually packs them as video."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one format is known, read and written; the modules are imported when they are asked for."""

    looks: str
    """What a user finds at its path."""
    recognise: Callable[[Path], bool]
    open: Callable[[Path, Hints], Source]
    export: Export | None = None


def _recognise_lerobot(path: Path) -> bool:
    from vla.datasets.formats.lerobot.source import recognise

    return recognise(path)


def _open_lerobot(path: Path, hints: Hints) -> Source:
    from vla.datasets.formats.lerobot.source import open_lerobot

    return open_lerobot(path, hints)


def _export_lerobot(dataset: Dataset, out: Path, on_episode: OnEpisode | None, lossless: bool) -> Exported:
    from vla.datasets.formats.lerobot.export import export_lerobot

    return export_lerobot(dataset, out, on_episode, use_videos=not lossless)


def _recognise_robomimic(path: Path) -> bool:
    from vla.datasets.formats.robomimic.source import recognise

    return recognise(path)


def _open_robomimic(path: Path, hints: Hints) -> Source:
    from vla.datasets.formats.robomimic.source import open_robomimic

    return open_robomimic(path, hints)


def _export_robomimic(dataset: Dataset, out: Path, on_episode: OnEpisode | None, lossless: bool) -> Exported:
    from vla.datasets.formats.robomimic.export import export_robomimic

    return export_robomimic(dataset, out, on_episode)


def _recognise_diffusion_policy(path: Path) -> bool:
    from vla.datasets.formats.diffusion_policy.source import recognise

    return recognise(path)


def _open_diffusion_policy(path: Path, hints: Hints) -> Source:
    from vla.datasets.formats.diffusion_policy.source import open_diffusion_policy

    return open_diffusion_policy(path, hints)


def _export_diffusion_policy(dataset: Dataset, out: Path, on_episode: OnEpisode | None, lossless: bool) -> Exported:
    from vla.datasets.formats.diffusion_policy.export import export_diffusion_policy

    return export_diffusion_policy(dataset, out, on_episode)


def _recognise_rlds(path: Path) -> bool:
    from vla.datasets.formats.rlds.source import recognise

    return recognise(path)


def _open_rlds(path: Path, hints: Hints) -> Source:
    from vla.datasets.formats.rlds.source import open_rlds

    return open_rlds(path, hints)


def _recognise_mcap(path: Path) -> bool:
    from vla.datasets.formats.mcap.source import recognise

    return recognise(path)


def _open_mcap(path: Path, hints: Hints) -> Source:
    from vla.datasets.formats.mcap.source import open_mcap

    return open_mcap(path, hints)


FORMATS: dict[str, Format] = {
    "lerobot": Format(
        looks="a folder with meta/info.json",
        recognise=_recognise_lerobot,
        open=_open_lerobot,
        export=_export_lerobot,
    ),
    "robomimic": Format(
        looks="a .hdf5 file with /data/demo_0/actions (robomimic, robosuite, LIBERO), or a folder of such files",
        recognise=_recognise_robomimic,
        open=_open_robomimic,
        export=_export_robomimic,
    ),
    "diffusion-policy": Format(
        looks="a .zarr folder or .zarr.zip file with meta/episode_ends",
        recognise=_recognise_diffusion_policy,
        open=_open_diffusion_policy,
        export=_export_diffusion_policy,
    ),
    "rlds": Format(
        looks="a folder with features.json, dataset_info.json and .tfrecord files",
        recognise=_recognise_rlds,
        open=_open_rlds,
    ),
    "mcap": Format(
        looks="an .mcap file, or a folder of them",
        recognise=_recognise_mcap,
        open=_open_mcap,
    ),
}


def open_source(path: Path, hints: Hints, format: str | None = None) -> Source:
    """Open recorded episodes in the given format, or in the one that the path is recognised as.

    A path of no known format is a `DatasetError` that says what was found and what each format looks like; an unknown
    name is an `UnknownNameError`.
    """
    if format is not None:
        return lookup("format", format, FORMATS).open(path, hints)
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    name = recognise(path)
    if name is None:
        raise DatasetError(_explain(path))
    return FORMATS[name].open(path, hints)


def recognise(path: Path) -> str | None:
    """The name of the first format that ``path`` looks like."""
    return next((name for name, entry in FORMATS.items() if entry.recognise(path)), None)


def _explain(path: Path) -> str:
    known = "; ".join(f"{name}: {entry.looks}" for name, entry in FORMATS.items())
    inside = [(child, recognise(child)) for child in sorted(path.iterdir())[:20]] if path.is_dir() else []
    nearby = next((f"; did you mean {child} ({name})?" for child, name in inside if name is not None), "")
    return f"{path}: expected recorded episodes, got {_found(path)}{nearby}. Formats are: {known}"


def _found(path: Path) -> str:
    if path.is_dir():
        names = sorted(child.name + ("/" if child.is_dir() else "") for child in path.iterdir())
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"a folder with {', '.join(names[:8])}{more}" if names else "an empty folder"
    with path.open("rb") as file:
        start = file.read(8)
    return f"a file of {path.stat().st_size} bytes that begins with {start!r}"
