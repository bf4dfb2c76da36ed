"""``tabletop/push``: slide the named block the named way, as the robot sees it: forward is away from its base."""

from collections.abc import Iterator

import numpy as np

from vla.envs.tabletop.scene.layout import Layout
from vla.envs.tabletop.scene.mjcf import AREA_M
from vla.envs.tabletop.scene.world import Thing
from vla.envs.tabletop.tasks import skills
from vla.envs.tabletop.tasks.progress import moved
from vla.envs.tabletop.tasks.task import Goal, Move, Situation, Task

DIRECTIONS = {
    "forward": np.array([1.0, 0.0]),
    "left": np.array([0.0, 1.0]),
    "backward": np.array([-1.0, 0.0]),
    "right": np.array([0.0, -1.0]),
}
_FAR_M = 0.06
_ASIDE_M = 0.04
_ROOM_M = 0.085
"""What must be free around the block's way."""
_TOOL_ROOM_M = 0.065
"""What must be free where the tool comes down."""
_PUSH_HEIGHT_M = 0.022


def _way_m(spot: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, ...]:
    """Points from the block's start to where it ends."""
    return tuple(spot + direction * share for share in (0.0, 0.045, 0.09))


def _feasible(layout: Layout, block: Thing, direction: np.ndarray) -> bool:
    """Whether the block stays in view and touches nothing else, and the tool has room behind it."""
    spot = layout.spots_m[block]
    end, behind = _way_m(spot, direction)[-1], spot - 0.055 * direction
    (low_x, high_x), (low_y, high_y) = AREA_M
    inside = low_x - 0.02 <= end[0] <= high_x + 0.02 and low_y - 0.01 <= end[1] <= high_y + 0.01
    others = [other for thing, other in layout.spots_m.items() if thing != block and thing.kind != "drawer"]
    free = all(np.linalg.norm(point - other) > _ROOM_M for point in _way_m(spot, direction) for other in others)
    return bool(inside and free and all(np.linalg.norm(behind - other) > _TOOL_ROOM_M for other in others))


def _goals(layout: Layout) -> tuple[Goal, ...]:
    def each() -> Iterator[Goal]:
        for block in layout.things("block"):
            for word, direction in DIRECTIONS.items():
                if _feasible(layout, block, direction):
                    yield Goal((block,), word)

    return tuple(each())


def _clear_m(layout: Layout, goal: Goal) -> tuple[np.ndarray, ...]:
    spot, direction = layout.spots_m[goal.things[0]], DIRECTIONS[goal.word]
    return (*_way_m(spot, direction), spot - 0.055 * direction)


def _shift_m(situation: Situation) -> tuple[float, float]:
    """How far the block has moved along the direction and aside from it."""
    (block,), direction = situation.goal.things, DIRECTIONS[situation.goal.word]
    shift = situation.world.position_m(block)[:2] - situation.layout.spots_m[block]
    along = float(shift @ direction)
    return along, float(np.linalg.norm(shift - along * direction))


def _reached(situation: Situation) -> bool:
    world, (block,) = situation.world, situation.goal.things
    along, aside = _shift_m(situation)
    flat = world.position_m(block)[2] < world.half_m(block)[2] + 0.01
    return bool(along > _FAR_M and aside < _ASIDE_M and flat)


def _distance_m(situation: Situation) -> float:
    along, aside = _shift_m(situation)
    return float(np.hypot(max(0.0, _FAR_M - along), max(0.0, aside - _ASIDE_M)))


def _progress(situation: Situation) -> float:
    (block,) = situation.goal.things
    return moved(situation, situation.world.position_m(block), _shift_m(situation)[0] / _FAR_M)


def _plan(situation: Situation) -> Move:
    """Push on: where the block began is not to be seen, so neither is how far it has come."""
    world, (block,) = situation.world, situation.goal.things
    direction = DIRECTIONS[situation.goal.word]
    half = world.half_m(block)[0 if abs(direction[0]) > 0.5 else 1]
    return skills.push(world, world.position_m(block)[:2], half, direction, height_m=_PUSH_HEIGHT_M)


PUSH = Task(
    name="tabletop/push",
    templates=(
        "push the {block} {word}",
        "slide the {block} {word}",
        "move the {block} {word} along the table",
        "shove the {block} {word}",
        "{word}, push the {block}",
    ),
    roles=("block",),
    needs={"blocks": 1},
    vocabulary=tuple(DIRECTIONS),
    goals=_goals,
    fewest_goals=2,
    clear_m=_clear_m,
    reached=_reached,
    distance_m=_distance_m,
    progress=_progress,
    plan=_plan,
)
