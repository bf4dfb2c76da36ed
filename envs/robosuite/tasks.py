"""The tasks as data: robosuite's name, what is said, which thing is moved where, and how far it has to go.

Success is robosuite's own. What stands here serves progress, signals and the experts. Metres, world frame.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla.envs.robosuite.scene import Scene

TABLE_M = 0.8
_LIFTED_M = 0.04
OPENED_RAD = 0.3
"""The door counts as open beyond this angle of its hinge."""
_HANDLE_RADIUS_M = 0.35
"""About the way from the door's hinge to its handle."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of robosuite's."""

    suite_name: str
    goal_name: str
    """What counts as success, in a few words."""
    body: str
    """The body that is moved."""
    grip: str
    """The site, or where there is none the body, that the gripper goes to."""
    goal: Callable[[Scene], np.ndarray]
    """Where the body belongs, (3,)."""
    remaining: Callable[[Scene], float]
    """How far it still has to go, m."""


def grip_m(scene: Scene, task: Task) -> np.ndarray:
    """(3,): where the gripper goes to."""
    return scene.body_m(task.grip) if task.grip == task.body else scene.site_m(task.grip)


def _lift_goal(scene: Scene) -> np.ndarray:
    return np.array([*scene.body_m("cube_main")[:2], TABLE_M + _LIFTED_M])


def _stack_goal(scene: Scene) -> np.ndarray:
    return np.asarray(scene.body_m("cubeB_main") + np.array([0.0, 0.0, 0.045]))


def _bin_goal(index: int, half_height_m: float) -> Callable[[Scene], np.ndarray]:
    def goal(scene: Scene) -> np.ndarray:
        spot: np.ndarray = scene.suite_env.target_bin_placements[index]
        return np.asarray(spot + np.array([0.0, 0.0, 0.02 + half_height_m]))

    return goal


def _peg_goal(peg: str) -> Callable[[Scene], np.ndarray]:
    def goal(scene: Scene) -> np.ndarray:
        return np.array([*scene.body_m(peg)[:2], 0.83])

    return goal


def _door_goal(scene: Scene) -> np.ndarray:
    """The handle, turned about the hinge to where the door counts as open."""
    hinge = scene.data.joint("Door_hinge")
    turn = OPENED_RAD - float(hinge.qpos[0])
    arm = scene.site_m("Door_handle") - hinge.xanchor
    cross = np.array([-arm[1], arm[0], 0.0]) * hinge.xaxis[2]
    flat = np.array([arm[0], arm[1], 0.0])
    return np.asarray(hinge.xanchor + flat * np.cos(turn) + cross * np.sin(turn) + np.array([0.0, 0.0, arm[2]]))


def _way(body: str, goal: Callable[[Scene], np.ndarray]) -> Callable[[Scene], float]:
    return lambda scene: float(np.linalg.norm(scene.body_m(body) - goal(scene)))


def _to_lift(scene: Scene) -> float:
    return max(0.0, TABLE_M + _LIFTED_M - float(scene.body_m("cube_main")[2]))


def _to_open(scene: Scene) -> float:
    return max(0.0, OPENED_RAD - scene.joint("Door_hinge")) * _HANDLE_RADIUS_M


def _pick_place(name: str, index: int, half_height_m: float) -> Task:
    goal, body = _bin_goal(index, half_height_m), f"{name}_main"
    return Task(
        suite_name=f"PickPlace{name}",
        goal_name=f"{name.lower()} in its bin",
        body=body,
        grip=body,
        goal=goal,
        remaining=_way(body, goal),
    )


def _nut(name: str, peg: str) -> Task:
    goal, body = _peg_goal(peg), f"{name}Nut_main"
    return Task(
        suite_name=f"NutAssembly{name}",
        goal_name=f"{name.lower()} nut on its peg",
        body=body,
        grip=f"{name}Nut_handle_site",
        goal=goal,
        remaining=_way(body, goal),
    )


TASKS: dict[str, Task] = {
    "lift": Task(
        suite_name="Lift",
        goal_name="cube lifted",
        body="cube_main",
        grip="cube_main",
        goal=_lift_goal,
        remaining=_to_lift,
    ),
    "stack": Task(
        suite_name="Stack",
        goal_name="red cube on green cube",
        body="cubeA_main",
        grip="cubeA_main",
        goal=_stack_goal,
        remaining=_way("cubeA_main", _stack_goal),
    ),
    "pick-place-milk": _pick_place("Milk", 0, 0.065),
    "pick-place-bread": _pick_place("Bread", 1, 0.025),
    "pick-place-cereal": _pick_place("Cereal", 2, 0.075),
    "pick-place-can": _pick_place("Can", 3, 0.041),
    "nut-assembly-square": _nut("Square", "peg1"),
    "nut-assembly-round": _nut("Round", "peg2"),
    "door": Task(
        suite_name="Door",
        goal_name="door open",
        body="Door_latch",
        grip="Door_handle",
        goal=_door_goal,
        remaining=_to_open,
    ),
}
