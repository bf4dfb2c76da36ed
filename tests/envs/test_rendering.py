"""Cameras show the scene the right way up, or say what to install."""

import threading

import mujoco
import numpy as np
import pytest

from vla.envs.rendering import CameraRenderer
from vla.envs.tabletop.env import TabletopEnv
from vla.envs.tabletop.scene.world import Thing

PIXELS = 128


def _project(env: TabletopEnv, camera: str, point_m: np.ndarray) -> np.ndarray:
    """(row, column) where a pinhole camera sees ``point_m``; MuJoCo's cameras look along their -z, y up."""
    x, y, z = env.world.data.camera(camera).xmat.reshape(3, 3).T @ (point_m - env.world.data.camera(camera).xpos)
    focal = PIXELS / 2 / np.tan(np.radians(env.world.model.camera(camera).fovy[0]) / 2)
    return np.array([PIXELS / 2 - focal * y / -z, PIXELS / 2 + focal * x / -z])


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_things_are_seen_where_geometry_puts_them(env: TabletopEnv, camera: str) -> None:
    renderer = CameraRenderer(env.world.model, PIXELS, PIXELS)
    checked = 0
    for seed in range(15):
        env.reset(seed=seed)
        for i in range(2):
            env.world.model.geom(f"block{i}").rgba[:3] = (1, 0, 1) if i == 0 else (0, 1, 1)
        image = renderer.render(env.world.data, camera).astype(int)
        rows, columns = np.nonzero((image[..., 0] > 90) & (image[..., 2] > 90) & (image[..., 1] < 40))
        seen = np.array([rows.mean(), columns.mean()]) if len(rows) > 60 else None
        expected = _project(env, camera, env.world.position_m(Thing("block", 0)))
        margin = 30
        if seen is None or not ((expected > margin) & (expected < PIXELS - margin)).all():
            continue  # hidden by the arm, or cut by the border
        assert np.linalg.norm(seen - expected) < 10
        checked += 1
    renderer.close()
    assert checked >= 3


def test_a_renderer_may_be_dropped_by_another_thread(env: TabletopEnv) -> None:
    """As garbage is: whichever thread collects it."""
    env.reset(seed=0)
    expected = CameraRenderer(env.world.model, 16, 16).render(env.world.data, "front")
    kept = [CameraRenderer(env.world.model, 16, 16)]
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(CameraRenderer(env.world.model, 16, 16).render(env.world.data, "front"), expected)


def test_front_image_has_the_arm_at_the_top(env: TabletopEnv) -> None:
    env.reset(seed=0)
    env.world.data.qpos[:7] = env.world.kinematics.solve(
        env.world.data.qpos[:7].copy(), np.array([0.42, 0.0, 0.08]), iterations=30
    )
    mujoco.mj_forward(env.world.model, env.world.data)
    with_arm = env.render().astype(int)
    hidden = mujoco.MjData(env.world.model)
    hidden.qpos[:] = env.world.data.qpos
    hidden.qpos[:7] = [np.pi / 2, -1.5, 0, -0.1, 0, 1.5, 0]  # the arm folded away
    mujoco.mj_forward(env.world.model, hidden)
    renderer = CameraRenderer(env.world.model, 256, 256)
    changed = np.abs(with_arm - renderer.render(hidden, "front")).max(axis=-1) > 40
    renderer.close()
    rows = np.nonzero(changed)[0]
    assert len(rows) > 200
    assert rows.mean() < 128


def test_images_are_uint8_copies(env: TabletopEnv) -> None:
    env.reset(seed=0)
    first = env.render()
    kept = first.copy()
    env.reset(seed=1)
    env.render()
    np.testing.assert_array_equal(first, kept)
    assert (first.dtype, first.shape) == (np.uint8, (256, 256, 3))


def test_the_driver_has_a_name(env: TabletopEnv) -> None:
    backend, _, driver = env.renderer.partition(": ")
    assert backend in ("egl", "osmesa")
    assert driver
