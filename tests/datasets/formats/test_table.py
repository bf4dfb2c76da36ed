"""Formats are recognised by what lies at a path."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import h5py
import numpy as np
import pytest
import zarr

from vla.core.errors import DatasetError, UnknownNameError
from vla.core.machine.packages import MissingPackageError
from vla.datasets.formats.mcap.topics import McapTopics
from vla.datasets.formats.robomimic.source import RobomimicSource
from vla.datasets.formats.source import Hints, Source
from vla.datasets.formats.table import FORMATS, format_of, open_source, recognise


def write_robomimic(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((3, 2))
        file["data/demo_0/obs/robot0_eef_pos"] = np.zeros((3, 3))
    return path


def write_buffer(path: Path) -> Path:
    root = zarr.open_group(path, mode="w", zarr_format=2)
    for key, array in {"data/action": np.ones((3, 2)), "meta/episode_ends": np.array([3])}.items():
        root.create_array(key, shape=array.shape, dtype=array.dtype)[...] = array
    return path


def test_each_format_is_recognised_and_opened(tmp_path: Path) -> None:
    for name, path in {
        "robomimic": write_robomimic(tmp_path / "a b.hdf5"),
        "diffusion-policy": write_buffer(tmp_path / "c d.zarr"),
    }.items():
        assert recognise(path) == name
        for source in (open_source(path, Hints()), open_source(path, Hints(), name)):
            assert isinstance(source, Source)
            assert (len(source), len(source.read(0))) == (1, 3)


def test_only_one_format_claims_a_path(tmp_path: Path) -> None:
    for path in (write_robomimic(tmp_path / "a.hdf5"), write_buffer(tmp_path / "b.zarr")):
        assert len([name for name, entry in FORMATS.items() if entry.recognise(path)]) == 1


def test_exports_are_those_that_exist() -> None:
    assert [name for name, entry in FORMATS.items() if entry.export] == ["lerobot", "robomimic", "diffusion-policy"]


def test_a_format_of_ones_own_is_named_by_its_module(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "a.hdf5")
    name = "vla.datasets.formats.robomimic.format:ROBOMIMIC"
    assert format_of(name) is FORMATS["robomimic"]
    assert len(open_source(path, Hints(), name)) == 1


def test_options_reach_the_format(tmp_path: Path) -> None:
    source = open_source(write_robomimic(tmp_path / "a.hdf5"), Hints())
    seen: list[object] = []

    def takes_them(path: Path, hints: Hints, options: McapTopics) -> Source:
        seen.append(options)
        return source

    topics = McapTopics(state=("/joint_states",))
    with patch.dict(FORMATS, {"mcap": replace(FORMATS["mcap"], open=takes_them)}):
        assert open_source(tmp_path, Hints(), "mcap", topics) is source
    assert seen == [topics]


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path) -> None:
    def needs_it(path: Path, hints: Hints) -> Source:
        raise ModuleNotFoundError("No module named 'mcap'", name="mcap")

    entry = replace(FORMATS["mcap"], open=needs_it)
    expected = r"the package mcap is needed and not installed: pip install 'vla\[mcap\]'"
    with patch.dict(FORMATS, {"mcap": entry}), pytest.raises(MissingPackageError, match=expected):
        open_source(tmp_path, Hints(), "mcap")


def test_unknown_paths_say_what_was_found_and_what_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "my episodes"
    folder.mkdir()
    (folder / "notes.txt").write_text("häh")
    with pytest.raises(DatasetError, match=r"got a folder with notes\.txt\. Formats are") as caught:
        open_source(folder, Hints())
    for name, entry in FORMATS.items():
        assert f"{name}: {entry.looks}" in str(caught.value)
    with pytest.raises(DatasetError, match=r"got text that begins with 'häh'"):
        open_source(folder / "notes.txt", Hints())
    with pytest.raises(DatasetError, match="does not exist"):
        open_source(folder / "none", Hints())
    (folder / "notes.txt").unlink()
    with pytest.raises(DatasetError, match="got an empty folder"):
        open_source(folder, Hints())
    write_buffer(folder / "inner.zarr")
    with pytest.raises(DatasetError, match=r"did you mean .*inner\.zarr \(diffusion-policy\)"):
        open_source(folder, Hints())


def test_a_damaged_file_is_called_damaged(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "a.hdf5")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"a\.hdf5: not a readable HDF5 file"):
        open_source(path, Hints())


def test_a_name_that_is_wrong(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "a.hdf5")
    with pytest.raises(UnknownNameError, match="unknown dataset format 'robomimik': did you mean 'robomimic'"):
        open_source(path, Hints(), "robomimik")
    with pytest.raises(DatasetError):
        open_source(path, Hints(), "diffusion-policy")
    assert isinstance(open_source(path, Hints(), "robomimic"), RobomimicSource)
