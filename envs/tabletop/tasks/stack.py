"""``tabletop/stack``: put one named block on another."""

import numpy as np

from vla.envs.tabletop.scene.layout import Layout
from vla.envs.tabletop.tasks.progress import brought
from vla.envs.tabletop.tasks.skills import rests, transfer
from vla.envs.tabletop.tasks.task import Goal, Move, Situation, Task

_RADIUS_M = 0.02


def _goals(layout: Layout) -> tuple[Goal, ...]:
    blocks = layout.things("block")
    return tuple(Goal((top, base)) for top in blocks for base in blocks if top != base)


def _surface_m(situation: Situation) -> float:
    world, (_, base) = situation.world, situation.goal.things
    return float(world.position_m(base)[2] + world.half_m(base)[2])


def _reached(situation: Situation) -> bool:
    world, (top, base) = situation.world, situation.goal.things
    standing = world.position_m(base)[2] < world.half_m(base)[2] + 0.01
    spot = world.position_m(base)[:2]
    return bool(standing and rests(world, top, spot, _surface_m(situation), _RADIUS_M))


def _distance_m(situation: Situation) -> float:
    top, base = (situation.world.position_m(thing) for thing in situation.goal.things)
    return float(np.linalg.norm(top[:2] - base[:2]))


def _progress(situation: Situation) -> float:
    top, base = situation.goal.things
    return brought(situation, top, situation.world.position_m(base)[:2])


def _plan(situation: Situation) -> Move:
    world, (top, base) = situation.world, situation.goal.things
    return transfer(world, top, world.position_m(base)[:2], _surface_m(situation), near_m=_RADIUS_M)


STACK = Task(
    name="tabletop/stack",
    templates=(
        "put the {block} on the {base}",
        "stack the {block} on top of the {base}",
        "place the {block} on the {base}",
        "set the {block} down on the {base}",
        "on the {base}, stack the {block}",
    ),
    roles=("block", "base"),
    needs={"blocks": 2},
    goals=_goals,
    reached=_reached,
    distance_m=_distance_m,
    progress=_progress,
    plan=_plan,
)
