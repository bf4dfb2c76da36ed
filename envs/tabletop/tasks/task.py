"""What a family of tasks is: a value that says what can be asked of a scene, when it is done, and how to do it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from vla.envs.splits import combination_is_held_out
from vla.envs.tabletop.scene.layout import Layout
from vla.envs.tabletop.scene.mjcf import COLOURS
from vla.envs.tabletop.scene.world import Thing, World


@dataclass(frozen=True)
class Goal:
    """What is asked of a scene."""

    things: tuple[Thing, ...]
    """The things that it is about, in the order of the family's roles."""
    word: str = ""
    """What it says beyond them: a direction, a rule."""
    said: str = field(default="", compare=False)
    """How it refers to its things where that is not by name: no part of what is wanted."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The world now, the layout it began with, and the goal."""

    world: World
    layout: Layout
    goal: Goal


@dataclass(frozen=True, kw_only=True)
class Move:
    """What an expert does next."""

    tool_m: np.ndarray
    """(3,): where the tool should go."""
    width_m: float
    """How far the gripper should be open."""
    step_m: float = 0.055
    """Longest way of the tool in one control step."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A family of tasks on one kind of scene."""

    name: str
    templates: tuple[str, ...]
    """With ``{role}`` for what the goal's things are called, and ``{word}``; the last ones are held out phrasings."""
    roles: tuple[str, ...]
    """The templates' placeholders for the goal's things, in their order."""
    needs: Mapping[str, int]
    """The fewest of each kind that a scene must have, by the name of the setting."""
    goals: Callable[[Layout], tuple[Goal, ...]]
    """All that can be asked of a scene."""
    reached: Callable[[Situation], bool]
    distance_m: Callable[[Situation], float]
    """How far what matters is from where it should be."""
    progress: Callable[[Situation], float]
    """Share of the task that is done, 0 to 1; counts only until the goal is reached."""
    plan: Callable[[Situation], Move]
    """The expert: a function of the situation alone."""
    vocabulary: tuple[str, ...] = ()
    """The goals' words."""
    draw: Callable[[np.random.Generator, Layout], Goal | None] | None = None
    """How the goal is drawn, where not each with the same probability; None asks for another layout."""
    fewest_goals: int = 1
    """A layout that offers fewer is drawn again."""
    arrange: Callable[[np.random.Generator, Layout], Layout] | None = None
    """Changes the drawn layout."""
    prepare: Callable[[np.random.Generator, Situation], None] | None = None
    """Changes the world before the episode, say opens drawers."""
    clear_m: Callable[[Layout, Goal], tuple[np.ndarray, ...]] | None = None
    """Further places where no distractor may stand."""
    focus: Callable[[Situation], tuple[Thing, ...]] | None = None
    """The things that signals tell of now, where they are not the goal's."""
    subtask: Callable[[Situation], tuple[str, str]] | None = None
    """Name and instruction of the step that a long task is at."""
    other_goal_needs: str = "more things"
    """Advice where a scene has no other goal to name."""


def draw_goal(rng: np.random.Generator, task: Task, layout: Layout) -> Goal | None:
    """One goal of the layout, or None where it offers too few."""
    if task.draw is not None:
        return task.draw(rng, layout)
    goals = task.goals(layout)
    return goals[rng.integers(len(goals))] if len(goals) >= task.fewest_goals else None


def is_held_out(task: Task, layout: Layout, goal: Goal) -> bool:
    """Whether the goal's combination of colours and words belongs to ``unseen-combination``."""
    colours = tuple(COLOURS)
    numbers = [colours.index(layout.colours[thing]) for thing in goal.things]
    word = goal.word or goal.said
    numbers += [task.vocabulary.index(word)] if word else []
    return combination_is_held_out(tuple(numbers))


def words(task: Task, layout: Layout, goal: Goal) -> dict[str, str]:
    """What fills the templates' placeholders."""
    named = {role: layout.phrase(thing) for role, thing in zip(task.roles, goal.things, strict=False)}
    return {**named, "word": goal.word or goal.said}


def title(layout: Layout, goal: Goal) -> str:
    """Which kind of goal it is, for grouping results."""
    things = " → ".join(layout.phrase(thing) for thing in goal.things)
    return f"{things}, {goal.word or goal.said}" if goal.word or goal.said else things


def each_block(layout: Layout) -> tuple[Goal, ...]:
    """A goal for each block."""
    return tuple(Goal((block,)) for block in layout.things("block"))


def each_drawer(layout: Layout) -> tuple[Goal, ...]:
    """A goal for each drawer."""
    return tuple(Goal((drawer,)) for drawer in layout.things("drawer"))


def each_block_and(kind: str, layout: Layout) -> tuple[Goal, ...]:
    """A goal for each block with each thing of another kind."""
    return tuple(Goal((block, target)) for block in layout.things("block") for target in layout.things(kind))
