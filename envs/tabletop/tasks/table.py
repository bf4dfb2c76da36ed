"""All families of tabletop tasks by name."""

from vla.envs.tabletop.tasks.button import BUTTON
from vla.envs.tabletop.tasks.drawer import DRAWER_CLOSE, DRAWER_OPEN
from vla.envs.tabletop.tasks.lift import LIFT
from vla.envs.tabletop.tasks.place import PLACE
from vla.envs.tabletop.tasks.push import PUSH
from vla.envs.tabletop.tasks.put_in_bowl import PUT_IN_BOWL
from vla.envs.tabletop.tasks.put_in_drawer import PUT_IN_DRAWER
from vla.envs.tabletop.tasks.reach import REACH
from vla.envs.tabletop.tasks.sort import SORT
from vla.envs.tabletop.tasks.spatial import SPATIAL
from vla.envs.tabletop.tasks.stack import STACK
from vla.envs.tabletop.tasks.task import Task
from vla.envs.tabletop.tasks.tidy import TIDY

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
