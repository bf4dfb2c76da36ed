"""What cameras show of robosuite's models, and how cheaply: no shadows, no reflections, no helpers of its own viewer.

`CameraRenderer` draws geoms of the groups 0 to 2. robosuite's collision geoms are in group 0, what it draws in group 1.
Nearly all triangles are the arm's and its base's; so ``collision_geometry`` shows these by the shapes that collide, and
everything else, the things of the task above all, as usual.
"""

import mujoco
import numpy as np

_COLLISION, _VISUAL, _SHOWN, _HIDDEN = 0, 1, 1, 4
_ARM = ("robot0_", "gripper0_", "fixed_mount0_")
_COLOURS = {
    "robot0_": (0.90, 0.91, 0.93, 1.0),
    "gripper0_": (0.35, 0.36, 0.40, 1.0),
    "fixed_mount0_": (0.2, 0.2, 0.2, 1),
}
MAX_GEOMS = 200
"""How many a `CameraRenderer` draws at most."""


def set_appearance(model: mujoco.MjModel, *, collision_geometry: bool, pixels: int) -> None:
    """Choose what is drawn, in place; physics is not touched. ``pixels`` is the largest side of an image."""
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, pixels)
    model.vis.global_.offheight = max(model.vis.global_.offheight, pixels)
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0
    model.site_group[:] = _HIDDEN
    for index in range(model.ngeom):
        body = model.body(model.geom_bodyid[index]).name
        part = next((prefix for prefix in _ARM if body.startswith(prefix)), None)
        wanted = _COLLISION if part and collision_geometry else _VISUAL
        shown = model.geom_group[index] == wanted
        model.geom_group[index] = _SHOWN if shown else _HIDDEN
        if shown and part and collision_geometry:
            model.geom_matid[index] = -1
            model.geom_rgba[index] = _COLOURS[part]
    count = int(np.count_nonzero(model.geom_group == _SHOWN))
    assert count <= MAX_GEOMS, f"{count} geoms are to be drawn, more than a renderer's {MAX_GEOMS}"
