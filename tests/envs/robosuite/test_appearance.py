"""Cameras show the things of the task the right way up and in colour, with either geometry."""

from collections.abc import Iterator

import numpy as np
import pytest

from vla.envs.robosuite.config import RobosuiteConfig
from vla.envs.robosuite.contract import CAMERAS
from vla.envs.robosuite.env import RobosuiteEnv


@pytest.fixture(scope="module")
def visual(_needs_robosuite: None) -> Iterator[RobosuiteEnv]:
    env = RobosuiteEnv("lift", RobosuiteConfig(image_size=64))
    yield env
    env.close()


def _check_cube(env: RobosuiteEnv, seeds: range) -> None:
    """Red pixels lie where a pinhole camera sees the cube's centre."""
    points, pixels = [d.name for d in env.contract.signals["pointing"]], env.config.image_size
    checked = dict.fromkeys(CAMERAS, 0)
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        for camera in CAMERAS:
            image = observation["images"][camera].astype(int)
            rows, columns = np.nonzero((image[..., 0] > 70) & (image[..., 0] > 2 * image[..., 1:].max(axis=-1)))
            at = points.index(f"{camera}.object.row")
            expected = (info["signals"]["pointing"][at : at + 2] + 1) * pixels / 2
            if not ((expected > 6) & (expected < pixels - 6)).all():
                continue
            assert len(rows) > 6
            assert np.linalg.norm([rows.mean() - expected[0], columns.mean() - expected[1]]) < 0.07 * pixels
            checked[camera] += 1
    assert min(checked.values()) >= len(seeds) // 2


def test_the_red_cube_is_seen_where_geometry_puts_it(visual: RobosuiteEnv, lift: RobosuiteEnv) -> None:
    _check_cube(visual, range(6))
    _check_cube(lift, range(6))


def test_collision_geometry_changes_the_arm_and_nothing_else(visual: RobosuiteEnv, lift: RobosuiteEnv) -> None:
    images, others, arms = [], [], []
    for env in (visual, lift):
        images.append(env.reset(seed=0)[0]["images"]["agent"].astype(int))
        parts = ("robot0", "gripper0", "fixed_mount0")
        arm = np.array([env.model.body(i).name.startswith(parts) for i in env.model.geom_bodyid])
        shown = env.model.geom_group == 1
        others.append(np.flatnonzero(shown & ~arm).tolist())
        arms.append(int(np.count_nonzero(shown & arm)))
        assert (env.model.vis.quality.shadowsize, env.model.vis.quality.offsamples) == (0, 0)
    assert others[0] == others[1]
    assert 0 < arms[1] < arms[0] / 3
    difference = np.abs(images[0] - images[1]).max(axis=-1)
    assert difference[64 // 3 :].max() <= 1  # the table, and the cube on it
    assert difference[: 64 // 5].max() > 40  # the arm


def test_a_picture_for_people_is_larger(visual: RobosuiteEnv) -> None:
    visual.reset(seed=0)
    picture, small = visual.render(), visual.reset(seed=0)[0]["images"]["agent"]
    assert picture.shape == (256, 256, 3)
    assert np.abs(picture.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3)) - small).mean() < 8
