"""The Zarr replay buffers of diffusion_policy and UMI as a source of episodes.

``data/<key>`` holds the rows of all episodes one after the other, and ``meta/episode_ends`` where each ends: Zarr
version 2, in a folder or a zip file.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.media.video import frame_rate
from vla.core.types import Episode
from vla.datasets.formats.diffusion_policy.layout import Layout, plan_layout
from vla.datasets.formats.dimensions import as_rows
from vla.datasets.formats.pictures import as_pixels
from vla.datasets.formats.source import Hints

ENDS = "meta/episode_ends"


def recognise(path: Path) -> bool:
    """Whether ``path`` is a folder or a zip file with ``meta/episode_ends``; never raises."""
    import zipfile

    try:
        if path.is_dir():
            return (path / ENDS / ".zarray").is_file() and (path / "data").is_dir()
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as file:
            return f"{ENDS}/.zarray" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def open_diffusion_policy(path: Path, hints: Hints) -> "ReplayBufferSource":
    """Read the ends of the episodes and every low-dimensional array; damage is a `DatasetError`."""
    with open_buffer(path) as root:
        ends = _ends(root, path)
        layout = plan_layout(dict(root["data"].arrays()), path, int(ends[-1]), hints)
    return ReplayBufferSource(path=path, hints=hints, layout=layout, ends=tuple(int(end) for end in ends))


@dataclass(frozen=True, kw_only=True)
class ReplayBufferSource:
    """The episodes of a replay buffer; made by `open_diffusion_policy`."""

    path: Path
    hints: Hints
    layout: Layout
    ends: tuple[int, ...]
    """The row after the last of each episode."""

    @property
    def contract(self) -> Contract:
        """From the names and shapes of the arrays."""
        return self.layout.contract

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left out."""
        return self.layout.notes

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.ends)

    def read(self, number: int) -> Episode:
        """One episode, of which only its own rows are read; damage and bad numbers are a `DatasetError`."""
        rows = slice(self.ends[number - 1] if number else 0, self.ends[number])
        steps = rows.stop - rows.start
        with open_buffer(self.path) as root:
            data = root["data"]
            action = self._vectors(data, self.layout.action, rows)
            state = self._vectors(data, self.layout.state, rows)
            images = {
                name: as_pixels(data[key][rows], f"{self.path}: data/{key}, rows {rows.start} to {rows.stop}")
                for name, key in self.layout.cameras.items()
            }
        rate = frame_rate(self.contract.control_hz)
        time_ns = np.arange(steps, dtype=np.int64) * (1_000_000_000 * rate.denominator) // rate.numerator
        return Episode(
            images=images,
            state=state,
            action=action,
            action_executed=action,
            reward=np.zeros(steps, np.float32),
            done=np.arange(steps) == steps - 1,
            valid=np.ones(steps, bool),
            time_ns=time_ns,
            command_time_ns=time_ns,
            instruction=self.layout.instruction,
            task=self.hints.task or self.layout.instruction,
            split=self.hints.split or "train",
            seed=0,
            success=None,
            provenance={"format": "diffusion-policy", "file": self.path.name, "episode": number},
        )

    def _vectors(self, data: Any, keys: tuple[str, ...], rows: slice) -> np.ndarray:
        """Arrays side by side: float32 (t, w)."""
        parts = [as_rows(data[key][rows], f"{self.path}: data/{key} from row {rows.start}") for key in keys]
        return np.concatenate([np.empty((rows.stop - rows.start, 0), np.float32), *parts], axis=1)


@contextlib.contextmanager
def open_buffer(path: Path) -> Iterator[Any]:
    """The root group; what cannot be opened or decoded, here or while it is read, is a `DatasetError`."""
    import zipfile

    import zarr
    import zarr.errors
    from zarr.storage import LocalStore, ZipStore

    from vla.datasets.formats.diffusion_policy.checked_store import CheckedStore

    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    try:
        if not path.is_dir():
            zipfile.ZipFile(path).close()  # a ZipStore that cannot be opened fails once more when it is closed
        with LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r") as store:
            _register_codecs()
            yield zarr.open_group(CheckedStore(store), mode="r", zarr_format=2, use_consolidated=False)
    except DatasetError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, zarr.errors.BaseZarrError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"{path}: not a readable Zarr store of version 2 ({reason}); it is cut short or damaged: copy it again"
        ) from None


def _ends(root: Any, path: Path) -> np.ndarray:
    """int64 (episodes,), rising, from at least 1."""
    where = f"{path}: {ENDS}"
    if "data" not in root or ENDS not in root:
        raise DatasetError(f"{path}: expected groups data and meta with episode_ends, got {sorted(root)}")
    ends = np.asarray(root[ENDS][...])
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or not len(ends):
        raise DatasetError(
            f"{where}: expected at least one whole number, got {ends.dtype} {ends.shape}; nothing was recorded"
        )
    lengths = np.diff(ends.astype(np.int64), prepend=0)
    if (lengths < 1).any():
        number = int(np.flatnonzero(lengths < 1)[0])
        raise DatasetError(
            f"{where}: expected rising numbers, got {int(ends[number])} for episode {number}, "
            f"which begins at {int(ends[number]) - int(lengths[number])}; the file is damaged: copy it again"
        )
    return ends.astype(np.int64)


def _register_codecs() -> None:
    """UMI's pictures are JPEG XL: numcodecs knows the codec only after imagecodecs has told it."""
    from numcodecs.registry import codec_registry

    if "imagecodecs_jpegxl" in codec_registry:
        return
    with contextlib.suppress(ModuleNotFoundError):
        from imagecodecs.numcodecs import register_codecs

        register_codecs(verbose=False)
