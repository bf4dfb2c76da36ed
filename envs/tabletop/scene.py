"""The tabletop as MJCF: a table, an arm with the Panda's kinematics drawn with capsules, blocks and plates.

Frames: the world frame is the arm's base frame, x forward, y left, z up; the table top is z = 0. Lengths in m.
Kinematics, joint ranges and force limits are those that Franka publishes for the Panda (FCI documentation,
Denavit-Hartenberg table); masses are rounded.
"""

from dataclasses import dataclass

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.12, 0.25, 0.90),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.55, 0.15, 0.75),
    "orange": (0.98, 0.50, 0.05),
}
JOINT_LOW_RAD = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
JOINT_HIGH_RAD = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
HOME_RAD = (0.0, -0.30, 0.0, -2.45, 0.0, 2.15, 0.785)
GRIPPER_OPEN_M = 0.08
BLOCK_HALF_M = 0.025
PLATE_RADIUS_M = 0.055
PLATE_HEIGHT_M = 0.010
_PLATE_BOX_M = 0.046
"""A plate is drawn round and collides as a box: box on cylinder has one contact point, and the block would rock."""
AREA_M = ((0.39, 0.61), (-0.20, 0.20))
"""Where blocks and plates may stand: x range, y range."""
CAMERAS = ("front", "wrist")


@dataclass(frozen=True, kw_only=True)
class SceneSize:
    """How many things stand on the table."""

    blocks: int = 2
    plates: int = 2


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


def build_mjcf(size: SceneSize) -> str:
    """MJCF of the whole scene; block ``i`` is body ``block{i}`` (free), plate ``j`` is body ``plate{j}`` (fixed)."""
    actuators = "\n".join(
        f'<position name="joint{i + 1}" joint="joint{i + 1}" kp="{kp}" kv="{kp * 0.1:g}" '
        f'ctrlrange="{JOINT_LOW_RAD[i]} {JOINT_HIGH_RAD[i]}" forcerange="-{force} {force}"/>'
        for i, (kp, force) in enumerate(zip(_STIFFNESS, _FORCE_NM, strict=True))
    )
    blocks = "\n".join(
        f'<body name="block{i}" pos="0.5 {0.1 * i:g} {BLOCK_HALF_M}"><freejoint/>'
        f'<geom name="block{i}" class="block"/></body>'
        for i in range(size.blocks)
    )
    plates = "\n".join(
        f'<body name="plate{j}" pos="0.4 {0.1 * j:g} 0"><geom name="plate{j}" class="plate"/>'
        f'<geom class="plate_collision"/></body>'
        for j in range(size.plates)
    )
    return f"""
<mujoco model="tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.005" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <headlight ambient=".55 .55 .55" diffuse=".45 .45 .45" specular="0 0 0"/>
    <quality shadowsize="0" offsamples="0"/>
    <map znear="0.02" zfar="6"/>
    <global offwidth="640" offheight="640"/>
  </visual>
  <default>
    <default class="arm">
      <joint damping="1" armature="0.1"/>
      <geom rgba=".93 .93 .95 1" contype="0" conaffinity="0" group="0"/>
    </default>
    <default class="pad">
      <geom type="box" friction="1.5 0.02 0.001" condim="4" rgba=".25 .25 .28 1" solref="0.01 1"/>
    </default>
    <default class="block">
      <geom type="box" size="{BLOCK_HALF_M} {BLOCK_HALF_M} {BLOCK_HALF_M}" mass="0.08"
        friction="1 0.01 0.001" condim="4"/>
    </default>
    <default class="plate">
      <geom type="cylinder" size="{PLATE_RADIUS_M} {PLATE_HEIGHT_M / 2}" pos="0 0 {PLATE_HEIGHT_M / 2}"
        contype="0" conaffinity="0"/>
    </default>
    <default class="plate_collision">
      <geom type="box" size="{_PLATE_BOX_M} {_PLATE_BOX_M} {PLATE_HEIGHT_M / 2}" pos="0 0 {PLATE_HEIGHT_M / 2}"
        friction="1 0.01 0.001" group="3"/>
    </default>
  </default>
  <worldbody>
    <light pos="0.8 0.6 2" dir="-0.2 -0.3 -1" diffuse=".35 .35 .35" castshadow="false"/>
    <geom name="table" type="box" size="0.45 0.6 0.02" pos="0.45 0 -0.02" rgba=".55 .50 .46 1"/>
    <geom name="floor" type="plane" size="3 3 0.1" pos="0 0 -0.6" rgba=".30 .32 .35 1" contype="0" conaffinity="0"/>
    <camera name="front" pos="1.02 0 0.62" xyaxes="0 1 0 -0.766 0 0.643" fovy="34"/>
    <body name="base" childclass="arm">
      <geom type="capsule" fromto="0 0 0.03 0 0 0.13" size="0.07"/>
      {_chain(0)}
    </body>
    {plates}
    {blocks}
  </worldbody>
  <equality>
    <joint joint1="finger_left" joint2="finger_right" solref="0.005 1"/>
  </equality>
  <tendon>
    <fixed name="width"><joint joint="finger_left" coef="1"/><joint joint="finger_right" coef="1"/></fixed>
  </tendon>
  <actuator>
    {actuators}
    <position name="gripper" tendon="width" kp="600" kv="30" ctrlrange="0 {GRIPPER_OPEN_M}" forcerange="-30 30"/>
  </actuator>
</mujoco>"""


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
        <geom name="{name}_pad" class="pad" size="0.010 0.006 0.012" pos="0 0.006 0.043" mass="0.02"/>
      </body>"""
    return f"""<body name="hand" pos="0 0 0.107" quat="0.9238795 0 0 -0.3826834" gravcomp="1">
        <geom type="box" size="0.025 0.095 0.025" pos="0 0 0.03" mass="0.6"/>
        <site name="tcp" pos="0 0 0.1034" size="0.004" rgba="0 0 0 0"/>
        <camera name="wrist" pos="0.085 0 0.02" xyaxes="0 1 0 0.940 0 0.342" fovy="80"/>
        {finger.format(name="finger_left", quat="1 0 0 0")}
        {finger.format(name="finger_right", quat="0 0 0 1")}
      </body>"""
