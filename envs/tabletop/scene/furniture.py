"""MJCF of what is more than a block or a plate: bowls, buttons, and a cabinet with drawers. Lengths in m.

The cabinet stands at the robot's left; its drawers open to the right (towards -y), side by side along x. A drawer's
body has its origin in the middle of its handle. Everything is made of few boxes: contacts between boxes are quick and
rest, and so is drawing them.
"""

import math

BOWL_RADIUS_M = 0.060
"""From the middle to the inner side of the wall."""
BOWL_FLOOR_M = 0.006
_BOWL_WALL_M = 0.030
BUTTON_TRAVEL_M = 0.012
BUTTON_TOP_M = 0.030
"""Height of a button that nobody presses."""
_BUTTON_BASE_M = 0.014
CABINET_M = (0.50, 0.115)
"""Middle of the cabinet's front."""
DRAWER_TRAVEL_M = 0.100
DRAWER_FLOOR_M = 0.007
DRAWER_PITCH_M = 0.134
HANDLE_M = (-0.040, 0.030)
"""Middle of the handle: y before the drawer's front, and height."""
HANDLE_HALF_M = (0.030, 0.005, 0.013)
DRAWER_MIDDLE_M = 0.089
"""From the middle of the handle back to the middle of the drawer's floor."""
_DRAWER_HALF_M = (0.060, 0.052)
_DRAWER_WALL_M = 0.045
_CABINET_TOP_M = 0.064
_GREY = ".72 .72 .74 1"


def bowl_mjcf(index: int) -> str:
    """A round bowl of eight upright walls, and a floor that blocks rest on."""
    thick, centre = 0.003, BOWL_RADIUS_M + 0.003
    half_side = centre * math.tan(math.pi / 8) + 0.001
    walls = "\n".join(
        f'<geom name="bowl{index}_{k}" class="fixture" size="{thick} {half_side:.5f} {_BOWL_WALL_M / 2}" '
        f'pos="{centre * math.cos(a):.5f} {centre * math.sin(a):.5f} {_BOWL_WALL_M / 2}" euler="0 0 {a:.5f}"/>'
        for k, a in enumerate(k * math.pi / 4 for k in range(8))
    )
    return f"""<body name="bowl{index}" pos="0.4 {0.1 * index:g} 0">
      <geom name="bowl{index}" class="look" type="cylinder" size="{BOWL_RADIUS_M} {BOWL_FLOOR_M / 2}"
        pos="0 0 {BOWL_FLOOR_M / 2}"/>
      <geom class="fixture" size="0.042 0.042 {BOWL_FLOOR_M / 2}" pos="0 0 {BOWL_FLOOR_M / 2}" group="3"/>
      {walls}
    </body>"""


def button_mjcf(index: int) -> str:
    """A cap that slides down into a grey base against a spring."""
    cap = (BUTTON_TOP_M - _BUTTON_BASE_M) / 2
    return f"""<body name="button{index}_base" pos="0.4 {0.1 * index:g} 0">
      <geom class="fixture" size="0.032 0.032 {_BUTTON_BASE_M / 2}" pos="0 0 {_BUTTON_BASE_M / 2}" rgba="{_GREY}"/>
      <body name="button{index}" pos="0 0 {BUTTON_TOP_M}" gravcomp="1">
        <joint name="button{index}" type="slide" axis="0 0 1" range="-{BUTTON_TRAVEL_M} 0" stiffness="120" damping="4"
          springref="0.01"/>
        <geom name="button{index}" type="cylinder" size="0.022 {cap}" pos="0 0 -{cap}" mass="0.05"/>
      </body>
    </body>"""


def cabinet_mjcf(drawers: int) -> str:
    """The cabinet: a top, a back, walls between its drawers, and the drawers."""
    half_x, half_y = drawers * DRAWER_PITCH_M / 2, _DRAWER_HALF_M[1] + 0.003
    top = f'size="{half_x:g} {half_y:g} 0.003" pos="0 {half_y:g} {_CABINET_TOP_M + 0.003:g}"'
    back = f'size="{half_x:g} 0.003 {_CABINET_TOP_M / 2:g}" pos="0 {2 * half_y:g} {_CABINET_TOP_M / 2:g}"'
    walls = "\n".join(
        f'<geom class="fixture" size="0.004 {half_y:g} {_CABINET_TOP_M / 2:g}" '
        f'pos="{k * DRAWER_PITCH_M - half_x:g} {half_y:g} {_CABINET_TOP_M / 2:g}" rgba="{_GREY}"/>'
        for k in range(drawers + 1)
    )
    boxes = "\n".join(_drawer(k, (k + 0.5) * DRAWER_PITCH_M - half_x) for k in range(drawers))
    return f"""<body name="cabinet" pos="{CABINET_M[0]} {CABINET_M[1]} 0">
      <geom class="fixture" {top} rgba="{_GREY}"/>
      <geom class="fixture" {back} rgba="{_GREY}"/>
      {walls}
      {boxes}
    </body>"""


def _drawer(index: int, x_m: float) -> str:
    """An open box on a slide, with a bar before its front to pull at."""
    half_x, half_y = _DRAWER_HALF_M
    y, z = -HANDLE_M[0], -HANDLE_M[1]  # from the handle back to the front, and down to the table
    wall_z = z + 0.002 + _DRAWER_WALL_M / 2
    floor_half = (DRAWER_FLOOR_M - 0.002) / 2
    name, size = f"drawer{index}", " ".join(f"{half:g}" for half in HANDLE_HALF_M)
    wall = f'<geom class="fixture" mass="0.05" rgba="{_GREY}"'
    return f"""<body name="{name}" pos="{x_m:g} {HANDLE_M[0]} {HANDLE_M[1]}">
        <joint name="{name}" type="slide" axis="0 -1 0" range="0 {DRAWER_TRAVEL_M}" damping="4" frictionloss="0.4"/>
        <geom name="{name}" class="fixture" size="{size}" mass="0.05"/>
        <geom name="{name}_0" class="look" type="box" size="0.004 {y / 2:g} 0.006" pos="0.024 {y / 2:g} 0"/>
        <geom name="{name}_1" class="look" type="box" size="0.004 {y / 2:g} 0.006" pos="-0.024 {y / 2:g} 0"/>
        <geom name="{name}_2" class="fixture" mass="0.05" size="{half_x} 0.003 {_DRAWER_WALL_M / 2}"
          pos="0 {y:g} {wall_z:g}"/>
        {wall} size="{half_x} 0.003 {_DRAWER_WALL_M / 2}" pos="0 {y + 2 * half_y - 0.006:g} {wall_z:g}"/>
        {wall} size="0.003 {half_y} {_DRAWER_WALL_M / 2}" pos="{half_x - 0.003:g} {y + half_y - 0.003:g} {wall_z:g}"/>
        {wall} size="0.003 {half_y} {_DRAWER_WALL_M / 2}" pos="{0.003 - half_x:g} {y + half_y - 0.003:g} {wall_z:g}"/>
        {wall} size="{half_x} {half_y} {floor_half}" pos="0 {y + half_y - 0.003:g} {z + 0.002 + floor_half:g}"/>
      </body>"""
