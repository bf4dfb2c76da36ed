"""Arrays written here are read by zarr-python and the reverse; damage is never data."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

from vla.core.errors import DatasetError
from vla.datasets.frames.codecs import ZSTD_LEVEL
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.arrays import read_array, write_array, write_group
from vla.datasets.store.layout import LOW_DIMENSIONAL

DTYPES = sorted({dtype for dtype, _ in LOW_DIMENSIONAL.values()} | {"float64"})
ROWS = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)


def arrays() -> st.SearchStrategy[np.ndarray]:
    shapes = hn.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=6)
    return st.sampled_from(DTYPES).flatmap(lambda dtype: hn.arrays(dtype, shapes))


def read(folder: Path, array: np.ndarray) -> np.ndarray:
    return read_array(LocalStorage(folder.parent), folder.name, shape=array.shape, dtype=array.dtype.name)


def same(found: Any, expected: np.ndarray) -> bool:
    found = np.asarray(found)
    return (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


@given(array=arrays())
def test_zarr_reads_what_is_written_here(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("größe 1") / "ours"
    names = ("time", "column")[: array.ndim]
    write_array(folder, array, names)
    theirs = zarr.open_array(folder, mode="r")
    assert same(theirs[...], array)
    assert theirs.metadata.dimension_names == names  # type: ignore[union-attr]
    assert same(read(folder, array), array)


@given(array=arrays())
def test_what_zarr_writes_is_read_here(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("x") / "theirs"
    codec = ZstdCodec(level=ZSTD_LEVEL, checksum=True)
    options: dict[str, Any] = {"compressors": codec, "filters": None, "config": {"write_empty_chunks": True}}
    zarr.create_array(folder, data=array, chunks=array.shape, **options)  # a chunk that is absent is refused here
    assert same(read(folder, array), array)


def test_the_metadata_is_that_of_zarr(tmp_path: Path) -> None:
    write_array(tmp_path / "a", ROWS, ("time", "action"))
    codec = ZstdCodec(level=ZSTD_LEVEL, checksum=True)
    zarr.create_array(
        tmp_path / "b", data=ROWS, chunks=ROWS.shape, compressors=codec, dimension_names=("time", "action")
    )
    files = ["c/0/0", "zarr.json"]
    for folder in ("a", "b"):
        found = sorted(p.relative_to(tmp_path / folder).as_posix() for p in (tmp_path / folder).rglob("*"))
        assert [name for name in found if (tmp_path / folder / name).is_file()] == files
    ours, theirs = (json.loads((tmp_path / folder / "zarr.json").read_text()) for folder in ("a", "b"))
    assert ours == theirs


OTHERWISE: dict[str, dict[str, Any]] = {
    "gzip": {"compressors": GzipCodec()},
    "raw": {"compressors": None},
    "zstd without checksum": {"compressors": ZstdCodec(level=1)},
    "two codecs": {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
    "many chunks": {"chunks": (4, 3)},
    "shards": {"chunks": (2, 4), "shards": (4, 4)},
    "big endian": {"serializer": BytesCodec(endian="big"), "compressors": ZstdCodec(level=ZSTD_LEVEL, checksum=True)},
    "flat keys": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
}


@pytest.mark.parametrize("how", OTHERWISE)
def test_what_others_pack_otherwise_is_read(tmp_path: Path, how: str) -> None:
    options = {"chunks": ROWS.shape, **OTHERWISE[how]}
    zarr.create_array(tmp_path / "a", shape=ROWS.shape, dtype=ROWS.dtype, **options)[...] = ROWS
    found = read(tmp_path / "a", ROWS)
    np.testing.assert_array_equal(found, ROWS)
    assert found.dtype == ROWS.dtype


@pytest.mark.parametrize("how", ["many chunks", "shards", "gzip"])
def test_a_missing_chunk_is_never_zeros(tmp_path: Path, how: str) -> None:
    options = {"chunks": ROWS.shape, **OTHERWISE[how]}
    zarr.create_array(tmp_path / "a", shape=ROWS.shape, dtype=ROWS.dtype, **options)[...] = ROWS
    next(path for path in sorted((tmp_path / "a" / "c").rglob("*")) if path.is_file()).unlink()
    with pytest.raises(DatasetError, match=r"/a: chunks are missing; run vla data repair"):
        read(tmp_path / "a", ROWS)


def test_every_flipped_bit_of_a_chunk_is_noticed(tmp_path: Path) -> None:
    write_array(tmp_path / "a", ROWS, ("time", "action"))
    chunk = tmp_path / "a" / "c" / "0" / "0"
    data = chunk.read_bytes()
    named = silent = 0
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(damaged)
        try:
            found = read(tmp_path / "a", ROWS)
        except DatasetError as error:
            named += f"{tmp_path}/a: " in str(error)
        else:
            silent += 1
            assert same(found, ROWS)  # some bits of zstd's header mean nothing
    assert silent <= 4
    assert named + silent == 8 * len(data)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    write_array(tmp_path / "a", ROWS, ("time", "action"))
    for name in ("c/0/0", "zarr.json"):
        data = (tmp_path / "a" / name).read_bytes()
        for size in range(len(data)):
            (tmp_path / "a" / name).write_bytes(data[:size])
            with pytest.raises(DatasetError, match="/a: "):
                read(tmp_path / "a", ROWS)
        (tmp_path / "a" / name).write_bytes(data)
    assert same(read(tmp_path / "a", ROWS), ROWS)


def test_missing_files(tmp_path: Path) -> None:
    for name in ("c/0/0", "zarr.json"):
        write_array(tmp_path / "a", ROWS, ("time", "action"))
        (tmp_path / "a" / name).unlink()
        with pytest.raises(DatasetError, match="/a: cannot be read"):
            read(tmp_path / "a", ROWS)


@pytest.mark.parametrize(
    "wrong", [ROWS[:8], ROWS[:, :3], ROWS.T, ROWS[:, 0], ROWS.astype(np.float64), ROWS.view(np.int32)]
)
def test_another_shape_or_dtype_is_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    write_array(tmp_path / "a", wrong, ("time", "action")[: wrong.ndim])
    with pytest.raises(DatasetError, match=r"/a: expected float32 \(9, 4\), got "):
        read(tmp_path / "a", ROWS)


def test_any_damage_of_the_metadata_is_an_error_or_harmless(tmp_path: Path) -> None:
    write_array(tmp_path / "a", ROWS, ("time", "action"))
    data = (tmp_path / "a" / "zarr.json").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python warns of members that it does not know
        for bit in range(0, 8 * len(data), 3):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            (tmp_path / "a" / "zarr.json").write_bytes(damaged)
            try:
                found = read(tmp_path / "a", ROWS)
            except DatasetError:
                continue
            assert same(found, ROWS)


def test_writing_over_a_half_written_array(tmp_path: Path) -> None:
    write_array(tmp_path / "a", np.zeros((20, 4), np.float32), ("time", "action"))
    (tmp_path / "a" / "zarr.json").unlink()
    write_array(tmp_path / "a", ROWS, ("time", "action"))
    assert same(read(tmp_path / "a", ROWS), ROWS)


def test_groups(tmp_path: Path) -> None:
    write_group(tmp_path / "x.zarr", {"operator": "Jürgen", "version": [1, 2]})
    write_group(tmp_path / "x.zarr" / "inner", {})
    write_array(tmp_path / "x.zarr" / "inner" / "a", ROWS, ("time", "action"))
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert dict(group.attrs) == {"operator": "Jürgen", "version": [1, 2]}
    assert same(group["inner/a"][...], ROWS)  # type: ignore[index]
    with pytest.raises(ValueError, match="JSON"):
        write_group(tmp_path / "y.zarr", {"a": float("nan")})


def test_arrays_that_are_not_contiguous(tmp_path: Path) -> None:
    write_array(tmp_path / "a", ROWS.T, ("time", "action"))
    assert same(read(tmp_path / "a", ROWS.T), np.ascontiguousarray(ROWS.T))
