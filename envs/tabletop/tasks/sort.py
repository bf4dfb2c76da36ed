"""``tabletop/sort``: put every block on the plate of its own colour, or of the other block's colour if told so."""

from dataclasses import replace

import numpy as np

from vla.envs.tabletop.scene.layout import Layout
from vla.envs.tabletop.scene.world import Thing
from vla.envs.tabletop.tasks.place import on_plate, to_plate
from vla.envs.tabletop.tasks.progress import brought
from vla.envs.tabletop.tasks.skills import among_things, held, rise
from vla.envs.tabletop.tasks.task import Goal, Move, Situation, Task

OWN, OTHER = "its own", "the other"


def _arrange(rng: np.random.Generator, layout: Layout) -> Layout:
    """Give the plates the blocks' colours, in another order."""
    blocks, plates = layout.things("block"), layout.things("plate")
    plates = plates[: len(blocks)]
    order = rng.permutation(len(plates)).tolist()
    colours = {plate: layout.colours[blocks[i]] for plate, i in zip(plates, order, strict=True)}
    return replace(layout, colours={**layout.colours, **colours})


def _goals(layout: Layout) -> tuple[Goal, ...]:
    blocks = layout.things("block")
    return tuple(Goal(blocks, word) for word in ((OWN, OTHER) if len(blocks) == 2 else (OWN,)))


def _pairs(situation: Situation) -> tuple[tuple[Thing, Thing], ...]:
    """Each block and the plate where it belongs."""
    layout, blocks = situation.layout, situation.goal.things
    plates = {layout.colours[plate]: plate for plate in layout.things("plate")[: len(blocks)]}
    shift = 1 if situation.goal.word == OTHER else 0
    colours = [layout.colours[blocks[(i + shift) % len(blocks)]] for i in range(len(blocks))]
    return tuple((block, plates[colour]) for block, colour in zip(blocks, colours, strict=True))


def _missing(situation: Situation) -> list[tuple[Thing, Thing]]:
    return [pair for pair in _pairs(situation) if not on_plate(situation, *pair)]


def _now(situation: Situation) -> tuple[Thing, Thing]:
    """The block to bring next and its plate: one that is held before all, then the nearest to the tool.

    That order is to be seen in the picture, and stays what it is while the arm comes nearer.
    """
    world, missing = situation.world, _missing(situation)
    in_hand = [pair for pair in missing if held(world, pair[0])]
    tool = world.tool_m()[:2]
    return min(
        in_hand or missing or _pairs(situation),
        key=lambda pair: float(np.linalg.norm(world.position_m(pair[0])[:2] - tool)),
    )


def _reached(situation: Situation) -> bool:
    return not _missing(situation)


def _distance_m(situation: Situation) -> float:
    world = situation.world
    return max(
        float(np.linalg.norm(world.position_m(block)[:2] - world.position_m(plate)[:2]))
        for block, plate in _pairs(situation)
    )


def _progress(situation: Situation) -> float:
    pairs, missing = _pairs(situation), _missing(situation)
    if not missing:
        return 1.0
    block, plate = _now(situation)
    now = brought(situation, block, situation.world.position_m(plate)[:2])
    return (len(pairs) - len(missing) + min(now, 0.99)) / len(pairs)


def _subtask(situation: Situation) -> tuple[str, str]:
    block, plate = _now(situation)
    phrase = situation.layout.phrase
    return f"place {block.index}", f"put the {phrase(block)} on the {phrase(plate)}"


def _plan(situation: Situation) -> Move:
    world = situation.world
    block, plate = _now(situation)
    if not held(world, block) and among_things(world, world.position_m(block)[:2]):
        done = [other for other, _ in _pairs(situation) if other != block]
        if any(np.linalg.norm(world.tool_m()[:2] - world.position_m(other)[:2]) < 0.05 for other in done):
            return rise(world, 0.08)
    return to_plate(situation, block, plate)


SORT = Task(
    name="tabletop/sort",
    templates=(
        "put each block on the plate of {word} colour",
        "sort the blocks, each onto the plate of {word} colour",
        "every block goes on the plate of {word} colour",
        "place every block on the plate of {word} colour",
        "on the plate of {word} colour, put each block",
    ),
    roles=(),
    needs={"blocks": 2, "plates": 2},
    vocabulary=(OWN, OTHER),
    goals=_goals,
    arrange=_arrange,
    focus=_now,
    subtask=_subtask,
    reached=_reached,
    distance_m=_distance_m,
    progress=_progress,
    plan=_plan,
    other_goal_needs="blocks=2",
)
