"""Labels from logs on real demonstrations: the simulator is asked for nothing but how far off they are."""

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest

from vla.collection.experts import collect
from vla.collection.labels.label import Found, find_labels, label
from vla.collection.labels.settings import LabelConfig
from vla.collection.labels.signals import EVENT, PIXEL, TRACE
from vla.collection.labels.tool import tool_places
from vla.collection.settings import CollectConfig
from vla.core.errors import ConfigError, ContractError, DatasetError
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.envs.rendering import image_point
from vla.envs.tabletop.scene.mjcf import Scene, build_mjcf


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The fewest that have enough closings and openings to see the gripper by."""
    root = tmp_path_factory.mktemp("labels") / "place"
    collect(CollectConfig(episodes=30, workers=1), root)
    return Dataset.open(root)


@pytest.fixture(scope="module")
def labelled(demonstrations: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Found]:
    target = tmp_path_factory.mktemp("labels") / "labelled"
    _, found = label(demonstrations, target, LabelConfig(frames=80))
    return Dataset.open(target), found


def _columns(dataset: Dataset, signal: str, *names: str) -> np.ndarray:
    known = [d.name for d in dataset.contract.signals[signal]]
    return dataset.signals[signal][:, [known.index(name) for name in names]]


def test_the_camera_that_stands_still_is_found_and_the_other_is_left_out(
    demonstrations: Dataset, labelled: tuple[Dataset, Found]
) -> None:
    """Against the simulator's own camera: 2 pixels in the median with 30 demonstrations, 0.6 with 1,200."""
    _, found = labelled
    assert list(found.cameras) == ["front"]
    assert "moves" in found.left_out["wrist"]
    model = mujoco.MjModel.from_xml_string(build_mjcf(Scene()))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    rows = tool_places(demonstrations, LabelConfig()).rows[::11]
    truth = np.array([image_point(model, data, "front", row) for row in rows])
    errors = np.linalg.norm(found.cameras["front"].projection(rows) - truth, axis=1) * 32  # pixels of 64
    assert np.median(errors) < 3.0
    assert np.quantile(errors, 0.95) < 5.0
    assert found.cameras["front"].pixels < 1.0


def test_the_gripper_will_close_at_the_block_and_open_at_the_plate(labelled: tuple[Dataset, Found]) -> None:
    dataset, _ = labelled
    first = dataset.episode_starts
    block, plate = (_columns(dataset, "grounding", f"{thing}_x", f"{thing}_y")[first] for thing in ("block", "plate"))
    for thing, truth in (("close", block), ("open", plate)):
        ours = _columns(dataset, EVENT, f"{thing}_x", f"{thing}_y")[first]
        assert np.nanmedian(np.linalg.norm(ours - truth, axis=1)) < 0.015
        assert np.isfinite(ours).all(axis=1).mean() > 0.9


def test_what_comes_is_known_until_it_came(labelled: tuple[Dataset, Found]) -> None:
    dataset, found = labelled
    rows = tool_places(dataset, LabelConfig()).rows
    close = _columns(dataset, EVENT, "close_x", "close_y", "close_z")
    wait_s, opens = _columns(dataset, EVENT, "next_in", "next_opens").T
    pixel, ahead = (
        _columns(dataset, signal, f"front.{thing}.row", f"front.{thing}.column")
        for signal, thing in ((PIXEL, "close"), (TRACE, "ahead4"))
    )
    start, length = int(dataset.episode_starts[0]), int(dataset.episode_lengths[0])
    known = np.isfinite(close[start : start + length, 0])
    event = start + int(known.sum()) - 1
    assert known[: event - start + 1].all()
    assert not known[event - start + 1 :].any()
    np.testing.assert_allclose(close[start:event], np.tile(rows[event], (event - start, 1)), atol=1e-6)
    projection = found.cameras["front"].projection
    np.testing.assert_allclose(
        pixel[start : event + 1], np.tile(projection(rows[event : event + 1]), (event - start + 1, 1)), atol=1e-5
    )
    np.testing.assert_allclose(wait_s[start : event + 1], np.arange(event - start, -1, -1) / 10, atol=1e-4)
    assert (opens[start : event + 1] == 0).all()
    assert opens[event + 1] == 1
    last = start + length - 1
    np.testing.assert_allclose(ahead[start : last - 4], projection(rows[start + 4 : last]), atol=1e-5)
    np.testing.assert_allclose(ahead[last - 2], projection(rows[last : last + 1])[0], atol=1e-5)


def test_nothing_else_changes(demonstrations: Dataset, labelled: tuple[Dataset, Found]) -> None:
    dataset, _ = labelled
    assert dataset.episodes.uids.tolist() == demonstrations.episodes.uids.tolist()
    assert dataset.episodes.hashes.tolist() == demonstrations.episodes.hashes.tolist()
    np.testing.assert_array_equal(dataset.signals["grounding"], demonstrations.signals["grounding"])
    for camera in ("front", "wrist"):
        np.testing.assert_array_equal(dataset.frame(camera, 40), demonstrations.frame(camera, 40))
    assert [f for f in validate(dataset.url, "deep") if f.severity == "error"] == []
    assert dataset.provenance(0)["labels"]["cameras"]["front"]["explained"] > 0.5


def test_a_dataset_keeps_its_contract(demonstrations: Dataset, labelled: tuple[Dataset, Found], tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"cannot hold its own labels.*name another folder"):
        label(demonstrations, demonstrations.url, LabelConfig())
    with pytest.raises(ContractError, match="has gripper_event, gripper_pixel, tool_trace already"):
        label(labelled[0], tmp_path, LabelConfig(frames=80))


def test_too_little_to_see_the_gripper_by_is_refused(dataset: Path) -> None:
    with pytest.raises(DatasetError, match=r"no camera has a projection: front: .* at least 15 are needed"):
        find_labels(Dataset.open(dataset), LabelConfig())


def test_a_gripper_that_never_moves_is_refused(tmp_path: Path) -> None:
    collect(CollectConfig(env="tabletop/reach", episodes=2, workers=1, settings={"image_size": 16}), tmp_path)
    with pytest.raises(DatasetError, match=r"the gripper gripper never moves: its commands stay between"):
        find_labels(Dataset.open(tmp_path), LabelConfig())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda folder: LabelConfig(tool="elbow"), "has no site elbow"),
        (lambda folder: LabelConfig(description=folder / "none.xml"), "none.xml cannot be read"),
        (lambda folder: LabelConfig(description=_write(folder, "<mujoco")), "is no MJCF"),
        (lambda folder: LabelConfig(description=_write(folder, "<mujoco/>")), "expected its joints to be called as"),
    ],
)
def test_a_tool_that_nobody_knows_is_refused(
    config: Callable[[Path], LabelConfig], message: str, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        find_labels(Dataset.open(dataset), config(tmp_path))


def _write(folder: Path, text: str) -> Path:
    (folder / "robot.xml").write_text(text)
    return folder / "robot.xml"


@pytest.mark.parametrize(
    "wrong", [{"carried": 0.0}, {"within_s": -1.0}, {"frames": 5}, {"ahead": (4, 4)}, {"ahead": ()}]
)
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"label: {next(iter(wrong))}="):
        LabelConfig(**wrong)  # type: ignore[arg-type]
