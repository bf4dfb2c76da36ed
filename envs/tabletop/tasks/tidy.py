"""``tabletop/tidy``: open the named drawer, put the named block in it, and close it: three steps, one instruction."""

from functools import partial

import numpy as np

from vla.envs.tabletop.tasks.drawer import closed, is_closed, is_open, opened
from vla.envs.tabletop.tasks.progress import brought
from vla.envs.tabletop.tasks.put_in_drawer import in_drawer, middle_m, to_drawer
from vla.envs.tabletop.tasks.skills import among_things, close_drawer, held, pull, rise
from vla.envs.tabletop.tasks.task import Move, Situation, Task, each_block_and

_STEPS = {
    "open": "open the {drawer}",
    "put": "put the {block} in the {drawer}",
    "close": "close the {drawer}",
}


def _step(situation: Situation) -> str:
    """What has to be done next, by how things are."""
    block, drawer = situation.goal.things
    if in_drawer(situation, block, drawer):
        return "close"
    return "put" if is_open(situation.world, drawer) or held(situation.world, block) else "open"


def _reached(situation: Situation) -> bool:
    block, drawer = situation.goal.things
    return is_closed(situation.world, drawer) and in_drawer(situation, block, drawer)


def _distance_m(situation: Situation) -> float:
    block, drawer = situation.goal.things
    return float(np.linalg.norm(situation.world.position_m(block)[:2] - middle_m(situation, drawer)))


def _progress(situation: Situation) -> float:
    block, drawer = situation.goal.things
    step = _step(situation)
    now = {
        "open": lambda: opened(situation, drawer),
        "put": lambda: brought(situation, block, middle_m(situation, drawer)),
        "close": lambda: closed(situation, drawer),
    }[step]()
    return (list(_STEPS).index(step) + min(now, 0.99)) / len(_STEPS)


def _subtask(situation: Situation) -> tuple[str, str]:
    block, drawer = situation.goal.things
    step, phrase = _step(situation), situation.layout.phrase
    return step, _STEPS[step].format(block=phrase(block), drawer=phrase(drawer))


def _plan(situation: Situation) -> Move:
    world, (block, drawer) = situation.world, situation.goal.things
    step = _step(situation)
    if step == "open":
        return pull(world, drawer)
    if step == "close":
        return rise(world) if is_closed(world, drawer) else close_drawer(world, drawer)
    if not held(world, block) and among_things(world, world.position_m(block)[:2]):
        return rise(world)
    return to_drawer(situation, block, drawer)


TIDY = Task(
    name="tabletop/tidy",
    templates=(
        "put the {block} away in the {drawer}",
        "tidy the {block} into the {drawer} and close it",
        "open the {drawer}, put the {block} in, and close it",
        "store the {block} in the {drawer}, then shut it",
        "in the {drawer}, put away the {block}, then close it",
    ),
    roles=("block", "drawer"),
    needs={"blocks": 1, "drawers": 1},
    goals=partial(each_block_and, "drawer"),
    subtask=_subtask,
    reached=_reached,
    distance_m=_distance_m,
    progress=_progress,
    plan=_plan,
    other_goal_needs="blocks=2 or drawers=2",
)
