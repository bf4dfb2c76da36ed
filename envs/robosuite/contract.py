"""The contract of a robosuite environment. Free of heavy imports: arms are data."""

from importlib import metadata

from vla.core.contract import Camera, Contract, Dimension
from vla.core.provenance import versions
from vla.envs.robosuite.config import RobosuiteConfig
from vla.envs.robosuite.robots import Robot

CAMERAS = {"agent": "agentview", "wrist": "robot0_eye_in_hand"}
"""Ours and robosuite's names."""
THINGS = ("object", "goal")
"""What an instruction names, in the order of the signals: where the gripper goes to, and where that belongs."""
_AXES = ("x", "y", "z")
_REACH_M = {"x": (0.0, 1.2), "y": (-0.8, 0.8), "z": (-0.5, 0.7)}
_OSC = (("x", "m", 0.05), ("y", "m", 0.05), ("z", "m", 0.05), ("turn_x", "rad", 0.5), ("turn_y", "rad", 0.5))


def robosuite_contract(config: RobosuiteConfig, robot: Robot) -> Contract:
    """What the arm shows and takes under these settings."""
    gripper = Dimension(name="gripper", unit="m", low=robot.gripper.low_m, high=robot.gripper.high_m)
    joints = tuple(
        Dimension(name=name, unit="rad", low=low, high=high)
        for name, low, high in zip(robot.joints, robot.low_rad, robot.high_rad, strict=True)
    )
    points = [f"{camera}.{thing}.{axis}" for camera in CAMERAS for thing in THINGS for axis in ("row", "column")]
    metric = tuple(
        Dimension(name=f"{thing}_{axis}", unit="m", low=_REACH_M[axis][0], high=_REACH_M[axis][1])
        for thing in THINGS
        for axis in _AXES
    )
    package = {"robosuite": metadata.version("robosuite")}
    return Contract(
        robot=f"robosuite-{config.robot.lower()}",
        cameras=tuple(Camera(name=name, height=config.image_size, width=config.image_size) for name in CAMERAS),
        state=(*joints, gripper, *(_tool() if config.tool_pose else ())),
        action=(*joints, gripper) if config.control == "joint" else _osc(),
        signals={
            "grounding": metric,
            "pointing": tuple(Dimension(name=n, unit="image", low=-1.0, high=1.0) for n in points),
        },
        gripper="gripper",
        control_hz=config.control_hz,
        versions={**versions(), **package},
    )


def _tool() -> tuple[Dimension, ...]:
    """Position and the first two columns of the rotation (Zhou et al., arXiv 1812.07035), in the base frame."""
    position = tuple(Dimension(name=f"tool_{axis}", unit="m", low=-1.5, high=1.5) for axis in _AXES)
    columns = (f"tool_{column}axis_{axis}" for column in "xy" for axis in _AXES)
    return position + tuple(Dimension(name=name, unit="1", low=-1.0, high=1.0) for name in columns)


def _osc() -> tuple[Dimension, ...]:
    """The OSC_POSE of robosuite in SI units: how far the tool moves and turns in a step, in the base frame."""
    changes = (*_OSC, ("turn_z", "rad", 0.5))
    moves = tuple(Dimension(name=f"osc_{name}", unit=unit, low=-high, high=high) for name, unit, high in changes)
    return (*moves, Dimension(name="gripper", unit="1", low=-1.0, high=1.0))
