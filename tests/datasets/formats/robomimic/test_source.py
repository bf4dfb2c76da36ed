"""HDF5 demonstrations, laid out as robomimic, robosuite and LIBERO write them."""

import json
import multiprocessing
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from vla.core.contract import Camera, Contract, differences
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.care.checker import check_dataset
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.formats.robomimic.export import export_robomimic
from vla.datasets.formats.robomimic.source import open_robomimic, recognise
from vla.datasets.formats.source import Hints, Source
from vla.datasets.store.episode_check import check_episode
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

HEIGHT, WIDTH = 6, 8
MODEL = "<mujoco model='α'>" + "x" * 90_000 + "</mujoco>"  # attributes over 64 kB are stored apart
ENV_ARGS = {
    "env_name": "NutAssemblySquare",
    "type": 1,
    "env_version": "1.4.1",
    "env_kwargs": {"robots": ["Panda"], "control_freq": 20, "reward_shaping": False, "camera_names": ["agentview"]},
}
WIDTHS = {
    "robot0_gripper_qpos": 2,
    "robot0_eef_quat": 4,
    "robot0_joint_pos": 7,
    "robot0_eef_pos": 3,
    "robot0_joint_vel": 7,
    "object": 14,
}
STATE = ("robot0_joint_pos", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")


def demo(steps: int, seed: int, widths: Mapping[str, int] = WIDTHS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {f"obs/{key}": rng.uniform(-1, 1, (steps, width)) for key, width in widths.items()}
    for camera in ("agentview", "robot0_eye_in_hand"):
        arrays[f"obs/{camera}_image"] = rng.integers(0, 256, (steps, HEIGHT, WIDTH, 3), np.uint8)
    return {
        **arrays,
        "obs/agentview_depth": rng.random((steps, HEIGHT, WIDTH, 1), np.float32),
        "actions": rng.uniform(-1, 1, (steps, 7)),
        "states": rng.standard_normal((steps, 45)) * 1e3 ** rng.standard_normal((steps, 45)),
        "rewards": (np.arange(steps) == steps - 1).astype(np.float64),
        "dones": (np.arange(steps) == steps - 1).astype(np.int64),
    }


def write(
    path: Path,
    demos: Mapping[str, Mapping[str, np.ndarray]],
    *,
    attrs: Mapping[str, Any] | None = None,
    demo_attrs: Mapping[str, Any] | None = None,
    masks: Mapping[str, list[str]] | None = None,
    **storage: Any,
) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name, arrays in demos.items():
            group = data.create_group(name)
            for key, array in arrays.items():
                group.create_dataset(key, data=array, **storage)
            for key, value in {
                "num_samples": len(arrays["actions"]),
                "model_file": MODEL,
                **(demo_attrs or {}),
            }.items():
                group.attrs[key] = value
        total = sum(len(arrays["actions"]) for arrays in demos.values())
        for key, value in (attrs or {"total": total, "env_args": json.dumps(ENV_ARGS, indent=4)}).items():
            data.attrs[key] = value
        for key, names in (masks or {}).items():
            file[f"mask/{key}"] = np.array(names, dtype="S")
    return path


def store(source: Source, root: Path, contract: Contract | None = None, **changes: Any) -> Dataset:
    contract = contract or source.contract
    create_dataset(root, contract)
    with SegmentWriter(root, contract, {}) as writer:
        for number in range(len(source)):
            writer.append(replace(source.read(number), **changes))
        publish(root, [writer.seal()], "import")
    return Dataset.open(root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ein Ordner").mkdir()
    return tmp_path / "ein Ordner"


@pytest.mark.parametrize(
    "storage", [{}, {"compression": "gzip"}, {"chunks": True, "compression": "lzf"}], ids=["contiguous", "gzip", "lzf"]
)
def test_robomimic_is_read(folder: Path, storage: dict[str, Any]) -> None:
    demos = {f"demo_{number}": demo(5 + number % 3, number) for number in range(12)}
    masks = {"train": [f"demo_{n}" for n in range(10)], "valid": ["demo_10", "demo_11"], "20_percent": ["demo_2"]}
    path = write(folder / "square.hdf5", demos, masks=masks, **storage)
    source = open_robomimic(path, Hints())
    assert recognise(path)
    assert len(source) == 12
    contract = source.contract
    assert (contract.robot, contract.control_hz, contract.gripper) == ("Panda", 20.0, None)
    assert contract.cameras == (
        Camera(name="agentview", height=HEIGHT, width=WIDTH),
        Camera(name="robot0_eye_in_hand", height=HEIGHT, width=WIDTH),
    )
    assert [d.name for d in contract.state] == [f"{key}.{i}" for key in STATE for i in range(WIDTHS[key])]
    assert [d.unit for d in contract.state] == ["rad"] * 7 + ["m"] * 3 + ["1"] * 4 + ["m"] * 2
    assert {(d.low, d.high, d.unit) for d in contract.action} == {(-1.0, 1.0, "1")}
    for number in range(12):
        episode, arrays = source.read(number), demos[f"demo_{number}"]
        check_episode(episode, contract)
        np.testing.assert_array_equal(episode.images["agentview"], arrays["obs/agentview_image"])
        np.testing.assert_array_equal(episode.images["robot0_eye_in_hand"], arrays["obs/robot0_eye_in_hand_image"])
        expected = np.concatenate([arrays[f"obs/{key}"] for key in STATE], axis=1).astype(np.float32)
        np.testing.assert_array_equal(episode.state, expected)
        np.testing.assert_array_equal(episode.action, arrays["actions"].astype(np.float32))
        assert episode.sim_state is not None
        assert episode.sim_state.tobytes() == arrays["states"].tobytes()
        assert episode.model == MODEL
        assert episode.success is True
        assert episode.done.tolist() == arrays["dones"].astype(bool).tolist()
        assert episode.split == ("train" if number < 10 else "valid")
        assert episode.time_ns.tolist() == [step * 50_000_000 for step in range(len(episode))]
        assert episode.provenance["env_args"] == ENV_ARGS
        assert episode.provenance["demo"] == f"demo_{number}"
    assert source.read(2).provenance["filter_keys"] == ["20_percent", "train"]
    notes = " ".join(source.notes)
    for said in ("agentview_depth", "object", "robot0_joint_vel", "NutAssemblySquare"):
        assert said in notes
    assert source.read(0).instruction == "put the square nut on its peg"


def test_raw_demonstrations_of_robosuite(folder: Path) -> None:
    """Numbered from 1, no observations, no rewards, and no rate."""
    info = {"env_name": "Lift", "robots": ["Sawyer"], "controller_configs": {"type": "OSC_POSE"}}
    attrs = {"date": "3-1-2025", "time": "1:2:3", "repository_version": "1.5.2", "env": "Lift"}
    demos = {f"demo_{n}": {key: demo(4, n)[key] for key in ("states", "actions")} for n in (1, 2, 10)}
    path = write(folder / "demo.hdf5", demos, attrs={**attrs, "env_info": json.dumps(info)})
    with h5py.File(path, "a") as file:
        for group in file["data"].values():
            del group.attrs["num_samples"]
    source = open_robomimic(path, Hints())
    assert recognise(path)
    assert source.contract.cameras == ()
    assert source.contract.state == ()
    assert source.contract.robot == "Sawyer"
    assert source.contract.control_hz == 20.0
    assert any("20 Hz" in note for note in source.notes)
    assert any("no rewards" in note for note in source.notes)
    episode = source.read(2)
    check_episode(episode, source.contract)
    assert episode.state.shape == (4, 0)
    assert episode.success is None
    assert episode.instruction == "lift the cube"
    assert episode.provenance["demo"] == "demo_10"
    assert episode.provenance["env_args"] == {
        "type": 1,
        "env_name": "Lift",
        "env_version": "1.5.2",
        "env_kwargs": {"robots": ["Sawyer"], "controller_configs": {"type": "OSC_POSE"}},
    }
    assert open_robomimic(path, Hints(control_hz=10.0)).read(0).time_ns.tolist() == [0, 10**8, 2 * 10**8, 3 * 10**8]
    dataset = store(source, folder / "store")
    check_dataset(dataset)
    assert dataset.read_episode(0).state.shape == (4, 0)
    out = folder / "again.hdf5"
    export_robomimic(dataset, out)
    again = open_robomimic(out, Hints()).read(2)
    assert again.sim_state is not None
    assert again.sim_state.tobytes() == demos["demo_10"]["states"].tobytes()
    assert again.model == MODEL


def libero(path: Path, language: Any, bddl: str, seed: int) -> tuple[Path, dict[str, dict[str, np.ndarray]]]:
    """Row 0 at the bottom, counts as text, and the language in ``problem_info``."""
    widths = {"joint_states": 7, "ee_states": 6, "ee_pos": 3, "ee_ori": 3, "gripper_states": 2}
    demos = {}
    for number in range(2):
        arrays = demo(4, seed + number, widths)
        for old, new in (("agentview", "agentview"), ("robot0_eye_in_hand", "eye_in_hand")):
            arrays[f"obs/{new}_rgb"] = arrays.pop(f"obs/{old}_image")
        arrays["rewards"], arrays["dones"] = arrays["rewards"].astype(np.uint8), arrays["dones"].astype(np.uint8)
        demos[f"demo_{number}"] = arrays
    kwargs = {"robots": ["Panda"], "control_freq": 20, "reward_shaping": True}
    attrs = {
        "env_name": "Libero_Kitchen",
        "env_args": json.dumps({"type": 1, "env_name": "Libero_Kitchen", "env_kwargs": kwargs}),
        "problem_info": json.dumps({"problem_name": "x", "language_instruction": language}),
        "macros_image_convention": "opengl",
        "bddl_file_name": f"bddl_files/kitchen/{bddl}.bddl",
        "total": 8,
    }
    return write(path, demos, attrs=attrs, demo_attrs={"num_samples": "4"}), demos


@pytest.mark.parametrize(
    "language",
    ["put the bowl on the stove", ["put", "the", "bowl", "on", "the", "stove"], '"put the bowl on the stove"'],
)
def test_libero_file(folder: Path, language: Any) -> None:
    path, demos = libero(folder / "a_demo.hdf5", language, "put_the_bowl", 0)
    source = open_robomimic(path, Hints())
    episode = source.read(1)
    check_episode(episode, source.contract)
    assert [c.name for c in source.contract.cameras] == ["agentview", "eye_in_hand"]
    np.testing.assert_array_equal(episode.images["agentview"], demos["demo_1"]["obs/agentview_rgb"][:, ::-1])
    assert episode.instruction == "put the bowl on the stove"
    assert episode.task == "put_the_bowl"
    assert episode.success is True
    assert len(source.contract.state) == 15
    assert any("row 0 at the bottom" in note for note in source.notes)
    assert not any("no language" in note for note in source.notes)


def test_folder_of_libero_files_has_one_contract(folder: Path) -> None:
    libero(folder / "b_demo.hdf5", "open the drawer", "open", 20)
    libero(folder / "a_demo.hdf5", "schließe die Schublade", "close", 10)
    assert recognise(folder)
    source = open_robomimic(folder, Hints(split="test"))
    assert [source.read(n).instruction for n in range(4)] == ["schließe die Schublade"] * 2 + ["open the drawer"] * 2
    assert source.read(0).split == "test"
    alone = open_robomimic(folder / "a_demo.hdf5", Hints())
    assert differences(alone.contract, source.contract) == []


def test_files_of_other_robots_do_not_mix(folder: Path) -> None:
    write(folder / "a.hdf5", {"demo_0": demo(3, 0)})
    other = {**ENV_ARGS, "env_kwargs": {**ENV_ARGS["env_kwargs"], "robots": ["Sawyer"]}}  # type: ignore[dict-item]
    write(folder / "b.hdf5", {"demo_0": demo(3, 0)}, attrs={"env_args": json.dumps(other)})
    with pytest.raises(DatasetError, match=r"b\.hdf5: demo_0: expected the robot and rate.*Panda.*Sawyer"):
        open_robomimic(folder, Hints()).read(1)
    write(folder / "b.hdf5", {"demo_0": demo(3, 0, {**WIDTHS, "robot0_joint_pos": 6})})
    with pytest.raises(DatasetError, match=r"b\.hdf5: demo_0: obs/robot0_joint_pos: expected numbers \(7,\) .* \(6,\)"):
        open_robomimic(folder, Hints()).read(1)


def test_language_of_each_demonstration(folder: Path) -> None:
    path = write(folder / "casa.hdf5", {"demo_0": demo(3, 0), "demo_1": demo(3, 1)})
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "öffne die Tür", "layout_id": 3})
    source = open_robomimic(path, Hints(instruction="close it", task="kitchen"))
    assert source.read(0).instruction == "öffne die Tür"
    assert source.read(0).provenance["ep_meta"] == {"lang": "öffne die Tür", "layout_id": 3}
    assert source.read(1).instruction == "close it"
    assert source.read(1).task == "kitchen"


@pytest.mark.parametrize(
    ("rewards", "dones", "kind", "expected"),
    [
        ([0, 0, 1], [0, 0, 1], 1, True),
        ([0, 1, 0], None, 1, True),
        ([0, 0, 0], [0, 0, 1], 1, None),
        ([0, 0, 0], [0, 0, 1], 3, None),
        ([0.1, 0.4, 0.6], [0, 0, 1], 1, None),
        ([0.1, 0.4, 0.6], [0, 1, 1], 1, None),
        ([0, 0, 0], [0, 1, 1], 1, None),
        ([1, 1, 1], [0, 0, 1], 1, None),
        (None, None, 1, None),
    ],
)
def test_success(
    folder: Path, rewards: list[float] | None, dones: list[int] | None, kind: int, expected: bool | None
) -> None:
    arrays = demo(3, 0)
    for key, values in (("rewards", rewards), ("dones", dones)):
        arrays.pop(key)
        if values is not None:
            arrays[key] = np.array(values)
    path = write(folder / "x.hdf5", {"demo_0": arrays}, attrs={"env_args": json.dumps({**ENV_ARGS, "type": kind})})
    assert open_robomimic(path, Hints()).read(0).success is expected


def test_two_arms_and_other_robots(folder: Path) -> None:
    names = ["robot0_right_eef_pos", "robot0_left_eef_pos", "robot1_joint_pos", "robot0_joint_pos"]
    path = write(folder / "arms.hdf5", {"demo_0": demo(3, 0, dict.fromkeys(names, 2))})
    state = [d.name for d in open_robomimic(path, Hints()).contract.state[::2]]
    assert state == [f"{k}.0" for k in sorted(names[2:]) + sorted(names[:2])]
    path = write(folder / "real.hdf5", {"demo_0": demo(3, 0, {"robot_state/pose": 6, "object": 3, "lang_emb": 9})})
    source = open_robomimic(path, Hints(robot="my arm"))
    assert {d.name.rsplit(".", 1)[0] for d in source.contract.state} == {"robot_state/pose"}
    assert source.contract.robot == "my arm"
    check_episode(source.read(0), source.contract)


def test_limits_hold_larger_data_in_round_numbers(folder: Path) -> None:
    arrays = demo(3, 0)
    arrays["actions"][1, 2], arrays["actions"][2, 3] = 13.0, -40.0
    source = open_robomimic(write(folder / "x.hdf5", {"demo_0": arrays}), Hints())
    assert [(d.low, d.high) for d in source.contract.action[1:5]] == [(-1, 1), (-1, 20), (-50, 1), (-1, 1)]


def test_export_restores_the_file(folder: Path) -> None:
    demos = {f"demo_{number}": demo(5 + number, number) for number in range(3)}
    masks = {"train": ["demo_0", "demo_1"], "valid": ["demo_2"], "better": ["demo_1"]}
    dataset = store(open_robomimic(write(folder / "in.hdf5", demos, masks=masks), Hints()), folder / "store")
    out, frames = folder / "out dir" / "aus.hdf5", []
    exported = export_robomimic(dataset, out, frames.append, gzip=True)
    assert (exported.episodes, exported.steps, frames) == (3, 18, [5, 6, 7])
    assert list(out.parent.iterdir()) == [out]
    with h5py.File(out) as file:
        assert json.loads(file["data"].attrs["env_args"]) == ENV_ARGS
        assert file["data"].attrs["total"] == 18
        assert {key: [n.decode() for n in file[f"mask/{key}"][()]] for key in file["mask"]} == masks
        for name, arrays in demos.items():
            group = file["data"][name]
            assert group.attrs["num_samples"] == len(arrays["actions"])
            assert group.attrs["model_file"] == MODEL
            assert group["states"][()].tobytes() == arrays["states"].tobytes()
            np.testing.assert_array_equal(group["actions"][()], arrays["actions"].astype(np.float32))
            np.testing.assert_array_equal(group["rewards"][()], arrays["rewards"])
            np.testing.assert_array_equal(group["dones"][()], arrays["dones"])
            assert set(group["obs"]) == {*STATE, "agentview_image", "robot0_eye_in_hand_image"}
            for key in STATE:
                np.testing.assert_array_equal(group[f"obs/{key}"][()], arrays[f"obs/{key}"].astype(np.float32))
            np.testing.assert_array_equal(group["obs/agentview_image"][()], arrays["obs/agentview_image"])
            assert group["obs/agentview_image"].chunks == (1, HEIGHT, WIDTH, 3)
            assert group["obs/agentview_image"].compression == "gzip"
    assert [line.split(":")[0] for line in exported.lost] == [
        "Units and limits of the state.",
        "Units and limits of the action.",
        "next_obs is not written, since it repeats obs one step later",
    ]
    again = open_robomimic(out, Hints())
    assert again.contract == dataset.contract
    assert_equal(again.read(1), dataset.read_episode(1), leave_out={"provenance"})


def assert_equal(ours: Episode, theirs: Episode, leave_out: set[str]) -> None:
    for name in set(Episode.__dataclass_fields__) - leave_out:
        a, b = getattr(ours, name), getattr(theirs, name)
        if name == "images":
            assert a.keys() == b.keys()
            assert all(np.array_equal(a[camera], b[camera]) for camera in a), name
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b), name
        else:
            assert a == b, name


def test_export_of_a_dataset_from_elsewhere_lists_what_is_lost(
    tmp_path: Path, make_dataset: Callable[..., Dataset]
) -> None:
    dataset = make_dataset([[4, 6], [5]])
    exported = export_robomimic(dataset, tmp_path / "out.hdf5")
    lost = " ".join(exported.lost)
    for word in (
        "Alternative",
        "action_executed",
        "times at which",
        "learned from",
        "Signals",
        "Seeds",
        "Names, units",
    ):
        assert word in lost
    for word in ("Instructions", "Rewards", "simulator", "Task names", "The split", "Depth", "Capture times"):
        assert word not in lost
    again = open_robomimic(tmp_path / "out.hdf5", Hints())
    assert [d.name for d in again.contract.state] == [f"state.{i}" for i in range(5)]
    assert (again.contract.robot, again.contract.control_hz) == ("arm", 20.0)
    for number in range(3):
        ours, theirs = again.read(number), dataset.read_episode(number)
        np.testing.assert_array_equal(ours.state, theirs.state)
        np.testing.assert_array_equal(ours.action, theirs.action)
        np.testing.assert_array_equal(ours.images["wrist"], theirs.images["wrist"])
        assert (ours.instruction, ours.task) == (theirs.instruction, "put")
        assert ours.success == theirs.success


def test_export_of_own_clocks_and_depth(
    tmp_path: Path, contract: Contract, make_episode: Callable[..., Episode]
) -> None:
    cameras = (
        Camera(name="front", height=6, width=8, hz=40.0),
        Camera(name="depth", height=6, width=8, kind="depth"),
    )
    contract = replace(contract, cameras=cameras)
    fast = np.arange(-1, 9, dtype=np.int64) * 25_000_000 - 1_000_000  # the last frame not after step i is 2 i + 1
    pictures = np.random.default_rng(0).integers(0, 256, (10, 6, 8, 3), np.uint8)
    episode = make_episode(
        5,
        images={"front": pictures, "depth": np.ones((5, 6, 8, 1), np.uint16)},
        image_time_ns={"front": fast},
        seed=0,
    )
    create_dataset(tmp_path / "store", contract)
    with SegmentWriter(tmp_path / "store", contract, {}) as writer:
        writer.append(episode)
        publish(tmp_path / "store", [writer.seal()], "test")
    exported = export_robomimic(Dataset.open(tmp_path / "store"), tmp_path / "out.hdf5")
    assert "Depth camera depth." in exported.lost
    assert any("clocks" in line for line in exported.lost)
    frames = open_robomimic(tmp_path / "out.hdf5", Hints()).read(0).images
    np.testing.assert_array_equal(frames["front"], pictures[[1, 3, 5, 7, 9]])
    assert set(frames) == {"front"}


def test_export_refuses_and_cleans_up(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset([[4, 4]])
    (tmp_path / "there.hdf5").write_bytes(b"keep me")
    with pytest.raises(DatasetError, match=r"there\.hdf5 exists"):
        export_robomimic(dataset, tmp_path / "there.hdf5")
    assert (tmp_path / "there.hdf5").read_bytes() == b"keep me"

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_robomimic(dataset, tmp_path / "out" / "new.hdf5", stop)
    assert list((tmp_path / "out").iterdir()) == []


def read_states(source: Source) -> bytes:
    return source.read(1).state.tobytes()


def test_source_crosses_processes(folder: Path) -> None:
    source = open_robomimic(write(folder / "x.hdf5", {"demo_0": demo(3, 0), "demo_1": demo(4, 1)}), Hints())
    assert len(pickle.dumps(source)) < 20_000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_states, (source,)) == read_states(source)


def damaged(folder: Path, change: Callable[[h5py.File], None]) -> Path:
    path = write(folder / "damaged.hdf5", {"demo_0": demo(4, 0)})
    with h5py.File(path, "a") as file:
        change(file)
    return path


def set_value(key: str, value: float) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[key][2, 1] = value

    return change


def shorten(key: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        values = file[key][:-1]
        del file[key]
        file[key] = values

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_value("data/demo_0/actions", np.nan), r"actions: expected finite.*step 2, column 1"),
        (set_value("data/demo_0/actions", 1e300), "actions: expected finite"),
        (set_value("data/demo_0/obs/robot0_eef_pos", np.inf), "obs/robot0_eef_pos: expected finite"),
        (set_value("data/demo_0/states", np.nan), "states: expected finite"),
        (shorten("data/demo_0/states"), "states: expected 4 rows"),
        (shorten("data/demo_0/rewards"), "rewards: expected 4 rows"),
        (shorten("data/demo_0/obs/agentview_image"), "obs/agentview_image: expected 4 rows"),
        (lambda f: f["data/demo_0"].attrs.__setitem__("num_samples", 9), "num_samples says 9 steps, got 4"),
        (lambda f: f["data/demo_0"].attrs.__setitem__("ep_meta", "{"), "ep_meta: expected JSON"),
    ],
)
def test_damage_is_named(folder: Path, change: Callable[[h5py.File], None], said: str) -> None:
    path = damaged(folder, change)
    with pytest.raises(DatasetError, match=said) as caught:
        open_robomimic(path, Hints()).read(0)
    assert "damaged.hdf5" in str(caught.value)
    assert "demo_0" in str(caught.value)


def test_what_cannot_be_opened(folder: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        open_robomimic(folder / "none.hdf5", Hints())
    with pytest.raises(DatasetError, match="or a folder of files"):
        open_robomimic(folder, Hints())
    path = damaged(folder, lambda f: f["data"].attrs.__setitem__("env_args", "[1]"))
    source = open_robomimic(path, Hints())
    assert source.contract.robot == "unknown"
    assert (
        "damaged.hdf5: Attribute env_args: expected a JSON object, got '[1]': what it says is not known."
        in source.notes
    )
    with pytest.raises(DatasetError, match="says 20 steps a second, got control_hz 30"):
        open_robomimic(write(path, {"demo_0": demo(3, 0)}), Hints(control_hz=30.0))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"damaged\.hdf5: not a readable HDF5 file: it is cut short: \d+ of"):
        open_robomimic(path, Hints())
    assert recognise(path)  # so that opening it says what is wrong
    path.write_bytes(b"no HDF5 at all")
    assert not recognise(path)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    assert not recognise(path)
    with pytest.raises(DatasetError, match="expected a group /data"):
        open_robomimic(path, Hints())
    write(path, {})
    with pytest.raises(DatasetError, match="got none"):
        open_robomimic(path, Hints())


def test_damage_within_an_array_is_named(folder: Path) -> None:
    """A compressed chunk that was overwritten is found when the demonstration is read."""
    path = write(folder / "x.hdf5", {"demo_0": demo(4, 0)}, compression="gzip")
    source = open_robomimic(path, Hints())
    with h5py.File(path) as file:
        chunk = file["data/demo_0/obs/agentview_image"].id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * 20)
    with pytest.raises(DatasetError, match=r"x\.hdf5: demo_0: obs/agentview_image: damaged: "):
        source.read(0)


def test_cut_recording_is_left_out_and_said(folder: Path) -> None:
    """A process that died while it wrote a demonstration leaves a group without actions, or with none in it."""
    demos = {"demo_0": demo(4, 0), "demo_1": demo(4, 1), "demo_2": {**demo(4, 2), "actions": np.zeros((0, 7))}}
    path = write(folder / "x.hdf5", demos)
    with h5py.File(path, "a") as file:
        del file["data/demo_1/actions"]
    source = open_robomimic(path, Hints())
    assert len(source) == 1
    assert any("demo_1 is left out: it has no actions" in note for note in source.notes)
    assert any("demo_2 is left out: it has no steps" in note for note in source.notes)
