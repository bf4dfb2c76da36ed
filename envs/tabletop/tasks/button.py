"""``tabletop/button``: press the button of the named colour."""

from vla.envs.tabletop.scene.furniture import BUTTON_TRAVEL_M
from vla.envs.tabletop.scene.layout import Layout
from vla.envs.tabletop.tasks.progress import moved
from vla.envs.tabletop.tasks.skills import press
from vla.envs.tabletop.tasks.task import Goal, Move, Situation, Task

_PRESSED_M = 0.75 * BUTTON_TRAVEL_M


def _goals(layout: Layout) -> tuple[Goal, ...]:
    return tuple(Goal((button,)) for button in layout.things("button"))


def _depth_m(situation: Situation) -> float:
    return -situation.world.slide_m(situation.goal.things[0])


def _reached(situation: Situation) -> bool:
    return _depth_m(situation) > _PRESSED_M


def _distance_m(situation: Situation) -> float:
    return max(0.0, _PRESSED_M - _depth_m(situation))


def _progress(situation: Situation) -> float:
    top = situation.world.position_m(situation.goal.things[0])
    return moved(situation, top, _depth_m(situation) / _PRESSED_M)


def _plan(situation: Situation) -> Move:
    return press(situation.world, situation.goal.things[0])


BUTTON = Task(
    name="tabletop/button",
    templates=(
        "press the {button}",
        "push down the {button}",
        "hit the {button}",
        "press down on the {button}",
        "the {button}, press it",
    ),
    roles=("button",),
    needs={"buttons": 1},
    goals=_goals,
    reached=_reached,
    distance_m=_distance_m,
    progress=_progress,
    plan=_plan,
    other_goal_needs="buttons=2",
)
