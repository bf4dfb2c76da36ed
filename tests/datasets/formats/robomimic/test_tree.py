"""Links lead where they lead, and kinds are what they are: read, or named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.datasets.formats.robomimic.source import open_robomimic
from vla.datasets.formats.robomimic.tree import UnreadableError, first_text, read_rows, walk
from vla.datasets.formats.source import Hints

Recording = Callable[..., Path]
WRIST = np.arange(6 * 6 * 8 * 3, dtype=np.uint8).reshape(6, 6, 8, 3)
GRIPPER = np.linspace(0, 1, 12, dtype=np.float32).reshape(6, 2)


def link_senses(file: h5py.File) -> None:
    """A soft link within the file, and an external one to another."""
    with h5py.File(Path(file.filename).with_name("frames.hdf5"), "w") as other:
        other["wrist"] = WRIST
    file["shared/gripper"] = GRIPPER
    obs = file["data/demo_0/obs"]
    obs["robot0_gripper_qpos"] = h5py.SoftLink("/shared/gripper")
    obs["robot0_eye_in_hand_image"] = h5py.ExternalLink("frames.hdf5", "/wrist")


def test_links_are_followed(recording: Recording) -> None:
    source = open_robomimic(recording((6,), link_senses), Hints())
    episode = source.read(0)
    assert [camera.name for camera in source.contract.cameras] == ["agentview", "robot0_eye_in_hand"]
    np.testing.assert_array_equal(episode.images["robot0_eye_in_hand"], WRIST)
    np.testing.assert_array_equal(episode.state[:, 3:], GRIPPER)


def test_a_file_that_is_not_beside_is_named(recording: Recording) -> None:
    path = recording((6,), link_senses)
    path.with_name("frames.hdf5").unlink()
    source = open_robomimic(path, Hints())
    assert [camera.name for camera in source.contract.cameras] == ["agentview"]
    said = [note for note in source.notes if note.startswith("obs/robot0_eye_in_hand_image is left out")]
    assert said == [
        "obs/robot0_eye_in_hand_image is left out: a link to /wrist in frames.hdf5, which is not there: "
        "put that file beside it."
    ]


def test_a_link_that_leads_nowhere_in_one_of_three_is_a_fault_of_that_one(recording: Recording) -> None:
    def change(file: h5py.File) -> None:
        del file["data/demo_1/obs/agentview_image"]
        file["data/demo_1/obs/agentview_image"] = h5py.SoftLink("/nowhere")
        file["data/demo_3"] = h5py.SoftLink("/data/demo_9")
        file["data/demo_4"] = file["data/demo_0"]

    source = open_robomimic(recording((4, 4, 4), change), Hints())
    assert len(source) == 3
    source.read(0), source.read(2)
    with pytest.raises(DatasetError, match=r"demo_1: obs/agentview_image: .* a link to /nowhere, which is not there"):
        source.read(1)
    notes = " ".join(source.notes)
    assert "demo_3 is left out: a link to /data/demo_9, which is not there" in notes
    assert "demo_4 is left out: it is demo_0 by another name" in notes
    assert "1 of 3 demonstrations cannot be read" in notes


def test_what_no_step_can_be_read_from_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["x"] = np.zeros(3)
    (tmp_path / "folder").mkdir()
    np.arange(6, dtype="<f4").tofile(tmp_path / "folder" / "raw")
    with h5py.File(tmp_path / "folder" / "x.hdf5", "w") as file:
        file["records"] = np.zeros(3, [("a", "f4"), ("b", "i4")])
        file.create_dataset("ragged", (3,), dtype=h5py.vlen_dtype("u1"))
        file.create_dataset("references", (3,), dtype=h5py.ref_dtype)
        file.create_dataset("names", data=np.zeros(3, "i1"), dtype=h5py.enum_dtype({"off": 0, "on": 1}, "i1"))
        file.create_dataset("raw", (3, 2), "<f4", external=[(str(tmp_path / "folder" / "raw"), 0, 24)])
        file["opaque"], file["complex"] = np.zeros(3, "V5"), np.zeros(3, "c8")
        file["empty"], file["single"], file["type"] = h5py.Empty("f4"), 3.0, np.dtype("f4")
        file["texts"] = ["a", "b"]
        file["group/back"] = file["/"]
        file["group/around"] = h5py.SoftLink("/group")
        file["outside"] = h5py.ExternalLink("../other.hdf5", "/x")
        file["absolute"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/x")
        file["a"] = file["b"] = np.arange(3)
    with h5py.File(tmp_path / "folder" / "x.hdf5") as file:
        tree = walk(file)
    assert set(tree.arrays) == {"a", "b"}
    assert set(tree.texts) == {"texts"}
    words = {
        "records": "records of a, b",
        "ragged": "lists of any length",
        "references": "references",
        "names": "stand for names (off, on)",
        "raw": "lie in the raw file",
        "opaque": "not numbers",
        "complex": "complex64, not numbers",
        "empty": "without a shape",
        "single": "a single value",
        "type": "a type",
        "group/back": "a link back to /",
        "group/around": "a link back to /group",
        "outside": "outside the folder",
        "absolute": "outside the folder",
    }
    assert set(tree.left) == set(words)
    for path, said in words.items():
        assert said in tree.left[path], path


@pytest.mark.parametrize("dtype", [">f4", "<f2", ">i2", "bool", "<f8", "u1"])
def test_numbers_of_every_kind_are_exact(recording: Recording, dtype: str) -> None:
    values = np.array([[0, 1], [1, 0], [1, 1]], dtype)

    def change(file: h5py.File) -> None:
        file["data/demo_0/obs/robot0_gripper_qpos"] = values

    episode = open_robomimic(recording((3,), change), Hints()).read(0)
    np.testing.assert_array_equal(episode.state[:, 3:], values.astype(np.float32))


def test_links_that_multiply_end(tmp_path: Path) -> None:
    """Twenty groups with two links each to the next are a million names."""
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        for depth in range(20):
            file.require_group(f"g{depth}")["left"] = h5py.SoftLink(f"/g{depth + 1}")
            file[f"g{depth}/right"] = h5py.SoftLink(f"/g{depth + 1}")
        file["g20/x"] = np.zeros(2)
    with h5py.File(tmp_path / "x.hdf5") as file, pytest.raises(UnreadableError, match="links multiply"):
        walk(file["g0"])


def virtual(folder: Path, parts: list[tuple[str, int]], rows: int = 6) -> Path:
    """An array of ``rows`` rows, 3 from each file, at the row given."""
    layout = h5py.VirtualLayout((rows, 2), "f4")
    for name, start in parts:
        layout[start : start + 3] = h5py.VirtualSource(name, "x", (3, 2))
    with h5py.File(folder / "v.hdf5", "w") as file:
        file.create_virtual_dataset("v", layout)
    return folder / "v.hdf5"


def source_file(path: Path, values: Any) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.asarray(values, "f4")


def test_virtual_arrays_are_read_if_all_of_them_is_there(tmp_path: Path) -> None:
    source_file(tmp_path / "a.hdf5", np.ones((3, 2)))
    source_file(tmp_path / "b.hdf5", np.full((3, 2), 2))
    with h5py.File(virtual(tmp_path, [("a.hdf5", 0), ("b.hdf5", 3)])) as file:
        np.testing.assert_array_equal(read_rows(walk(file).arrays["v"])[:, 0], [1, 1, 1, 2, 2, 2])


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([("a.hdf5", 0), ("none.hdf5", 3)], "none.hdf5, which is not there"),
        ([("a.hdf5", 0)], "6 of 12 numbers come from nowhere"),
        ([("a.hdf5", 0), ("short.hdf5", 3)], "short.hdf5, which has 4 numbers instead of 6"),
        ([("a.hdf5", 0), ("../b.hdf5", 3)], "outside the folder"),
        ([("a.hdf5", 0), ("other.hdf5", 3)], "other.hdf5, which is not there"),
    ],
)
def test_virtual_arrays_with_a_hole_are_refused(tmp_path: Path, parts: list[tuple[str, int]], said: str) -> None:
    (tmp_path / "in").mkdir()
    source_file(tmp_path / "b.hdf5", np.ones((3, 2)))
    source_file(tmp_path / "in" / "a.hdf5", np.ones((3, 2)))
    source_file(tmp_path / "in" / "short.hdf5", np.ones((2, 2)))
    with h5py.File(tmp_path / "in" / "other.hdf5", "w") as file:
        file["y"] = np.zeros((3, 2))
    with h5py.File(virtual(tmp_path / "in", parts)) as file, pytest.raises(UnreadableError, match=said):
        read_rows(walk(file).arrays["v"])


@pytest.mark.parametrize("chunks", [None, (2, 7)])
def test_what_was_never_written_is_refused(recording: Recording, chunks: Any) -> None:
    """HDF5 gives zeros for it: actions that nobody took."""

    def change(file: h5py.File) -> None:
        del file["data/demo_1/actions"]
        actions = file["data/demo_1"].create_dataset("actions", (6, 7), "f4", chunks=chunks)
        if chunks:
            actions[:4] = 1

    source = open_robomimic(recording((5, 6), change), Hints())
    source.read(0)
    with pytest.raises(DatasetError, match=r"demo_1: actions: .*never written"):
        source.read(1)


def test_text_is_one_text_or_none(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["one"], file["same"], file["bytes"] = "öffne", ["a", "a"], np.array([b"b"])
        file["many"] = ["a", "b"]
        found = {name: first_text(file, (name,)) for name in (*walk(file).texts, "none")}
    assert found == {"one": "öffne", "same": "a", "bytes": "b", "many": None, "none": None}
