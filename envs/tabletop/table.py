"""The tabletop environments by name: what a list says of each, and where its settings differ from the common ones."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vla.core.config import from_dict
from vla.envs.spec import EnvSpec, RobotEnv


def _make(name: str, defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> RobotEnv:
    from vla.envs.tabletop.env import TabletopEnv
    from vla.envs.tabletop.scene.config import TabletopConfig
    from vla.envs.tabletop.tasks.table import FAMILIES

    return TabletopEnv(FAMILIES[name], from_dict(TabletopConfig, {**defaults, **settings}, where=name))


def _expert(env: Any) -> Any:
    from vla.envs.tabletop.expert import TabletopExpert

    return TabletopExpert(env.unwrapped)


def _spec(
    name: str,
    summary: str,
    instruction: str,
    max_steps: int,
    *,
    split: str = "seen",
    chance: float | None = None,
    **counts: int,
) -> EnvSpec:
    return EnvSpec(
        make=partial(_make, name, {**counts, "max_steps": max_steps, "split": split}),
        expert=_expert,
        summary=summary,
        robot="tabletop-panda",
        instruction=instruction,
        max_steps=max_steps,
        chance=chance,
    )


TABLETOP: dict[str, EnvSpec] = {
    # It came before there were splits: by default it holds nothing out.
    "tabletop/place": _spec(
        "tabletop/place",
        "put the named block on the named plate",
        "put the red block on the blue plate",
        80,
        split="all",
        chance=0.25,  # two blocks and two plates make four goals
        plates=2,
    ),
    "tabletop/reach": _spec(
        "tabletop/reach", "bring the tool above the named block", "reach for the red block", 40, blocks=3
    ),
    "tabletop/push": _spec("tabletop/push", "slide the named block the named way", "push the red block left", 60),
    "tabletop/lift": _spec("tabletop/lift", "pick up the named block", "lift the red block", 60, blocks=3),
    "tabletop/stack": _spec(
        "tabletop/stack", "put one named block on another", "stack the red block on top of the blue block", 80, blocks=3
    ),
    "tabletop/button": _spec(
        "tabletop/button", "press the named button", "press the red button", 50, blocks=1, buttons=3
    ),
    "tabletop/drawer-open": _spec(
        "tabletop/drawer-open", "pull the named drawer open", "open the red drawer", 60, blocks=1, drawers=2
    ),
    "tabletop/drawer-close": _spec(
        "tabletop/drawer-close", "push the named drawer closed", "close the red drawer", 60, blocks=1, drawers=2
    ),
    "tabletop/put-in-bowl": _spec(
        "tabletop/put-in-bowl",
        "put the named block in the named bowl",
        "put the red block in the blue bowl",
        80,
        bowls=2,
    ),
    "tabletop/put-in-drawer": _spec(
        "tabletop/put-in-drawer",
        "put the named block in the named open drawer",
        "put the red block in the blue drawer",
        80,
        drawers=2,
    ),
    "tabletop/spatial": _spec(
        "tabletop/spatial",
        "pick up the block that is told apart by where it stands",
        "pick up the block nearest to you",
        60,
        blocks=3,
        plates=1,
    ),
    "tabletop/sort": _spec(
        "tabletop/sort",
        "put each block on the plate of its own, or of the other, colour",
        "put each block on the plate of its own colour",
        160,
        plates=2,
    ),
    "tabletop/tidy": _spec(
        "tabletop/tidy",
        "open the named drawer, put the named block in, close it",
        "put the red block away in the blue drawer",
        200,
        drawers=2,
    ),
}
