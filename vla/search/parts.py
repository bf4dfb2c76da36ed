"""Parts of an index: the vectors of some episodes and what they are of, in a sealed folder that never changes.

INDEX/parts/NAME/
COMMIT.json       the seal, written last: a part without it was cut short and does not count
vectors.npy       float16 (rows, e), unit vectors
rows.npy          what each row is of: episode (a position in ``uids``), camera, step, time
episodes.json     the uids of the episodes, and the names of the cameras
"""

import io
import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32

from vla.core.errors import SearchError
from vla.core.files import NotPlainError, make_folder, open_below, write_atomic
from vla.core.sealed import COMMIT, DamageError, SealedFolder, listed, parse_json, seal_folder, text

ROW = np.dtype([("episode", "<i4"), ("camera", "<i4"), ("step", "<i4"), ("time_ns", "<i8")])
PARTS = "parts"


@dataclass(frozen=True, kw_only=True)
class Part:
    """The frames of some episodes."""

    name: str
    digest: str
    """Of its seal."""
    uids: tuple[str, ...]
    cameras: tuple[str, ...]
    rows: np.ndarray
    """Of `ROW`."""
    vectors: Float16[np.ndarray, "n e"]
    """Read from disk as they are used."""


def write_part(
    folder: Path, vectors: Float32[np.ndarray, "n e"], rows: np.ndarray, uids: Sequence[str], cameras: Sequence[str]
) -> str:
    """Write and seal one part of the index in ``folder``; its name."""
    name = secrets.token_hex(8)
    place = folder / PARTS / name
    make_folder(place)
    for file, array in (("vectors.npy", vectors.astype(np.float16)), ("rows.npy", rows)):
        data = io.BytesIO()
        np.save(data, array, allow_pickle=False)
        write_atomic(place / file, data.getvalue())
    write_atomic(place / "episodes.json", json.dumps({"uids": list(uids), "cameras": list(cameras)}).encode())
    seal_folder(place)
    return name


def read_parts(folder: Path, width: int, fix: str) -> list[Part]:
    """All parts that were finished, by name; one that is damaged is a `SearchError` with the ``fix``."""
    places = sorted(place for place in (folder / PARTS).glob("*") if (place / COMMIT).exists())
    return [_read(place, width, fix) for place in places]


def remove_unfinished(folder: Path) -> None:
    """Take away what writers that died have left."""
    for place in (folder / PARTS).glob("*"):
        if not (place / COMMIT).exists():
            shutil.rmtree(place)


def _read(place: Path, width: int, fix: str) -> Part:
    sealed = SealedFolder.open(place, error=SearchError, fix=fix)
    sealed.check(error=SearchError, fix=fix)
    try:
        value = parse_json(sealed.read("episodes.json", error=SearchError, fix=fix))
        uids, cameras = (listed(value.get(key), key, text) for key in ("uids", "cameras"))
        rows, vectors = (_array(place, file) for file in ("rows.npy", "vectors.npy"))
        if rows.dtype != ROW or vectors.dtype != np.float16 or vectors.shape != (len(rows), width):
            raise DamageError(
                f"its arrays are {rows.dtype} and {vectors.dtype} {vectors.shape}, expected width {width}"
            )
        for column, names in (("episode", uids), ("camera", cameras)):
            if len(rows) and not 0 <= rows[column].min() <= rows[column].max() < len(names):
                raise DamageError(f"rows.npy names {column}s that are not there")
    except (DamageError, NotPlainError) as what:
        raise SearchError(f"{place} is damaged: {what}; {fix}") from None
    return Part(name=place.name, digest=sealed.digest, uids=uids, cameras=cameras, rows=rows, vectors=vectors)


def _array(place: Path, name: str) -> np.ndarray:
    """An array whose values are read from disk when they are used; links are not followed."""
    with open(open_below(place, name), "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            if dtype.hasobject:
                raise DamageError(f"{name} holds objects, which are never read")
            return np.memmap(file, dtype, "r", file.tell(), shape) if 0 not in shape else np.empty(shape, dtype)
        except ValueError as error:
            raise DamageError(f"{name}: {error}") from None
