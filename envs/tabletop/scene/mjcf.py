"""The tabletop as MJCF: a table, the arm, and what stands there.

Frames: the world frame is the arm's base frame, x forward, y left, z up; the table top is z = 0. Lengths in m.
Thing ``i`` of a kind is the body ``{kind}{i}``. Only what a scene counts is in it: an empty kind costs nothing.
"""

from dataclasses import dataclass

from vla.envs.tabletop.scene.arm import actuators_mjcf, arm_mjcf
from vla.envs.tabletop.scene.furniture import bowl_mjcf, button_mjcf, cabinet_mjcf

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.12, 0.25, 0.90),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.55, 0.15, 0.75),
    "orange": (0.98, 0.50, 0.05),
}
EXTRA_COLOURS: tuple[tuple[float, float, float], ...] = (
    (0.95, 0.95, 0.95),
    (0.08, 0.08, 0.08),
    (0.45, 0.25, 0.10),
    (0.95, 0.55, 0.75),
    (0.10, 0.60, 0.65),
)
"""Of distractors: no instruction names them."""
BLOCK_HALF_M = 0.025
SHAPES: dict[str, tuple[str, tuple[float, float, float]]] = {
    "cube": ("box", (BLOCK_HALF_M, BLOCK_HALF_M, BLOCK_HALF_M)),
    "cylinder": ("cylinder", (BLOCK_HALF_M, BLOCK_HALF_M, BLOCK_HALF_M)),
    "bar": ("box", (0.038, 0.020, 0.022)),
    "post": ("box", (0.017, 0.017, 0.027)),
}
"""How a block is drawn, and half of the box that it collides as: one contact point would let a cylinder rock.

All fit into a closed drawer."""
NOUNS = {"cube": "block", "cylinder": "cylinder", "bar": "bar", "post": "post"}
PLATE_RADIUS_M = 0.055
PLATE_HEIGHT_M = 0.010
_PLATE_BOX_M = 0.046
"""A plate is drawn round and collides as a box: box on cylinder has one contact point, and the block would rock."""
AREA_M = ((0.39, 0.61), (-0.20, 0.20))
"""Where things may stand: x range, y range."""
CAMERAS = ("front", "wrist")
TIMESTEP_S = 0.005
TABLES = ("plain", "checker", "gradient", "dots")
"""Looks of the table top."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """How many things stand on the table, and what can change about them."""

    blocks: int = 0
    plates: int = 0
    bowls: int = 0
    buttons: int = 0
    drawers: int = 0
    extras: int = 0
    """Distractors."""
    shaped: bool = False
    """Blocks can take other shapes than the cube."""
    textured: bool = False
    """The table can take other looks than the plain one."""


def build_mjcf(scene: Scene) -> str:
    """MJCF of the whole scene; blocks and distractors are free, all else stands where it is put."""
    things = "\n".join(
        [
            *(_plate(j) for j in range(scene.plates)),
            *(_block(f"block{i}", 0.1 * i, shaped=scene.shaped) for i in range(scene.blocks)),
            *(bowl_mjcf(i) for i in range(scene.bowls)),
            *(button_mjcf(i) for i in range(scene.buttons)),
            *((cabinet_mjcf(scene.drawers),) if scene.drawers else ()),
            *(_block(f"extra{i}", 0.1 * i - 0.4, shaped=True) for i in range(scene.extras)),
        ]
    )
    return f"""
<mujoco model="tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP_S}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <headlight ambient=".55 .55 .55" diffuse=".45 .45 .45" specular="0 0 0"/>
    <quality shadowsize="0" offsamples="0"/>
    <map znear="0.02" zfar="6"/>
    <global offwidth="640" offheight="640"/>
  </visual>
  {_TEXTURES if scene.textured else ""}
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
    <default class="look"><geom contype="0" conaffinity="0" mass="0"/></default>
    <default class="fixture"><geom type="box" friction="1 0.01 0.001"/></default>
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
      {arm_mjcf()}
    </body>
    {things}
  </worldbody>
  <equality>
    <joint joint1="finger_left" joint2="finger_right" solref="0.005 1"/>
  </equality>
  <tendon>
    <fixed name="width"><joint joint="finger_left" coef="1"/><joint joint="finger_right" coef="1"/></fixed>
  </tendon>
  <actuator>
    {actuators_mjcf()}
  </actuator>
</mujoco>"""


_TEXTURES = """<asset>
    <texture name="checker" type="2d" builtin="checker" width="64" height="64" rgb1=".9 .9 .9" rgb2=".6 .6 .6"/>
    <texture name="gradient" type="2d" builtin="gradient" width="64" height="64" rgb1="1 1 1" rgb2=".5 .5 .5"/>
    <texture name="dots" type="2d" builtin="flat" width="64" height="64" rgb1=".95 .95 .95" mark="random"
      markrgb=".4 .4 .4" random="0.05"/>
    <material name="checker" texture="checker" texrepeat="4 6" specular="0"/>
    <material name="gradient" texture="gradient" texrepeat="1 1" specular="0"/>
    <material name="dots" texture="dots" texrepeat="3 4" specular="0"/>
  </asset>"""


def _block(name: str, y_m: float, *, shaped: bool) -> str:
    """A free block; one that can change its shape is drawn by a geom of its own."""
    look = f'<geom name="{name}_look" class="look" type="box" size=".025 .025 .025"/>' if shaped else ""
    group = ' group="3"' if shaped else ""
    return (
        f'<body name="{name}" pos="0.5 {y_m:g} {BLOCK_HALF_M}"><freejoint/>'
        f'<geom name="{name}" class="block"{group}/>{look}</body>'
    )


def _plate(index: int) -> str:
    return (
        f'<body name="plate{index}" pos="0.4 {0.1 * index:g} 0"><geom name="plate{index}" class="plate"/>'
        f'<geom class="plate_collision"/></body>'
    )
