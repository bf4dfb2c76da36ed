"""How a scene looks: light, viewpoint, the table top, shades of colours. None of it touches physics."""

import colorsys
from collections.abc import Sequence

import mujoco
import numpy as np

from vla.envs.tabletop.scene.config import TabletopConfig
from vla.envs.tabletop.scene.layout import Layout
from vla.envs.tabletop.scene.mjcf import COLOURS
from vla.envs.tabletop.scene.world import World

_LOOKS_AT_M = np.array([0.50, 0.0, 0.0])
_FRONT_M = np.array([1.02, 0.0, 0.62])
_SHADES = ((-0.02, 0.02), (-0.3, 0.0), (-0.25, 0.1))
"""Changes of hue, saturation and value that leave every colour its name: red and orange are 0.08 apart in hue."""


class Appearance:
    """Changes how a world looks, from its plain look each time."""

    def __init__(self, world: World) -> None:
        self._world = world
        model = world.model
        self._camera, self._table = model.camera("front").id, model.geom("table").id
        headlight = model.vis.headlight
        self._plain = (model.light_dir[0].copy(), model.light_diffuse[0].copy(), headlight.ambient.copy())
        self._pose = (model.cam_pos[self._camera].copy(), model.cam_quat[self._camera].copy())
        self._rgba = model.geom_rgba[self._table].copy()

    def draw(self, streams: Sequence[np.random.Generator], config: TabletopConfig, layout: Layout) -> None:
        """Take the looks that the settings ask for: table, light, viewpoint, shades, each from a stream of its own."""
        table, light, viewpoint, shades = streams
        model = self._world.model
        direction, diffuse, ambient = self._plain
        model.light_dir[0], model.light_diffuse[0], model.vis.headlight.ambient[:] = direction, diffuse, ambient
        model.cam_pos[self._camera], model.cam_quat[self._camera] = self._pose
        model.geom_rgba[self._table], model.geom_matid[self._table] = self._rgba, -1
        if config.tables != ("plain",):
            self._draw_table(table, config.tables)
        if config.lighting[1] > 0:
            self._draw_light(light, light.uniform(config.lighting[0], config.lighting[1]))
        if config.viewpoint_deg[1] > 0:
            self._draw_viewpoint(viewpoint, config.viewpoint_deg)
        for thing, name in layout.colours.items() if config.shades else ():
            self._world.paint(thing, _shade(shades, COLOURS[name], config.shades))

    def _draw_table(self, rng: np.random.Generator, tables: tuple[str, ...]) -> None:
        model, look = self._world.model, tables[rng.integers(len(tables))]
        if look != "plain":
            model.geom_matid[self._table] = model.material(look).id
            model.geom_rgba[self._table, :3] = rng.uniform(0.35, 0.8, 3)

    def _draw_light(self, rng: np.random.Generator, strength: float) -> None:
        model = self._world.model
        direction = self._plain[0] + strength * np.array([*rng.uniform(-1.0, 1.0, 2), 0.0])
        model.light_dir[0] = direction / np.linalg.norm(direction)
        model.light_diffuse[0] = self._plain[1] * (1 + strength * rng.uniform(0.0, 1.5))
        sign = -1.0 if rng.random() < 0.7 else 0.35  # rather darker: brighter saturates
        tint = 1 + strength * rng.uniform(-0.3, 0.3, 3)
        model.vis.headlight.ambient[:] = self._plain[2] * (1 + 0.6 * strength * sign) * tint

    def _draw_viewpoint(self, rng: np.random.Generator, degrees: tuple[float, ...]) -> None:
        """Turn the camera about the point that it looks at."""
        azimuth, up = np.deg2rad(rng.uniform(degrees[0], degrees[1], 2)) * rng.choice([-1.0, 1.0], 2)
        x, _, z = _FRONT_M - _LOOKS_AT_M
        distance, elevation = np.hypot(x, z), np.arctan2(z, x) + up / 2
        back = np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )  # the camera looks along -back
        right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
        model = self._world.model
        model.cam_pos[self._camera] = _LOOKS_AT_M + distance * back
        mujoco.mju_mat2Quat(
            model.cam_quat[self._camera], np.column_stack([right, np.cross(back, right), back]).flatten()
        )


def _shade(rng: np.random.Generator, rgb: tuple[float, float, float], reach: float) -> tuple[float, float, float]:
    """Another shade of a colour."""
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    turn, paler, lighter = (reach * rng.uniform(low, high) for low, high in _SHADES)
    return colorsys.hsv_to_rgb((hue + turn) % 1, saturation * (1 + paler), min(1.0, value * (1 + lighter)))
