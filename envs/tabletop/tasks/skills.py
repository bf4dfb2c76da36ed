"""What an expert's arm can do, as memoryless functions of the simulator's state.

Every decision follows from where things are now, never from a phase or a timer. So an expert recovers from whatever
disturbance comes, it can label states that another policy has reached, and its demonstrations hold no pauses whose
length an observer could not know: what is to be learned is a function of what can be seen.
"""

import numpy as np

from vla.envs.tabletop.scene.arm import GRIPPER_OPEN_M, PAD_HALF_M
from vla.envs.tabletop.scene.furniture import BUTTON_TRAVEL_M, HANDLE_M
from vla.envs.tabletop.scene.world import Thing, World
from vla.envs.tabletop.tasks.task import Move

CARRY_M = 0.13
"""Height of the tool above the table while it travels."""
RELEASE_ABOVE_M = 0.006
"""How far above where it will rest a block is let go."""
_GRASP_M = 0.024
_AWAY_M = 0.20
_REST_M_S = 0.03
_TIP_M = PAD_HALF_M[2] - 0.002
"""From the tool's point down to the tips of the fingers."""
_LOW_M = 0.085
"""Below this the tool may be among things, and rises before it travels."""


def free_width_m(world: World, block: Thing) -> float:
    """The opening from which on the gripper does not hold the block."""
    return 2 * world.half_m(block)[1] + 0.012


def rests(world: World, block: Thing, spot_m: np.ndarray, surface_m: float, radius_m: float) -> bool:
    """Whether the block rests, released, on the surface within the radius around the spot (x, y)."""
    position = world.position_m(block)
    on_top = abs(position[2] - (surface_m + world.half_m(block)[2])) < 0.01
    inside = np.linalg.norm(position[:2] - spot_m) < radius_m
    return bool(on_top and inside and world.speed_m_s(block) < _REST_M_S and not any(world.touching(block)))


def held(world: World, block: Thing) -> bool:
    """Whether the gripper holds the block."""
    return all(world.touching(block)) and world.width_m() < free_width_m(world, block)


def pick(world: World, block: Thing) -> Move:
    """Come down over the block in a funnel, and close around it at its height."""
    tool, position = world.tool_m(), world.position_m(block)
    half = world.half_m(block)
    beside = np.linalg.norm(tool[:2] - position[:2])
    height = max(float(position[2]), _GRASP_M)
    if beside < 0.012 and tool[2] < height + 0.010:
        return Move(tool_m=np.array([*position[:2], height]), width_m=2 * half[1] - 0.02)
    clearance = float(np.clip((beside - 0.008) * 4.0, 0.0, CARRY_M - height))
    if world.width_m() < free_width_m(world, block) and tool[2] < height + 0.06:
        up = np.array([*tool[:2], height + 0.10])  # never push the block with closed fingers
        return Move(tool_m=up, width_m=GRIPPER_OPEN_M)
    return Move(tool_m=np.array([*position[:2], height + clearance]), width_m=GRIPPER_OPEN_M)


def carry(
    world: World, block: Thing, spot_m: np.ndarray, surface_m: float, *, slope: float = 4.0, open_m: float
) -> Move:
    """Lift, travel, come down in a funnel over the spot, and let go just above the surface."""
    tool, position = world.tool_m(), world.position_m(block)
    half = world.half_m(block)
    closed = 2 * half[1] - 0.02
    beside = float(np.linalg.norm(position[:2] - spot_m))
    slip = tool - position
    over = spot_m + slip[:2]
    release = surface_m + half[2] + RELEASE_ABOVE_M + slip[2]
    if beside < 0.015 and tool[2] < release + 0.006:
        return Move(tool_m=np.array([*over, release]), width_m=open_m)
    clearance = float(np.clip((beside - 0.010) * slope, 0.0, CARRY_M - release))
    if tool[2] < 0.075 and beside > 0.06:  # lift clear of other blocks before travelling
        return Move(tool_m=np.array([*tool[:2], CARRY_M]), width_m=closed)
    return Move(tool_m=np.array([*over, release + clearance]), width_m=closed)


def retreat(world: World, block: Thing, open_m: float = GRIPPER_OPEN_M) -> Move:
    """Open, then rise."""
    tool = world.tool_m()
    height = _AWAY_M if world.width_m() > free_width_m(world, block) - 0.004 else tool[2]
    return Move(tool_m=np.array([*tool[:2], height]), width_m=open_m)


def transfer(
    world: World,
    block: Thing,
    spot_m: np.ndarray,
    surface_m: float,
    *,
    near_m: float = 0.03,
    slope: float = 4.0,
    open_m: float = GRIPPER_OPEN_M,
) -> Move:
    """Bring the block from wherever it is to the spot on the surface."""
    position = world.position_m(block)
    beside = np.linalg.norm(position[:2] - spot_m)
    if beside < near_m and position[2] < surface_m + world.half_m(block)[2] + 0.004:
        return retreat(world, block, open_m)
    if held(world, block):
        return carry(world, block, spot_m, surface_m, slope=slope, open_m=open_m)
    return pick(world, block)


def rise(world: World, width_m: float | None = None) -> Move:
    """Straight up."""
    tool = world.tool_m()
    return Move(tool_m=np.array([*tool[:2], _AWAY_M]), width_m=world.width_m() if width_m is None else width_m)


def among_things(world: World, next_m: np.ndarray) -> bool:
    """Whether the tool is low and not where it goes next (x, y), so that it should rise first."""
    tool = world.tool_m()
    return bool(tool[2] < _LOW_M and np.linalg.norm(tool[:2] - next_m) > 0.045)


def come_down(world: World, spot_m: np.ndarray, height_m: float, width_m: float = 0.0) -> Move:
    """Go to the spot (x, y) at a height, from above in a funnel."""
    if among_things(world, spot_m):
        return rise(world, width_m)
    beside = np.linalg.norm(world.tool_m()[:2] - spot_m)
    clearance = float(np.clip((beside - 0.008) * 4.0, 0.0, CARRY_M - height_m))
    return Move(tool_m=np.array([*spot_m, height_m + clearance]), width_m=width_m)


def push(world: World, position_m: np.ndarray, half_m: float, direction: np.ndarray, *, height_m: float) -> Move:
    """Move what stands at a position (x, y), half as thick as ``half_m``, along a unit vector, with closed fingers."""
    tool = world.tool_m()
    reach = half_m + (PAD_HALF_M[0] if abs(direction[0]) > 0.5 else 2 * PAD_HALF_M[1])
    along = float((tool[:2] - position_m) @ direction)
    sideways = tool[:2] - position_m - along * direction
    behind = position_m - direction * (reach + 0.018)
    if tool[2] < height_m + 0.015 and along < 0.010 - reach and np.linalg.norm(sideways) < 0.018:
        ahead = position_m + direction * (min(along, -reach) + 0.035)
        return Move(tool_m=np.array([*ahead, height_m]), width_m=0.0)
    return come_down(world, behind, height_m)


def pull(world: World, drawer: Thing) -> Move:
    """Reach down between a drawer's front and its handle with closed fingers, and draw it towards -y."""
    tool, handle = world.tool_m(), world.position_m(drawer)
    hook = handle[:2] + np.array([0.0, 0.021])
    offset = tool[:2] - handle[:2]
    if tool[2] < HANDLE_M[1] + 0.015 and abs(offset[0]) < 0.022 and 0.008 < offset[1] < 0.034:
        return Move(tool_m=np.array([handle[0], tool[1] - 0.035, HANDLE_M[1]]), width_m=0.0)
    return come_down(world, hook, HANDLE_M[1])


def close_drawer(world: World, drawer: Thing) -> Move:
    """Push a drawer's handle towards +y with closed fingers."""
    handle = world.position_m(drawer)[:2]
    return push(world, handle, 0.005, np.array([0.0, 1.0]), height_m=HANDLE_M[1])


def press(world: World, button: Thing) -> Move:
    """Push a button down with closed fingers."""
    tool, top = world.tool_m(), world.position_m(button)
    beside = np.linalg.norm(tool[:2] - top[:2])
    if beside < 0.012 and tool[2] < top[2] + _TIP_M + 0.03:
        return Move(tool_m=np.array([*top[:2], top[2] + _TIP_M - BUTTON_TRAVEL_M - 0.01]), width_m=0.0)
    return come_down(world, top[:2], top[2] + _TIP_M + 0.015)
