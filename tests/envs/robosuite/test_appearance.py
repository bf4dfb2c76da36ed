"""Cameras show the things of the task the right way up and in colour, with either geometry."""

import numpy as np
import pytest

from vla.envs.robosuite.config import RobosuiteConfig
from vla.envs.robosuite.contract import CAMERAS
from vla.envs.robosuite.env import RobosuiteEnv

PIXELS = 96


@pytest.mark.parametrize("collision_geometry", [False, True])
def test_the_red_cube_is_seen_where_geometry_puts_it(collision_geometry: bool) -> None:
    env = RobosuiteEnv("lift", RobosuiteConfig(collision_geometry=collision_geometry, image_size=PIXELS))
    points = [d.name for d in env.contract.grounding]
    checked = dict.fromkeys(CAMERAS, 0)
    for seed in range(6):
        observation, info = env.reset(seed=seed)
        for camera in CAMERAS:
            image = observation["images"][camera].astype(int)
            rows, columns = np.nonzero((image[..., 0] > 70) & (image[..., 0] > 2 * image[..., 1:].max(axis=-1)))
            at = points.index(f"{camera}.object.row")
            expected = (info["grounding"][at : at + 2] + 1) * PIXELS / 2
            if not ((expected > 8) & (expected < PIXELS - 8)).all():
                continue
            assert len(rows) > 15
            assert np.linalg.norm([rows.mean() - expected[0], columns.mean() - expected[1]]) < 0.06 * PIXELS
            checked[camera] += 1
    env.close()
    assert min(checked.values()) >= 4


def test_collision_geometry_changes_the_arm_and_nothing_else() -> None:
    images, groups = [], []
    for collision_geometry in (False, True):
        env = RobosuiteEnv("stack", RobosuiteConfig(collision_geometry=collision_geometry, image_size=PIXELS))
        images.append(env.reset(seed=0)[0]["images"]["agent"].astype(int))
        shown = env.model.geom_group == 1
        arm = np.array([env.model.body(i).name.startswith(("robot0", "gripper0")) for i in env.model.geom_bodyid])
        groups.append((set(np.flatnonzero(shown & ~arm)), np.count_nonzero(shown & arm)))
        assert not env.model.vis.quality.offsamples
        env.close()
    table = slice(PIXELS // 3, None)
    assert np.abs(images[0][table] - images[1][table]).max() <= 1
    assert np.abs(images[0][: PIXELS // 5] - images[1][: PIXELS // 5]).max() > 40
    mount = groups[0][0] ^ groups[1][0]
    assert len(mount) <= 6  # the arm's base stands on one of robosuite's mounts, drawn likewise
    assert groups[1][1] < groups[0][1] / 3
