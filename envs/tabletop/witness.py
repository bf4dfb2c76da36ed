"""Where everything on the table is and what the arm touches: read off the simulation, for reports of what happened."""

import numpy as np

from vla.envs.spec import Seen, Witnessed
from vla.envs.tabletop.scene.world import Thing, World
from vla.envs.tabletop.tasks.skills import held
from vla.envs.tabletop.tasks.task import Situation


def witnessed(situation: Situation) -> Witnessed:
    """Things by the names that instructions give them; a second one of a name has its number behind it."""
    world, layout = situation.world, situation.layout
    things: dict[str, Seen] = {}
    touched = _touched_bodies(world)
    for thing in layout.spots_m:
        name = f"the {layout.phrase(thing)}"
        things[name if name not in things else f"{name} {thing.index + 1}"] = Seen(
            position_m=world.position_m(thing).copy(),
            touched=_body(world, thing) in touched,
            held=thing.kind == "block" and held(world, thing),
        )
    return Witnessed(tool_m=world.tool_m().copy(), things=things)


def _body(world: World, thing: Thing) -> int:
    return int(world.model.body(thing.name).id)


def _touched_bodies(world: World) -> set[int]:
    """Bodies that are in contact with any part of the arm."""
    model = world.model
    arm = model.body_rootid[model.geom("finger_left_pad").bodyid[0]]
    bodies = model.geom_bodyid[world.data.contact.geom].reshape(-1, 2)
    of_arm = model.body_rootid[bodies] == arm
    mixed = of_arm.any(axis=1) & ~of_arm.all(axis=1)
    return set(np.where(of_arm, -1, bodies)[mixed].ravel().tolist()) - {-1}
