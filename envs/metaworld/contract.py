"""What a Meta-World robot shows and takes: the same for all fifty tasks, so that one policy fits them all."""

from importlib import metadata

from vla.core.contract import Camera, Contract, Dimension
from vla.core.provenance import versions

CONTROL_HZ = 80.0
"""Five physics steps of 2.5 ms each."""
STEP_M = 0.01
"""Way of the hand in one control step at an action of 1."""

_HAND = (("x", -0.525, 0.525), ("y", 0.348, 1.025), ("z", -0.0525, 0.7))
"""Bounds of the hand in Meta-World's observations, m."""
_REACH_M = 2.0
"""Beyond the table: things that fall off it go on falling."""


def state_dimensions(*, privileged: bool) -> tuple[Dimension, ...]:
    """The hand's position and the gripper's opening; with ``privileged`` all 39 numbers that experts look at."""
    if not privileged:
        return _robot("")
    frames = [*_robot(""), *_things(""), *_robot("previous_"), *_things("previous_")]
    return (*frames, *(Dimension(name=f"goal_{axis}", unit="m", low=-_REACH_M, high=_REACH_M) for axis in "xyz"))


def metaworld_contract(*, cameras: tuple[str, ...], image_size: int, privileged: bool) -> Contract:
    """The contract of every task; positions are in Meta-World's frame: x to the robot's right, y away from it, z up.

    Actions are ratios: 1 moves the target of the hand by `STEP_M` in this control step, and 1 of the gripper opens it.
    """
    moves = tuple(Dimension(name=f"hand_d{axis}", unit="1", low=-1.0, high=1.0) for axis in "xyz")
    return Contract(
        robot="metaworld-sawyer",
        cameras=tuple(Camera(name=name, height=image_size, width=image_size) for name in cameras),
        state=state_dimensions(privileged=privileged),
        action=(*moves, Dimension(name="gripper", unit="1", low=-1.0, high=1.0)),
        gripper="gripper",
        control_hz=CONTROL_HZ,
        versions=versions() | {"metaworld": metadata.version("metaworld")},
    )


def _robot(prefix: str) -> tuple[Dimension, ...]:
    hand = [Dimension(name=f"{prefix}hand_{axis}", unit="m", low=low, high=high) for axis, low, high in _HAND]
    return (*hand, Dimension(name=f"{prefix}gripper", unit="1", low=0.0, high=1.0))


def _things(prefix: str) -> list[Dimension]:
    """Two slots of position (m) and quaternion, zeros where a task has one thing."""
    dimensions = []
    for thing in ("first", "second"):
        at = f"{prefix}{thing}"
        dimensions += [Dimension(name=f"{at}_{axis}", unit="m", low=-_REACH_M, high=_REACH_M) for axis in "xyz"]
        dimensions += [Dimension(name=f"{at}_q{i}", unit="1", low=-1.0, high=1.0) for i in range(4)]
    return dimensions
