"""The arms as data: what robosuite calls their joints, how far these go, and how their grippers open.

Limits, actuators and poses are those of robosuite's own models; a test compares them. Each gripper is the one that
robosuite mounts on the arm by default.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gripper:
    """A gripper with two pads, driven by two position actuators at once."""

    actuators: tuple[str, str]
    closed: tuple[float, float]
    """Controls that close it."""
    opened: tuple[float, float]
    """Controls that open it."""
    low_m: float
    """Free width between the pads when it is closed."""
    high_m: float
    """Free width when it is open; controls between the two are taken as linear in the width."""
    pads: tuple[str, str]
    """Collision geoms of the left and the right pad."""
    pad_half_m: float
    """Half the thickness of a pad."""
    fingers: tuple[tuple[str, ...], tuple[str, ...]]
    """Collision geoms of the left and the right finger."""
    sink_m: float = 0.0
    """How far below a thing's middle the tool goes, so that the pads meet it there."""


@dataclass(frozen=True, kw_only=True)
class Robot:
    """One arm on robosuite's fixed base."""

    joints: tuple[str, ...]
    low_rad: tuple[float, ...]
    high_rad: tuple[float, ...]
    home_rad: tuple[float, ...]
    """Where an episode begins, before noise."""
    gripper: Gripper
    no_contact: tuple[str, ...] = ()
    """Collision geoms of robosuite's model that are switched off, because they block a joint of the arm itself."""


def _robotiq_fingers(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    left, right = (tuple(f"{side}_{name}_collision" for name in names) for side in ("left", "right"))
    return left, right


_PANDA_HAND = Gripper(
    actuators=("gripper_finger_joint1", "gripper_finger_joint2"),
    closed=(0.0, 0.0),
    opened=(0.04, -0.04),
    low_m=0.0,
    high_m=0.08,
    pads=("finger1_pad_collision", "finger2_pad_collision"),
    pad_half_m=0.004,
    fingers=(("finger1_collision", "finger1_pad_collision"), ("finger2_collision", "finger2_pad_collision")),
)
_RETHINK = Gripper(
    actuators=("gripper_r_finger_joint", "gripper_l_finger_joint"),
    closed=(0.020833, -0.020833),
    opened=(-0.0115, 0.0115),
    low_m=0.013,
    high_m=0.059,
    pads=("l_fingerpad_g0", "r_fingerpad_g0"),
    pad_half_m=0.004,
    fingers=(
        ("l_finger_g0", "l_finger_g1", "l_fingertip_g0", "l_fingerpad_g0"),
        ("r_finger_g0", "r_finger_g1", "r_fingertip_g0", "r_fingerpad_g0"),
    ),
)
_ROBOTIQ_85 = Gripper(
    actuators=("finger_1", "finger_2"),
    closed=(0.8, 0.8),
    opened=(0.0, 0.0),
    low_m=0.013,
    high_m=0.108,
    pads=("left_fingerpad_collision", "right_fingerpad_collision"),
    pad_half_m=0.001,
    fingers=_robotiq_fingers(("outer_finger", "inner_finger", "fingertip", "fingerpad")),
    sink_m=0.008,
)
_ROBOTIQ_140 = Gripper(
    actuators=("finger_1", "finger_2"),
    closed=(0.7, -0.7),
    opened=(0.0, 0.0),
    low_m=0.020,
    high_m=0.130,
    pads=("left_fingerpad_collision", "right_fingerpad_collision"),
    pad_half_m=0.001,
    fingers=_robotiq_fingers(("outer_finger", "inner_finger", "fingertip", "fingerpad")),
)

ROBOTS: dict[str, Robot] = {
    "Panda": Robot(
        joints=tuple(f"joint{i}" for i in range(1, 8)),
        low_rad=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
        high_rad=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
        home_rad=(0.0, 0.19635, 0.0, -2.617994, 0.0, 2.941593, 0.785398),
        gripper=_PANDA_HAND,
    ),
    "UR5e": Robot(
        joints=(
            "shoulder_pan_joint",
            "shoulder_lift_joint",
            "elbow_joint",
            "wrist_1_joint",
            "wrist_2_joint",
            "wrist_3_joint",
        ),
        low_rad=(-6.28319, -6.28319, -3.14159, -6.28319, -6.28319, -6.28319),
        high_rad=(6.28319, 6.28319, 3.14159, 6.28319, 6.28319, 6.28319),
        home_rad=(-0.47, -1.735, 2.48, -2.275, -1.59, -1.991),
        gripper=_ROBOTIQ_85,
    ),
    "Sawyer": Robot(
        joints=tuple(f"right_j{i}" for i in range(7)),
        low_rad=(-3.0503, -3.8095, -3.0426, -3.0439, -2.9761, -2.9761, -4.7124),
        high_rad=(3.0503, 2.2736, 3.0426, 3.0439, 2.9761, 2.9761, 4.7124),
        home_rad=(0.0, -1.18, 0.0, 2.18, 0.0, 0.57, -1.57),
        gripper=_RETHINK,
        no_contact=("base_col",),  # it touches the first link: with the contact's friction joint 0 does not turn
    ),
    "IIWA": Robot(
        joints=tuple(f"joint_{i}" for i in range(1, 8)),
        low_rad=(-2.96706, -2.0944, -2.96706, -2.0944, -2.96706, -2.0944, -3.05433),
        high_rad=(2.96706, 2.0944, 2.96706, 2.0944, 2.96706, 2.0944, 3.05433),
        home_rad=(0.0, 0.65, 0.0, -1.89, 0.0, 0.6, 0.0),
        gripper=_ROBOTIQ_140,
    ),
}
