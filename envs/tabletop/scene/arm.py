"""The arm as MJCF: the Panda's kinematics drawn with capsules, its hand with two fingers, and the wrist camera.

Kinematics, joint ranges and force limits are those that Franka publishes for the Panda (FCI documentation,
Denavit-Hartenberg table); masses are rounded.
"""

JOINT_LOW_RAD = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
JOINT_HIGH_RAD = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
HOME_RAD = (0.0, -0.30, 0.0, -2.45, 0.0, 2.15, 0.785)
JOINTS = len(HOME_RAD)
GRIPPER_OPEN_M = 0.08
PAD_HALF_M = (0.010, 0.006, 0.012)
"""Of a finger pad, in the tool's axes."""

# name, position in the parent's frame, rotation about the parent's x axis in degrees, capsule from-to and radius
_LINKS = (
    ("link1", "0 0 0.333", 0, "0 0 -0.19 0 0 0", 0.060),
    ("link2", "0 0 0", -90, "0 0 -0.06 0 0 0.06", 0.058),
    ("link3", "0 -0.316 0", 90, "0 0 -0.17 0 0 0", 0.055),
    ("link4", "0.0825 0 0", 90, "0 0 -0.05 0 0 0.05", 0.055),
    ("link5", "-0.0825 0.384 0", -90, "0 0 -0.22 0 0.06 -0.12", 0.050),
    ("link6", "0 0 0", 90, "0 0 -0.05 0 0 0.02", 0.048),
    ("link7", "0.088 0 0", 90, "0 0 0 0 0 0.06", 0.045),
)
_MASSES_KG = (3.0, 3.0, 2.5, 2.5, 2.5, 1.5, 0.7)
_STIFFNESS = (4500, 4500, 3500, 3500, 2000, 2000, 2000)
_FORCE_NM = (87, 87, 87, 87, 12, 12, 12)


def arm_mjcf() -> str:
    """The links from the first, nested as MJCF wants it."""
    return _chain(0)


def actuators_mjcf() -> str:
    """A position servo for each joint and one for the gripper's opening."""
    joints = "\n".join(
        f'<position name="joint{i + 1}" joint="joint{i + 1}" kp="{kp}" kv="{kp * 0.1:g}" '
        f'ctrlrange="{JOINT_LOW_RAD[i]} {JOINT_HIGH_RAD[i]}" forcerange="-{force} {force}"/>'
        for i, (kp, force) in enumerate(zip(_STIFFNESS, _FORCE_NM, strict=True))
    )
    return (
        f'{joints}\n<position name="gripper" tendon="width" kp="600" kv="30" ctrlrange="0 {GRIPPER_OPEN_M}" '
        f'forcerange="-30 30"/>'
    )


def _chain(index: int) -> str:
    """Link ``index`` and everything beyond it, nested as MJCF wants it."""
    if index == len(_LINKS):
        return _hand()
    name, pos, turn_deg, fromto, radius = _LINKS[index]
    quat = {0: "1 0 0 0", 90: "0.70710678 0.70710678 0 0", -90: "0.70710678 -0.70710678 0 0"}[turn_deg]
    return f"""<body name="{name}" pos="{pos}" quat="{quat}" gravcomp="1">
      <joint name="joint{index + 1}" axis="0 0 1" range="{JOINT_LOW_RAD[index]} {JOINT_HIGH_RAD[index]}"/>
      <geom type="capsule" fromto="{fromto}" size="{radius}" mass="{_MASSES_KG[index]}"/>
      {_chain(index + 1)}</body>"""


def _hand() -> str:
    """The hand: two fingers that slide along its y axis, and the wrist camera; site ``tcp`` is between the pads."""
    finger = """<body name="{name}" pos="0 0 0.0584" quat="{quat}" gravcomp="1">
        <joint name="{name}" type="slide" axis="0 1 0" range="0 0.04" damping="8" armature="0.05"/>
        <geom type="box" size="0.008 0.006 0.018" pos="0 0.008 0.016" mass="0.03" contype="0" conaffinity="0"/>
        <geom name="{name}_pad" class="pad" size="{pad}" pos="0 0.006 0.043" mass="0.02"/>
      </body>"""
    pad = " ".join(f"{half:g}" for half in PAD_HALF_M)
    return f"""<body name="hand" pos="0 0 0.107" quat="0.9238795 0 0 -0.3826834" gravcomp="1">
        <geom type="box" size="0.025 0.095 0.025" pos="0 0 0.03" mass="0.6"/>
        <site name="tcp" pos="0 0 0.1034" size="0.004" rgba="0 0 0 0"/>
        <camera name="wrist" pos="0.085 0 0.02" xyaxes="0 1 0 0.940 0 0.342" fovy="80"/>
        {finger.format(name="finger_left", quat="1 0 0 0", pad=pad)}
        {finger.format(name="finger_right", quat="0 0 0 1", pad=pad)}
      </body>"""
