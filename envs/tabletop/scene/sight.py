"""What the front camera sees of a thing: the box of the cells in which nothing stands before it.

A ray through the middle of each cell meets what a renderer would draw there, so no picture is needed. Rays are sent
only where the thing's corners, seen through the camera, say that it can be.
"""

import itertools

import mujoco
import numpy as np
from jaxtyping import Bool, Float64, Int64

from vla.core.media.boxes import GRID, Box
from vla.envs.tabletop.scene.mjcf import CAMERAS
from vla.envs.tabletop.scene.world import Thing, World

_SEEN = 1 / 3
"""Least share of the box of its corners that shows a thing; all of a block fills two thirds of it."""
_DRAWN = np.array([1, 1, 1, 0, 0, 0], np.uint8)
"""Groups of geoms that are drawn, and do not only collide."""
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
_NEAR_M = 1e-3


def seen_box(world: World, thing: Thing) -> Box | None:
    """Where the thing is seen; None where it is hidden or out of view, or hardly anything of it is seen."""
    model = world.model
    geoms = np.flatnonzero(model.geom_bodyid == model.body(thing.name).id)
    geoms = geoms[_DRAWN[model.geom_group[geoms]] == 1]
    low, high = _reach(world, geoms)
    rows, columns = (np.arange(max(0, low[axis]), min(GRID, high[axis])) for axis in (0, 1))
    if not rows.size or not columns.size:
        return None
    shown = _shown(world, geoms, rows, columns)
    if shown.sum() < _SEEN * np.prod(high - low):
        return None
    rows, columns = rows[shown.any(axis=1)], columns[shown.any(axis=0)]
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))


def _camera(world: World) -> tuple[Float64[np.ndarray, " 3"], Float64[np.ndarray, "3 3"], float]:
    """Where it stands, its axes right, up and back, and the slope at which it sees the edge of its square picture."""
    number = world.model.camera(CAMERAS[0]).id
    slope = float(np.tan(np.deg2rad(world.model.cam_fovy[number]) / 2))
    return world.data.cam_xpos[number], world.data.cam_xmat[number].reshape(3, 3), slope


def _reach(world: World, geoms: Int64[np.ndarray, " g"]) -> tuple[Int64[np.ndarray, " 2"], Int64[np.ndarray, " 2"]]:
    """The first (row, column) of the cells that their corners span, in the picture or not, and that behind the last."""
    start, axes, slope = _camera(world)
    middle, half = np.split(world.model.geom_aabb[geoms][:, None], 2, axis=-1)  # (g, 1, 3)
    turns = world.data.geom_xmat[geoms].reshape(-1, 3, 3).transpose(0, 2, 1)
    corners = world.data.geom_xpos[geoms][:, None] + (middle + _CORNERS * half) @ turns  # (g, 8, 3)
    x, y, z = np.moveaxis((corners - start) @ axes, -1, 0)
    points = np.stack([-y, x], axis=-1) / (np.maximum(-z, _NEAR_M) * slope)[..., None]
    cells = (points.reshape(-1, 2) + 1) / 2 * GRID
    return np.floor(cells.min(axis=0)).astype(np.int64), np.ceil(cells.max(axis=0)).astype(np.int64)


def _shown(
    world: World, geoms: Int64[np.ndarray, " g"], rows: Int64[np.ndarray, " y"], columns: Int64[np.ndarray, " x"]
) -> Bool[np.ndarray, "y x"]:
    """The cells whose middle shows one of the geoms."""
    start, axes, slope = _camera(world)
    down, right = np.meshgrid(*(((cells + 0.5) / GRID * 2 - 1) * slope for cells in (rows, columns)), indexing="ij")
    ways = np.stack([right, -down, -np.ones_like(right)], axis=-1).reshape(-1, 3) @ axes.T
    met, far = np.full(len(ways), -1, np.int32), np.zeros(len(ways))
    model, data = world.model, world.data
    mujoco.mj_multiRay(model, data, start, ways.ravel(), _DRAWN, 1, -1, met, far, len(ways), mujoco.mjMAXVAL)
    return np.isin(met, geoms).reshape(right.shape)
