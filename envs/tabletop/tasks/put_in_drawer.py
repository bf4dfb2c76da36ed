"""``tabletop/put-in-drawer``: put the named block in the open drawer of the named colour."""

from functools import partial

import numpy as np

from vla.envs.tabletop.scene.furniture import DRAWER_FLOOR_M, DRAWER_MIDDLE_M
from vla.envs.tabletop.scene.world import Thing
from vla.envs.tabletop.tasks.drawer import open_all
from vla.envs.tabletop.tasks.progress import brought
from vla.envs.tabletop.tasks.skills import rests, transfer
from vla.envs.tabletop.tasks.task import Move, Situation, Task, each_block_and

_RADIUS_M = 0.045


def middle_m(situation: Situation, drawer: Thing) -> np.ndarray:
    """(2,): the middle of the drawer's floor."""
    middle: np.ndarray = situation.world.position_m(drawer)[:2] + np.array([0.0, DRAWER_MIDDLE_M])
    return middle


def in_drawer(situation: Situation, block: Thing, drawer: Thing) -> bool:
    """Whether the block lies in the drawer, released."""
    return rests(situation.world, block, middle_m(situation, drawer), DRAWER_FLOOR_M, _RADIUS_M)


def to_drawer(situation: Situation, block: Thing, drawer: Thing) -> Move:
    """Bring the block into the open drawer."""
    world, spot = situation.world, middle_m(situation, drawer)
    open_m = 2 * world.half_m(block)[1] + 0.018  # the fingers have little room between the walls
    return transfer(world, block, spot, DRAWER_FLOOR_M, near_m=_RADIUS_M, slope=9.0, open_m=open_m)


def _reached(situation: Situation) -> bool:
    return in_drawer(situation, *situation.goal.things)


def _distance_m(situation: Situation) -> float:
    block, drawer = situation.goal.things
    return float(np.linalg.norm(situation.world.position_m(block)[:2] - middle_m(situation, drawer)))


def _progress(situation: Situation) -> float:
    block, drawer = situation.goal.things
    return brought(situation, block, middle_m(situation, drawer))


def _plan(situation: Situation) -> Move:
    return to_drawer(situation, *situation.goal.things)


PUT_IN_DRAWER = Task(
    name="tabletop/put-in-drawer",
    templates=(
        "put the {block} in the {drawer}",
        "place the {block} in the {drawer}",
        "drop the {block} into the {drawer}",
        "lay the {block} in the {drawer}",
        "into the {drawer}, put the {block}",
    ),
    roles=("block", "drawer"),
    needs={"blocks": 1, "drawers": 1},
    goals=partial(each_block_and, "drawer"),
    prepare=open_all,
    reached=_reached,
    distance_m=_distance_m,
    progress=_progress,
    plan=_plan,
    other_goal_needs="blocks=2 or drawers=2",
)
