"""Which way is up is written, asked for, or kept with a note."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.datasets.formats.robomimic.source import open_robomimic
from vla.datasets.formats.source import Hints

Recording = Callable[..., Path]


def convention(value: str) -> Callable[[h5py.File], None]:
    return lambda file: file["data"].attrs.__setitem__("macros_image_convention", value)


def is_turned(path: Path, hints: Hints) -> bool:
    """Whether the blue lower half comes first."""
    frame = open_robomimic(path, hints).read(0).images["agentview"][0]
    assert sorted([frame[1, 0].argmax(), frame[-1, 0].argmax()]) == [0, 2]
    return bool(frame[1, 0].argmax() == 2)


@pytest.mark.parametrize(("value", "turned"), [("opengl", True), ("OpenGL", True), ("opencv", False)])
def test_what_the_file_says(recording: Recording, value: str, turned: bool) -> None:
    path = recording((3,), convention(value), camera="agentview_rgb")
    assert is_turned(path, Hints()) is turned
    assert is_turned(path, Hints(flip_images=())) is False
    assert is_turned(path, Hints(flip_images=("agentview",))) is True


@pytest.mark.parametrize("change", [lambda file: None, convention("upside")], ids=["missing", "unknown"])
def test_a_libero_file_without_the_attribute_is_asked_about(
    recording: Recording, change: Callable[[h5py.File], None]
) -> None:
    path = recording((3,), change, camera="agentview_rgb", env_args=None)
    with pytest.raises(DatasetError, match=r"which way up .* --flip-images .*\(agentview\)"):
        open_robomimic(path, Hints())
    assert is_turned(path, Hints(flip_images=("agentview",))) is True
    assert is_turned(path, Hints(flip_images=())) is False
    assert any("are turned, as asked" in n for n in open_robomimic(path, Hints(flip_images=("agentview",))).notes)
    assert any("kept as stored, as asked" in n for n in open_robomimic(path, Hints(flip_images=())).notes)
    with pytest.raises(DatasetError, match=r"--flip-images: expected names of agentview, got 'front'"):
        open_robomimic(path, Hints(flip_images=("front",)))


def test_other_files_are_kept_with_a_note(recording: Recording) -> None:
    path = recording((3,))
    assert is_turned(path, Hints()) is False
    assert any("Which way up pictures are is not written" in note for note in open_robomimic(path, Hints()).notes)


def test_files_of_a_folder_may_differ(recording: Recording, tmp_path: Path) -> None:
    recording((3,), convention("opengl"), name="a.hdf5")
    recording((3,), convention("opencv"), name="b.hdf5")
    source = open_robomimic(tmp_path, Hints())
    first, second = (source.read(number).images["agentview"] for number in (0, 1))
    np.testing.assert_array_equal(first[:, ::-1], second)
