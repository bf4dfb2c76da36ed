"""Settings that all tabletop families share; a family's line in the table says where its defaults differ."""

from dataclasses import dataclass

from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.envs.splits import ALL, SPLITS
from vla.envs.tabletop.scene.mjcf import COLOURS, SHAPES, TABLES, TIMESTEP_S, Scene

_MOST = {"blocks": 4, "plates": 4, "bowls": 3, "buttons": 4, "drawers": 2, "distractors": 6}


@dataclass(frozen=True, kw_only=True)
class TabletopConfig:
    """Knobs of the scene; things that a family does not need are scenery."""

    blocks: int = 2
    """Blocks on the table, the named one included; things of one kind differ in colour."""
    plates: int = 0
    bowls: int = 0
    buttons: int = 0
    drawers: int = 0
    """Drawers of the cabinet at the robot's left; without them there is no cabinet."""
    distractors: int = 0
    """Further things, in shapes and colours that no instruction names; those that find no room are left out."""
    colours: tuple[str, ...] = ("red", "green", "blue", "yellow")
    shapes: tuple[str, ...] = ("cube",)
    """Each block takes one of these."""
    tables: tuple[str, ...] = ("plain",)
    """Each scene's table top takes one of these looks."""
    shades: float = 0.0
    """How far things stray from the plain shade of their colour; at 1 as far as its name still fits."""
    lighting: tuple[float, ...] = (0.0, 0.0)
    """Least and most change of the light's direction, strength and colour; 0 none, 1 harsh."""
    viewpoint_deg: tuple[float, ...] = (0.0, 0.0)
    """Least and most degrees by which the front camera is turned around the table, up or down half as much."""
    split: str = ALL
    """Which scenes and words: see `vla.envs.splits`; ``reset(options={"split": …})`` overrides it."""
    image_size: int = 64
    """Height and width of both cameras, pixels."""
    control_hz: float = 10.0
    max_steps: int = 80
    """Steps until an episode is truncated."""

    def __post_init__(self) -> None:
        for kind, names, table in (
            ("colour", self.colours, COLOURS),
            ("shape", self.shapes, SHAPES),
            ("table", self.tables, dict.fromkeys(TABLES)),
            ("split", (self.split,), {ALL: "", **SPLITS}),
        ):
            if not names:
                raise ConfigError(f"tabletop: {kind}s=[] must name at least one of {', '.join(table)}")
            for name in names:
                lookup(kind, name, table)
        for name, most in _MOST.items():
            number = getattr(self, name)
            if not 0 <= number <= (most if name == "distractors" else min(most, len(self.colours))):
                raise ConfigError(
                    f"tabletop: {name}={number} must be between {int(name == 'blocks')} and {most} and at most the "
                    f"number of colours ({len(self.colours)}): things of one kind are told apart by colour"
                )
        for name, limit in (("lighting", 1.0), ("viewpoint_deg", 40.0)):
            value = getattr(self, name)
            if len(value) != 2 or not 0 <= value[0] <= value[1] <= limit:
                raise ConfigError(f"tabletop: {name}={list(value)} must be [least, most] within 0 and {limit:g}")
        if not 0 <= self.shades <= 1:
            raise ConfigError(f"tabletop: shades={self.shades} must be between 0 and 1")
        if not 1 <= self.control_hz <= 1 / TIMESTEP_S:
            raise ConfigError(f"tabletop: control_hz={self.control_hz} must be between 1 and {1 / TIMESTEP_S:g}")
        if self.max_steps < 1 or self.image_size < 1:
            raise ConfigError(f"tabletop: max_steps={self.max_steps} and image_size={self.image_size} must be positive")

    @property
    def scene(self) -> Scene:
        """What has to be built."""
        return Scene(
            blocks=self.blocks,
            plates=self.plates,
            bowls=self.bowls,
            buttons=self.buttons,
            drawers=self.drawers,
            extras=self.distractors,
            shaped=self.shapes != ("cube",),
            textured=self.tables != ("plain",),
        )
