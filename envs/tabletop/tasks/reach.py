"""``tabletop/reach``: bring the tool just above the block that the instruction names."""

import numpy as np

from vla.envs.tabletop.tasks.progress import nearness
from vla.envs.tabletop.tasks.task import Move, Situation, Task, each_block

_ABOVE_M = 0.03
_WITHIN_M = 0.02


def _point_m(situation: Situation) -> np.ndarray:
    world, (block,) = situation.world, situation.goal.things
    point: np.ndarray = world.position_m(block) + np.array([0.0, 0.0, world.half_m(block)[2] + _ABOVE_M])
    return point


def _distance_m(situation: Situation) -> float:
    return float(np.linalg.norm(situation.world.tool_m() - _point_m(situation)))


def _reached(situation: Situation) -> bool:
    return _distance_m(situation) < _WITHIN_M


def _progress(situation: Situation) -> float:
    return nearness(situation.world, _point_m(situation))


def _plan(situation: Situation) -> Move:
    return Move(tool_m=_point_m(situation), width_m=situation.world.width_m())


REACH = Task(
    name="tabletop/reach",
    templates=(
        "reach for the {block}",
        "move the gripper to the {block}",
        "go to the {block}",
        "bring the hand above the {block}",
        "to the {block}, move the gripper",
    ),
    roles=("block",),
    needs={"blocks": 1},
    goals=each_block,
    reached=_reached,
    distance_m=_distance_m,
    progress=_progress,
    plan=_plan,
    other_goal_needs="blocks=2",
)
