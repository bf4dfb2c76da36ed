"""What a scene looks like before anything moves: where things stand, and their colours and shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla.core.errors import ConfigError
from vla.envs.tabletop.scene.config import TabletopConfig
from vla.envs.tabletop.scene.furniture import CABINET_M, DRAWER_PITCH_M
from vla.envs.tabletop.scene.mjcf import AREA_M, COLOURS, EXTRA_COLOURS, NOUNS, SHAPES
from vla.envs.tabletop.scene.world import Thing, World

_GAP_M = {("block", "block"): 0.09, ("block", "plate"): 0.105, ("plate", "plate"): 0.13}
_ROOM_M = {"block": 0.046, "plate": 0.062, "bowl": 0.072, "button": 0.050, "extra": 0.046}
"""Radius that a thing keeps free around its middle, for pairs without a gap of their own."""
_BESIDE_DRAWERS_M = (-0.21, -0.115)
"""The y range left for other things where drawers open."""
_YAW_RAD = 0.25
_OUT_OF_SIGHT_M = (0.05, 0.45)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One drawn scene."""

    spots_m: Mapping[Thing, np.ndarray]
    """(x, y) of each thing; of a drawer, the middle of its place in the cabinet's front."""
    colours: Mapping[Thing, str]
    shapes: Mapping[Thing, str]

    def things(self, kind: str) -> tuple[Thing, ...]:
        """All of a kind, by index."""
        return tuple(thing for thing in self.spots_m if thing.kind == kind)

    def phrase(self, thing: Thing) -> str:
        """What an instruction calls it, without an article."""
        noun = NOUNS[self.shapes[thing]] if thing in self.shapes else thing.kind
        return f"{self.colours[thing]} {noun}"


def draw_layout(rng: np.random.Generator, config: TabletopConfig) -> Layout:
    """Positions, colours and shapes of everything but the distractors."""
    numbers = {"block": config.blocks, "plate": config.plates, "bowl": config.bowls, "button": config.buttons}
    things = [Thing(kind, index) for kind, number in numbers.items() for index in range(number)]
    spots = dict(zip(things, _spread(rng, [thing.kind for thing in things], config), strict=True))
    drawers = [Thing("drawer", index) for index in range(config.drawers)]
    for drawer in drawers:
        x = CABINET_M[0] + (drawer.index - (config.drawers - 1) / 2) * DRAWER_PITCH_M
        spots[drawer] = np.array([x, CABINET_M[1]])
    colours: dict[Thing, str] = {}
    for kind, number in {**numbers, "drawer": config.drawers}.items():
        if number:
            names = rng.permutation(config.colours)[:number].tolist()
            colours |= {Thing(kind, index): name for index, name in enumerate(names)}
    shapes = {thing: config.shapes[0] for thing in things if thing.kind == "block"}
    if len(config.shapes) > 1:
        shapes = {block: config.shapes[rng.integers(len(config.shapes))] for block in shapes}
    return Layout(spots_m=spots, colours=colours, shapes=shapes)


def set_up(rng: np.random.Generator, world: World, layout: Layout) -> None:
    """Stand everything of the layout on the table; draws how blocks are turned."""
    for thing, spot in layout.spots_m.items():
        yaw = rng.uniform(-_YAW_RAD, _YAW_RAD) if thing.kind == "block" else 0.0
        if world.scene.shaped and thing.kind == "block":
            world.shape(thing, layout.shapes[thing])
        if thing.kind != "drawer":
            world.put(thing, spot, yaw)
        world.paint(thing, COLOURS[layout.colours[thing]])


def add_distractors(
    rng: np.random.Generator, world: World, config: TabletopConfig, layout: Layout, clear_m: Sequence[np.ndarray]
) -> None:
    """Stand distractors where they leave the things of the layout, and the places in ``clear_m``, their room."""
    taken = [(spot, thing.kind) for thing, spot in layout.spots_m.items() if thing.kind != "drawer"]
    taken += [(spot, "block") for spot in clear_m]
    low, high = _area(config)
    for index in range(config.distractors):
        extra = Thing("extra", index)
        spot = np.array([_OUT_OF_SIGHT_M[0], _OUT_OF_SIGHT_M[1] + 0.05 * index - 0.95 * (index % 2)])
        for candidate in rng.uniform(low - 0.015, high + 0.015, (60, 2)):
            if all(np.linalg.norm(candidate - other) >= _gap("extra", kind) for other, kind in taken):
                spot = candidate
                taken.append((spot, "extra"))
                break
        world.shape(extra, tuple(SHAPES)[rng.integers(len(SHAPES))])
        world.put(extra, spot, rng.uniform(-np.pi, np.pi))
        world.paint(extra, EXTRA_COLOURS[rng.integers(len(EXTRA_COLOURS))])


def _gap(a: str, b: str) -> float:
    pair = (min(a, b), max(a, b))
    return _GAP_M[pair] if pair in _GAP_M else _ROOM_M[a] + _ROOM_M[b]


def _area(config: TabletopConfig) -> tuple[np.ndarray, np.ndarray]:
    y = _BESIDE_DRAWERS_M if config.drawers else AREA_M[1]
    return np.array([AREA_M[0][0], y[0]]), np.array([AREA_M[0][1], y[1]])


def _spread(rng: np.random.Generator, kinds: list[str], config: TabletopConfig) -> np.ndarray:
    """(len(kinds), 2): positions in the area, drawn until none is closer to another than its kind allows."""
    low, high = _area(config)
    spots: list[np.ndarray] = []
    tries = 0
    while len(spots) < len(kinds):
        spot = rng.uniform(low, high)
        kind = kinds[len(spots)]
        gaps = [_gap(kind, other) for other in kinds[: len(spots)]]
        if all(np.linalg.norm(spot - other) >= gap for other, gap in zip(spots, gaps, strict=True)):
            spots.append(spot)
        tries += 1
        if tries % 200 == 0:
            spots.clear()  # an early choice left no room for the rest
        if tries == 200_000:
            raise ConfigError(
                f"tabletop: no room on the table for {', '.join(kinds)}{' beside drawers' if config.drawers else ''}; "
                "use fewer things"
            )
    return np.array(spots).reshape(len(kinds), 2)
