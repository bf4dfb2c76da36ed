"""``tabletop/place``: put the block that the instruction names on the plate that it names."""

from functools import partial

import numpy as np

from vla.envs.tabletop.scene.config import TabletopConfig
from vla.envs.tabletop.scene.layout import Layout
from vla.envs.tabletop.scene.mjcf import PLATE_HEIGHT_M, PLATE_RADIUS_M
from vla.envs.tabletop.scene.world import Thing
from vla.envs.tabletop.tasks.progress import brought
from vla.envs.tabletop.tasks.skills import rests, transfer
from vla.envs.tabletop.tasks.task import Goal, Move, Situation, Task, each_block_and

PlaceConfig = partial(TabletopConfig, plates=2)
"""The default settings of this family."""


def _draw(rng: np.random.Generator, layout: Layout) -> Goal:
    blocks, plates = layout.things("block"), layout.things("plate")
    return Goal((blocks[rng.integers(len(blocks))], plates[rng.integers(len(plates))]))


def on_plate(situation: Situation, block: Thing, plate: Thing) -> bool:
    """Whether the block rests on the plate, released."""
    world = situation.world
    return rests(world, block, world.position_m(plate)[:2], PLATE_HEIGHT_M, PLATE_RADIUS_M - 0.01)


def to_plate(situation: Situation, block: Thing, plate: Thing) -> Move:
    """Bring the block to the plate."""
    world = situation.world
    return transfer(world, block, world.position_m(plate)[:2], PLATE_HEIGHT_M)


def _reached(situation: Situation) -> bool:
    return on_plate(situation, *situation.goal.things)


def _distance_m(situation: Situation) -> float:
    block, plate = (situation.world.position_m(thing) for thing in situation.goal.things)
    return float(np.linalg.norm(block[:2] - plate[:2]))


def _progress(situation: Situation) -> float:
    block, plate = situation.goal.things
    return brought(situation, block, situation.world.position_m(plate)[:2])


def _plan(situation: Situation) -> Move:
    return to_plate(situation, *situation.goal.things)


PLACE = Task(
    name="tabletop/place",
    templates=(
        "put the {block} on the {plate}",
        "place the {block} on the {plate}",
        "move the {block} to the {plate}",
        "set the {block} down on the {plate}",
        "on the {plate}, put the {block}",
    ),
    roles=("block", "plate"),
    needs={"blocks": 1, "plates": 1},
    goals=partial(each_block_and, "plate"),
    draw=_draw,
    reached=_reached,
    distance_m=_distance_m,
    progress=_progress,
    plan=_plan,
    other_goal_needs="blocks=2 or plates=2",
)
