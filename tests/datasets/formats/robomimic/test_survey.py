"""What most demonstrations hold is what a source holds; the others are faults of their own."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.formats.importing import ImportSettings, import_source
from vla.datasets.formats.robomimic.source import open_robomimic
from vla.datasets.formats.source import Hints
from vla.datasets.store.episode_check import check_episode

Recording = Callable[..., Path]


def replace(file: h5py.File, key: str, value: object) -> None:
    del file[key]
    file[key] = value


FAULTS = {
    "another width": (
        lambda f: replace(f, "data/demo_0/obs/robot0_eef_pos", np.ones((4, 2))),
        r"expected numbers \(3,\)",
    ),
    "no camera": (lambda f: f["data/demo_0/obs"].__delitem__("agentview_image"), "agentview_image: .* it is not there"),
    "fewer frames": (
        lambda f: replace(f, "data/demo_0/obs/agentview_image", np.ones((3, 6, 8, 3), "u1")),
        "expected 4 rows",
    ),
    "one frame more": (lambda f: replace(f, "data/demo_0/obs/agentview_image", np.ones((5, 6, 8, 3), "u1")), "got 5"),
    "not a number": (lambda f: f["data/demo_0/actions"].__setitem__((1, 1), np.nan), "expected finite numbers"),
    "records": (lambda f: replace(f, "data/demo_0/actions", np.zeros(4, [("x", "f4")])), "actions: .*records of x"),
    "actions in a group": (lambda f: replace(f, "data/demo_0/actions", np.zeros((4, 2, 3))), r"\(2, 3\)"),
    "another count": (
        lambda f: f["data/demo_0"].attrs.__setitem__("num_samples", 9),
        "num_samples says 9 steps, got 4",
    ),
    "actions nowhere": (
        lambda f: replace(f, "data/demo_0/actions", h5py.SoftLink("/none")),
        "actions: .*link to /none",
    ),
    "rewards in words": (lambda f: f.create_dataset("data/demo_0/rewards", data=["good"] * 4), "rewards: .*text"),
    "rewards of two kinds": (
        lambda f: f.create_dataset("data/demo_0/rewards", data=np.zeros((4, 2))),
        "expected one number",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_demonstration_that_differs_is_skipped_or_refused(recording: Recording, tmp_path: Path, fault: str) -> None:
    """Also where it is the first of all."""
    change, said = FAULTS[fault]
    source = open_robomimic(recording((4, 5, 6), change), Hints())
    with pytest.raises(DatasetError, match=rf"demo_0: {said}|demo_0: .*{said}"):
        source.read(0)
    assert any("1 of 3 demonstrations cannot be read; the first: " in note for note in source.notes)

    def convert(skip: bool, root: Path) -> tuple[str, ...]:
        settings = ImportSettings(codecs={}, engine="inline", skip_invalid=skip)
        return import_source(source, root, where="x", settings=settings, provenance={}).invalid

    with pytest.raises(DatasetError, match="demo_0"):
        convert(False, tmp_path / "strict")
    assert len(convert(True, tmp_path / "lenient")) == 1
    assert Dataset.open(tmp_path / "lenient").episode_lengths.tolist() == [5, 6]


def test_if_none_is_sound_the_first_fault_is_the_answer(recording: Recording) -> None:
    def change(file: h5py.File) -> None:
        for demo in file["data"].values():
            demo.attrs["num_samples"] = 9

    with pytest.raises(DatasetError, match=r"demo_0: num_samples says 9"):
        open_robomimic(recording((4, 4), change), Hints())


def test_what_few_demonstrations_hold_is_left_out(recording: Recording) -> None:
    def change(file: h5py.File) -> None:
        file["data/demo_1/obs/robot0_joint_pos"] = np.zeros((4, 7))
        file["data/demo_0/next_obs/a"], file["data/demo_0/next_obs/b"] = np.zeros((4, 7)), np.zeros((4, 7))

    source = open_robomimic(recording((4, 4, 4), change), Hints())
    assert len(source.contract.state) == 3
    notes = " ".join(source.notes)
    assert "obs/robot0_joint_pos is left out: only 1 of 3 demonstrations have it" in notes
    assert "next_obs is left out in 1 of 3 demonstrations: a group of 2 names" in notes
    assert [len(source.read(number)) for number in range(3)] == [4, 4, 4]


def test_observations_that_lead_nowhere(recording: Recording) -> None:
    path = recording((4,), lambda file: replace(file, "data/demo_0/obs", h5py.SoftLink("/none")))
    with pytest.raises(DatasetError, match="nothing to learn: obs is left out: a link to /none, which is not there"):
        open_robomimic(path, Hints())


def test_actions_by_other_names_are_pointed_out(recording: Recording) -> None:
    def change(file: h5py.File) -> None:
        file.move("data/demo_0/actions", "data/demo_0/actions_joints")

    with pytest.raises(DatasetError, match=r"demo_0 is left out: it has no actions, but actions_joints: rename one"):
        open_robomimic(recording((4,), change), Hints())


def test_isaac_lab(recording: Recording) -> None:
    """Its states are a group of arrays, and success is an attribute."""
    import json

    def change(file: h5py.File) -> None:
        file["data"].attrs["total"] = 11
        for number, demo in enumerate(file["data"].values()):
            steps = len(demo["actions"])
            demo.attrs["success"], demo.attrs["seed"] = number == 0, 1
            demo["processed_actions"] = np.zeros((steps, 8), "f4")
            for key, width in (("joint_pos", 9), ("joint_vel", 9), ("gripper_pos", 2), ("object", 39), ("actions", 7)):
                demo[f"obs/{key}"] = np.full((steps, width), 0.5, "f4")
            demo["obs/eef_pos"] = demo["obs/robot0_eef_pos"][()]
            del demo["obs/robot0_eef_pos"]
            demo["states/articulation/robot/joint_position"] = np.zeros((steps, 9))
            demo["initial_state/articulation/robot/root_pose"] = np.zeros((1, 7))
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Isaac-Stack-Cube-Franka-IK-Rel-v0", "type": 2})

    source = open_robomimic(recording((5, 6), change, camera="table_cam"), Hints())
    assert [source.read(number).success for number in (0, 1)] == [True, False]
    assert [d.name for d in source.contract.state][::9] == ["joint_pos.0", "eef_pos.0"]
    assert source.contract.state[-1].name == "gripper_pos.1"
    assert [camera.name for camera in source.contract.cameras] == ["table_cam"]
    episode = source.read(0)
    check_episode(episode, source.contract)
    assert episode.sim_state is None
    notes = " ".join(source.notes)
    for said in (
        "states is left out: a group",
        "initial_state is left out: a group",
        "processed_actions",
        "Success is yes in 1 of 2",
        "Success is no in 1 of 2",
    ):
        assert said in notes
    assert "robosuite's controller" not in notes
