"""All families of tabletop tasks by name."""

from vla.envs.tabletop.button import BUTTON
from vla.envs.tabletop.drawer import DRAWER_CLOSE, DRAWER_OPEN
from vla.envs.tabletop.lift import LIFT
from vla.envs.tabletop.place import PLACE
from vla.envs.tabletop.push import PUSH
from vla.envs.tabletop.put_in_bowl import PUT_IN_BOWL
from vla.envs.tabletop.put_in_drawer import PUT_IN_DRAWER
from vla.envs.tabletop.reach import REACH
from vla.envs.tabletop.sort import SORT
from vla.envs.tabletop.spatial import SPATIAL
from vla.envs.tabletop.stack import STACK
from vla.envs.tabletop.task import Task
from vla.envs.tabletop.tidy import TIDY

FAMILIES: dict[str, Task] = {
    task.name: task
    for task in (
        PLACE,
        REACH,
        PUSH,
        LIFT,
        STACK,
        BUTTON,
        DRAWER_OPEN,
        DRAWER_CLOSE,
        PUT_IN_BOWL,
        PUT_IN_DRAWER,
        SPATIAL,
        SORT,
        TIDY,
    )
}
