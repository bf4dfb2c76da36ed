"""``tabletop/drawer-open`` and ``tabletop/drawer-close``: the drawer of the named colour."""

import numpy as np

from vla.envs.tabletop.scene.furniture import DRAWER_TRAVEL_M
from vla.envs.tabletop.scene.world import Thing, World
from vla.envs.tabletop.tasks.progress import moved
from vla.envs.tabletop.tasks.skills import close_drawer, pull, rise
from vla.envs.tabletop.tasks.task import Move, Situation, Task, each_drawer

OPEN_M = 0.085
CLOSED_M = 0.006


def open_all(rng: np.random.Generator, situation: Situation) -> None:
    """Draw how far each drawer is open: nearly or all the way."""
    for drawer in situation.layout.things("drawer"):
        situation.world.set_slide(drawer, rng.uniform(OPEN_M + 0.005, DRAWER_TRAVEL_M))


def opened(situation: Situation, drawer: Thing) -> float:
    """Progress of opening it."""
    world = situation.world
    return moved(situation, world.position_m(drawer), world.slide_m(drawer) / OPEN_M)


def closed(situation: Situation, drawer: Thing) -> float:
    """Progress of closing it."""
    world = situation.world
    return moved(situation, world.position_m(drawer), 1 - (world.slide_m(drawer) - CLOSED_M) / OPEN_M)


def is_open(world: World, drawer: Thing) -> bool:
    """Whether it is as good as all the way open."""
    return world.slide_m(drawer) > OPEN_M


def is_closed(world: World, drawer: Thing) -> bool:
    """Whether it is closed."""
    return world.slide_m(drawer) < CLOSED_M


def _open_reached(situation: Situation) -> bool:
    return is_open(situation.world, situation.goal.things[0])


def _open_distance_m(situation: Situation) -> float:
    return max(0.0, OPEN_M - situation.world.slide_m(situation.goal.things[0]))


def _open_progress(situation: Situation) -> float:
    return opened(situation, situation.goal.things[0])


def _open_plan(situation: Situation) -> Move:
    world, (drawer,) = situation.world, situation.goal.things
    return rise(world) if is_open(world, drawer) else pull(world, drawer)


def _close_reached(situation: Situation) -> bool:
    return is_closed(situation.world, situation.goal.things[0])


def _close_distance_m(situation: Situation) -> float:
    return max(0.0, situation.world.slide_m(situation.goal.things[0]) - CLOSED_M)


def _close_progress(situation: Situation) -> float:
    return closed(situation, situation.goal.things[0])


def _close_plan(situation: Situation) -> Move:
    world, (drawer,) = situation.world, situation.goal.things
    return rise(world) if is_closed(world, drawer) else close_drawer(world, drawer)


DRAWER_OPEN = Task(
    name="tabletop/drawer-open",
    templates=(
        "open the {drawer}",
        "pull the {drawer} open",
        "pull out the {drawer}",
        "slide open the {drawer}",
        "the {drawer}, open it",
    ),
    roles=("drawer",),
    needs={"drawers": 1},
    goals=each_drawer,
    reached=_open_reached,
    distance_m=_open_distance_m,
    progress=_open_progress,
    plan=_open_plan,
    other_goal_needs="drawers=2",
)
DRAWER_CLOSE = Task(
    name="tabletop/drawer-close",
    templates=(
        "close the {drawer}",
        "shut the {drawer}",
        "push the {drawer} closed",
        "push in the {drawer}",
        "the {drawer}, close it",
    ),
    roles=("drawer",),
    needs={"drawers": 1},
    goals=each_drawer,
    prepare=open_all,
    reached=_close_reached,
    distance_m=_close_distance_m,
    progress=_close_progress,
    plan=_close_plan,
    other_goal_needs="drawers=2",
)
