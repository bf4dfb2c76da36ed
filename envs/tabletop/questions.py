"""What can be asked of a scene of the table, and what is right: read off the simulation, said as instructions are.

Left, right, in front of and behind are the robot's own, as in ``tabletop/push`` and ``tabletop/spatial``. A question is
only asked where its answer is clear, so of things that are nearly level nobody asks which is left of the other.

What is where is one sentence of the whole scene, its caption: what is held comes first, then what lies on the table
from left to right, each in its relation to the next, and what rests on or in another thing with that thing::

    a red block on a blue plate, which is left of and behind a green block, which is in front of a yellow plate

A part of it says one thing alone: what is held, what lies on what, or what is on which side of what.

Where a thing is, is answered with its box in the picture of the front camera, of what is seen of it.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from vla.core.media.boxes import box_words
from vla.core.types import BOX, PART, SCENE, Question
from vla.envs.tabletop.scene.sight import seen_box
from vla.envs.tabletop.scene.world import Thing
from vla.envs.tabletop.tasks.drawer import is_closed, is_open
from vla.envs.tabletop.tasks.skills import held
from vla.envs.tabletop.tasks.spatial import RELATIONS
from vla.envs.tabletop.tasks.task import Situation, Task, words

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")
_SIDES = {
    "left of": np.array([0.0, 1.0]),
    "right of": np.array([0.0, -1.0]),
    "in front of": np.array([-1.0, 0.0]),
    "behind": np.array([1.0, 0.0]),
}
"""Directions (x, y) on the table: in front is nearer to the robot."""
_CLEAR_M = 0.03
"""By which a thing is clearly on one side."""
_ON_M, _LOW_M = 0.045, 0.02
"""How far a block's middle may be from that of what it is on or in, and how high above the table its underside."""
_WITHIN = {"plate": "on", "bowl": "in"}


Asked = tuple[Question, tuple[Thing, ...]]
"""A question, and the things that it and its answer are about."""


def scene_questions(situation: Situation) -> Iterator[Asked]:
    """Of colour, relation, number, what is where, and where in the picture, as it is now."""
    layout = situation.layout
    loose = [thing for thing in layout.spots_m if thing.kind != "drawer"]
    names = {thing: f"the {layout.phrase(thing)}" for thing in layout.spots_m}
    clear = [thing for thing in loose if list(names.values()).count(names[thing]) == 1]
    yield from _numbers(situation, loose)
    yield from _relations(situation, clear, names)
    yield from _places(situation, clear, names)
    yield from _captions(situation, clear)
    yield from _boxes(situation, names)


def deed_question(task: Task, situation: Situation) -> Question:
    """What was done, where an episode ended well: in the family's first words."""
    named = words(task, situation.layout, situation.goal)
    return Question(kind="deed", text="what was done", answer=task.templates[0].format(**named))


def _numbers(situation: Situation, loose: list[Thing]) -> Iterator[Asked]:
    colours = situation.layout.colours
    for colour in dict.fromkeys(colours[thing] for thing in situation.layout.spots_m):
        counted = tuple(thing for thing in loose if colours[thing] == colour)
        said = f"how many things are {colour}"
        yield Question(kind="number", text=said, answer=NUMBERS[len(counted)]), counted
    for colour in ("red", "green", "blue", "yellow"):
        if colour not in colours.values():
            yield Question(kind="number", text=f"how many things are {colour}", answer=NUMBERS[0]), ()


def _relations(situation: Situation, clear: list[Thing], names: dict[Thing, str]) -> Iterator[Asked]:
    spots = {thing: situation.world.position_m(thing)[:2] for thing in clear}
    for thing in clear:
        for side, way in _SIDES.items():
            beyond = {other: float((spots[other] - spots[thing]) @ way) for other in clear if other != thing}
            for other, far in beyond.items():
                if abs(far) > _CLEAR_M:
                    said = f"is {names[other]} {side} {names[thing]}"
                    yield Question(kind="relation", text=said, answer="yes" if far > 0 else "no"), (other, thing)
            if any(abs(far) <= _CLEAR_M for far in beyond.values()):
                continue
            there = [other for other, far in beyond.items() if far > 0]
            if len(there) < 2:  # of several nobody would know which one is meant
                found = names[there[0]] if there else "nothing"
                yield Question(kind="side", text=f"what is {side} {names[thing]}", answer=found), (*there, thing)


def _places(situation: Situation, clear: list[Thing], names: dict[Thing, str]) -> Iterator[Asked]:
    world, layout = situation.world, situation.layout
    blocks = layout.things("block")
    for words_, block in _told_apart(situation, blocks):
        yield Question(kind="colour", text=f"what colour is {words_}", answer=layout.colours[block]), (block,)
    named = [block for block in blocks if block in clear]
    for place in clear:
        if place.kind in _WITHIN:
            there = [block for block in named if _is_at(situation, block, place)]
            if len(there) < 2:
                found = names[there[0]] if there else "nothing"
                said = f"what is {_WITHIN[place.kind]} {names[place]}"
                yield Question(kind="place", text=said, answer=found), (*there, place)
    grasped = [block for block in blocks if held(world, block)]
    if not grasped or grasped[0] in clear:
        found = names[grasped[0]] if grasped else "nothing"
        yield Question(kind="hand", text="what do you hold", answer=found), tuple(grasped)
    for drawer in layout.things("drawer"):
        if is_open(world, drawer) or is_closed(world, drawer):
            answer = "yes" if is_open(world, drawer) else "no"
            yield Question(kind="drawer", text=f"is {names[drawer]} open", answer=answer), (drawer,)


def _captions(situation: Situation, clear: list[Thing]) -> Iterator[Asked]:
    """Nothing of things that share their name: nobody would know which one is meant."""
    called = {thing: f"a {situation.layout.phrase(thing)}" for thing in clear}
    blocks = [thing for thing in clear if thing.kind == "block"]
    under = {b: place for b in blocks for place in clear if b != place and _rests(situation, b, place)}
    lifted = [block for block in blocks if block not in under and held(situation.world, block)]
    clauses = [f"{called[block]} held" for block in lifted]
    spots = {t: situation.world.position_m(t)[:2] for t in clear if t not in under and t not in lifted}
    row = sorted(spots, key=lambda thing: -float(spots[thing][1]))
    if row:
        beside = [_relation(spots[left] - spots[right]) for left, right in itertools.pairwise(row)]
        named = [_with_what_rests(thing, under, called) for thing in row]
        clauses.append(", which is ".join(_joined(named, beside)))
    if clauses:
        yield Question(kind=SCENE, text="what is where", answer=", ".join(clauses)), ()
    for block in lifted:
        yield Question(kind=PART, text="what is held", answer=f"{called[block]} held"), (block,)
    for block, place in under.items():
        said = f"{called[block]} {_WITHIN.get(place.kind, 'on')} {called[place]}"
        yield Question(kind=PART, text="what lies on what", answer=said), (block, place)
    for one, other in itertools.permutations(row, 2):
        for side in _sides(spots[one] - spots[other]):
            said = f"{called[one]} {side} {called[other]}"
            yield Question(kind=PART, text="what is beside what", answer=said), (one, other)


def _boxes(situation: Situation, names: dict[Thing, str]) -> Iterator[Asked]:
    """Of what shares its name with nothing, and is seen."""
    for thing, name in names.items():
        if list(names.values()).count(name) == 1 and (box := seen_box(situation.world, thing)) is not None:
            yield Question(kind=BOX, text=f"where is {name}", answer=box_words(box)), (thing,)


def _joined(said: list[str], beside: list[str]) -> Iterator[str]:
    """The first two in one clause, each further one in a clause about the one before."""
    yield " ".join([said[0], *beside[:1], *said[1:2]])
    yield from (f"{relation} {thing}" for relation, thing in zip(beside[1:], said[2:], strict=True))


def _with_what_rests(thing: Thing, under: dict[Thing, Thing], called: dict[Thing, str]) -> str:
    upon = [_with_what_rests(block, under, called) for block, place in under.items() if place == thing]
    word = _WITHIN.get(thing.kind, "on")
    return f"{' and '.join(upon)} {word} {called[thing]}" if upon else called[thing]


def _relation(offset: Float64[np.ndarray, " 2"]) -> str:
    """Of a thing that is so far from another to that, in words."""
    return " and ".join(_sides(offset)) or "beside"


def _sides(offset: Float64[np.ndarray, " 2"]) -> list[str]:
    return [side for side, way in _SIDES.items() if float(offset @ way) > _CLEAR_M]


def _told_apart(situation: Situation, blocks: tuple[Thing, ...]) -> Iterator[tuple[str, Thing]]:
    """Blocks by where they stand, in the words of ``tabletop/spatial``."""
    if len(blocks) < 2:
        return
    spots = np.array([situation.world.position_m(block)[:2] for block in blocks])
    for said, measure in RELATIONS.items():
        values = measure(spots)
        *_, second, first = np.argsort(values).tolist()
        if values[first] - values[second] > _CLEAR_M:
            yield said, blocks[first]


def _is_at(situation: Situation, block: Thing, place: Thing) -> bool:
    """On or in it, let go of or not."""
    position, under = situation.world.position_m(block), situation.world.position_m(place)
    near = bool(np.linalg.norm(position[:2] - under[:2]) < _ON_M)
    return near and bool(position[2] < situation.world.half_m(block)[2] + _LOW_M)


def _rests(situation: Situation, block: Thing, place: Thing) -> bool:
    """On or in a plate or a bowl, or on another block, let go of or not."""
    if place.kind in _WITHIN:
        return _is_at(situation, block, place)
    world = situation.world
    apart = world.position_m(block) - world.position_m(place)
    heights = world.half_m(block)[2] + world.half_m(place)[2]
    return place.kind == "block" and bool(np.linalg.norm(apart[:2]) < _ON_M / 2 and 0 < apart[2] < heights + _LOW_M)
