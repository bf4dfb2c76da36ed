"""How far a task has come, from 0 to 1, for the things that most families do."""

import numpy as np

from vla.envs.tabletop.scene.world import Thing, World
from vla.envs.tabletop.tasks.task import Situation

_REACHING = 0.25
"""Share of bringing something that is coming to it."""


def nearness(world: World, point_m: np.ndarray) -> float:
    """1 where the tool is at the point, 0 from 0.4 m on."""
    return max(0.0, 1.0 - float(np.linalg.norm(world.tool_m() - point_m)) / 0.4)


def brought(situation: Situation, block: Thing, spot_m: np.ndarray) -> float:
    """Progress of bringing a block to a spot (x, y): first coming near it, then what is left of its way."""
    world = situation.world
    position = world.position_m(block)
    whole = max(float(np.linalg.norm(situation.layout.spots_m[block] - spot_m)), 1e-6)
    way = max(0.0, 1.0 - float(np.linalg.norm(position[:2] - spot_m)) / whole)
    return _REACHING * nearness(world, position) + (1 - _REACHING) * way


def moved(situation: Situation, point_m: np.ndarray, share: float) -> float:
    """Progress of moving something at a point: first coming near it, then the share of its way that it has moved."""
    return _REACHING * nearness(situation.world, point_m) + (1 - _REACHING) * float(np.clip(share, 0.0, 1.0))
