"""``tabletop/lift``: pick up the block that the instruction names."""

import numpy as np

from vla.envs.tabletop.scene.world import Thing
from vla.envs.tabletop.tasks.progress import moved
from vla.envs.tabletop.tasks.skills import CARRY_M, held, pick
from vla.envs.tabletop.tasks.task import Move, Situation, Task, each_block

_HIGH_M = 0.06
"""How far the block's underside must be above the table."""


def underside_m(situation: Situation, block: Thing) -> float:
    """Height of the block's underside above the table."""
    world = situation.world
    return float(world.position_m(block)[2] - world.half_m(block)[2])


def is_up(situation: Situation) -> bool:
    """Whether the goal's block is held, well above the table."""
    (block,) = situation.goal.things
    return underside_m(situation, block) > _HIGH_M and all(situation.world.touching(block))


def height_missing_m(situation: Situation) -> float:
    """How much higher the goal's block must be."""
    return max(0.0, _HIGH_M - underside_m(situation, situation.goal.things[0]))


def lifted(situation: Situation) -> float:
    """Progress: coming to the block, then raising it."""
    (block,) = situation.goal.things
    return moved(situation, situation.world.position_m(block), underside_m(situation, block) / _HIGH_M)


def lift(situation: Situation) -> Move:
    """Grasp the goal's block, then go straight up."""
    world, (block,) = situation.world, situation.goal.things
    if held(world, block):
        up = np.array([*world.tool_m()[:2], CARRY_M])
        return Move(tool_m=up, width_m=2 * world.half_m(block)[1] - 0.02)
    return pick(world, block)


LIFT = Task(
    name="tabletop/lift",
    templates=(
        "lift the {block}",
        "pick up the {block}",
        "raise the {block} off the table",
        "take the {block} and hold it up",
        "grab the {block} and lift it",
    ),
    roles=("block",),
    needs={"blocks": 1},
    goals=each_block,
    reached=is_up,
    distance_m=height_missing_m,
    progress=lifted,
    plan=lift,
    other_goal_needs="blocks=2",
)
