"""``tabletop/spatial``: pick up the block that is told apart by where it stands; all have one colour.

Left and right are the robot's own, near and far are from its base; a relation is only asked where it is clear.
"""

from dataclasses import replace

import numpy as np

from vla.envs.tabletop.scene.layout import Layout
from vla.envs.tabletop.tasks.lift import height_missing_m, is_up, lift, lifted
from vla.envs.tabletop.tasks.task import Goal, Task

RELATIONS = {
    "the left block": lambda spots: spots[:, 1],
    "the right block": lambda spots: -spots[:, 1],
    "the block nearest to you": lambda spots: -np.hypot(spots[:, 0], spots[:, 1]),
    "the block farthest from you": lambda spots: np.hypot(spots[:, 0], spots[:, 1]),
}
"""How much each block is what the words say, of (x, y) spots."""
BY_THE_PLATE = "the block nearest to the plate"
MIDDLE = "the block between the other two"
_CLEAR_M = 0.035
_ASIDE_M = 0.06


def _arrange(rng: np.random.Generator, layout: Layout) -> Layout:
    """All blocks in one colour, that of the first."""
    blocks = layout.things("block")
    same = dict.fromkeys(blocks, layout.colours[blocks[0]])
    return replace(layout, colours={**layout.colours, **same})


def _goals(layout: Layout) -> tuple[Goal, ...]:
    blocks = layout.things("block")
    spots = np.array([layout.spots_m[block] for block in blocks])
    measured = {words: measure(spots) for words, measure in RELATIONS.items()}
    for plate in layout.things("plate")[:1]:
        measured[BY_THE_PLATE] = -np.linalg.norm(spots - layout.spots_m[plate], axis=1)
    goals = []
    for words, values in measured.items():
        *_, second, first = np.argsort(values).tolist()
        if values[first] - values[second] > _CLEAR_M:
            goals.append(Goal((blocks[first],), said=words))
    middle = _middle(spots)
    return (*goals, *((Goal((blocks[middle],), said=MIDDLE),) if middle is not None else ()))


def _middle(spots: np.ndarray) -> int | None:
    """Which of three spots lies between the other two, if one clearly does."""
    for index in range(3 if len(spots) == 3 else 0):
        a, b = np.delete(spots, index, axis=0)
        way = b - a
        share = float((spots[index] - a) @ way / (way @ way))
        if 0.3 < share < 0.7 and np.linalg.norm(spots[index] - a - share * way) < _ASIDE_M:
            return index
    return None


def _draw(rng: np.random.Generator, layout: Layout) -> Goal | None:
    """One of the goals, where they name at least two blocks, so that the words decide."""
    goals = _goals(layout)
    if len({goal.things for goal in goals}) < 2:
        return None
    return goals[rng.integers(len(goals))]


SPATIAL = Task(
    name="tabletop/spatial",
    templates=(
        "lift {word}",
        "pick up {word}",
        "raise {word} off the table",
        "take {word} and hold it up",
        "grab {word} and lift it",
    ),
    roles=("block",),
    needs={"blocks": 2},
    vocabulary=(*RELATIONS, BY_THE_PLATE, MIDDLE),
    goals=_goals,
    draw=_draw,
    arrange=_arrange,
    reached=is_up,
    distance_m=height_missing_m,
    progress=lifted,
    plan=lift,
)
