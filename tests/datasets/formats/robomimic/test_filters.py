"""A filter that this machine lacks is named, with the package that brings it."""

import re
from pathlib import Path

import h5py
import pytest

from vla.core.errors import DatasetError
from vla.datasets.formats.robomimic.filters import missing_filters
from vla.datasets.formats.robomimic.source import open_robomimic, recognise
from vla.datasets.formats.source import Hints

BLOSC = Path(__file__).parents[1] / "fixtures" / "blosc.hdf5"


def test_frames_of_a_plug_in(tmp_path: Path) -> None:
    """Written by hdf5plugin: read where it is installed, and named where it is not."""
    assert recognise(BLOSC)
    try:
        import hdf5plugin  # noqa: F401
    except ModuleNotFoundError:
        said = r"demo_0: obs/agentview_image: packed with the HDF5 filter 32001 \(Blosc\).*: pip install hdf5plugin$"
        with pytest.raises(DatasetError, match=said):
            open_robomimic(BLOSC, Hints())
    else:
        frames = open_robomimic(BLOSC, Hints()).read(0).images["agentview"]
        assert frames.ravel()[:4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("code", "said"), [(32026, "Blosc2.*pip install hdf5plugin"), (40000, "40000 .*HDF5_PLUGIN_PATH")]
)
def test_others_are_named_by_their_number(tmp_path: Path, code: int, said: str) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((3, 4))
        properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((3, 4))
        array = h5py.Dataset(h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, properties))
        array.id.write_direct_chunk((0, 0), b"packed", 0)
        missing = missing_filters(array)
    assert missing is not None
    assert re.search(said, missing)


def test_what_hdf5_brings_is_not_missing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        array = file.create_dataset("x", (3,), "f4", compression="gzip", shuffle=True, fletcher32=True)
        assert missing_filters(array) is None
