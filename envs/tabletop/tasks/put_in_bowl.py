"""``tabletop/put-in-bowl``: put the named block in the bowl of the named colour."""

from functools import partial

import numpy as np

from vla.envs.tabletop.scene.furniture import BOWL_FLOOR_M, BOWL_RADIUS_M
from vla.envs.tabletop.tasks.progress import brought
from vla.envs.tabletop.tasks.skills import rests, transfer
from vla.envs.tabletop.tasks.task import Move, Situation, Task, each_block_and


def _reached(situation: Situation) -> bool:
    world, (block, bowl) = situation.world, situation.goal.things
    return rests(world, block, world.position_m(bowl)[:2], BOWL_FLOOR_M, BOWL_RADIUS_M - 0.01)


def _distance_m(situation: Situation) -> float:
    block, bowl = (situation.world.position_m(thing) for thing in situation.goal.things)
    return float(np.linalg.norm(block[:2] - bowl[:2]))


def _progress(situation: Situation) -> float:
    block, bowl = situation.goal.things
    return brought(situation, block, situation.world.position_m(bowl)[:2])


def _plan(situation: Situation) -> Move:
    world, (block, bowl) = situation.world, situation.goal.things
    open_m = 2 * world.half_m(block)[1] + 0.018  # the fingers have little room between the walls
    spot = world.position_m(bowl)[:2]
    return transfer(world, block, spot, BOWL_FLOOR_M, near_m=0.045, slope=9.0, open_m=open_m)


PUT_IN_BOWL = Task(
    name="tabletop/put-in-bowl",
    templates=(
        "put the {block} in the {bowl}",
        "place the {block} in the {bowl}",
        "drop the {block} into the {bowl}",
        "set the {block} down in the {bowl}",
        "into the {bowl}, put the {block}",
    ),
    roles=("block", "bowl"),
    needs={"blocks": 1, "bowls": 1},
    goals=partial(each_block_and, "bowl"),
    reached=_reached,
    distance_m=_distance_m,
    progress=_progress,
    plan=_plan,
    other_goal_needs="blocks=2 or bowls=2",
)
