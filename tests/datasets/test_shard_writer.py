"""Shards written here are those that zarr-python reads."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from vla.datasets.shard_reader import ShardReader
from vla.datasets.shard_writer import ShardWriter


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("contiguous", [True, False])
def test_zarr_and_our_reader_agree(tmp_path: Path, count: int, contiguous: bool) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, 6, 8, 3), np.uint8)
    images[0] = 0  # what Zarr would by default not store
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=3)
    writer = ShardWriter(group, "eye", tmp_path / "x.zarr" / "eye", shard_frames=4)
    given = images if contiguous else np.ascontiguousarray(images.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    writer.append(given[:2])
    writer.append(given[2:])
    assert writer.close((6, 8, 3)) == count
    array = zarr.open_array(tmp_path / "x.zarr" / "eye", mode="r")
    assert (array.chunks, array.shards) == ((1, 6, 8, 3), (4, 6, 8, 3))
    np.testing.assert_array_equal(array[...], images)
    reader = ShardReader(tmp_path / "x.zarr" / "eye")
    np.testing.assert_array_equal(np.stack([reader.frame(i) for i in range(count)]), images)
