"""How labels are made of what was logged. Free of heavy imports, so that help is instant."""

from dataclasses import dataclass, field
from pathlib import Path

from vla.core.errors import ConfigError
from vla.datasets.selection import Selection


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """How labels are made of what was logged."""

    description: Path | None = None
    """MJCF of the robot, whose joints are called as dimensions of the state are; by default what the state says of the
    tool, else what is known of the robot."""
    tool: str = ""
    """The tool: a site or a body of the description, or what three dimensions of the state begin with (``hand`` of
    ``hand_x``, ``hand_y``, ``hand_z``); by default the one that is called as tools are."""
    carried: float = 0.05
    """A closing of the gripper is a grasp if the tool then moves by this share of all its travel before it opens."""
    within_s: float = 5.0
    """How far ahead it is said in how long the next event comes."""
    ahead: tuple[int, ...] = (4, 8, 12, 16)
    """Steps ahead at which the tool's path is told."""
    most_residual: float = 0.04
    """A camera is left out if the median residual of its projection is more than this share of the picture's side."""
    frames: int = 500
    """Pictures in which the gripper is looked for, at most, of each camera."""
    fit: Selection = field(default_factory=Selection)
    """Episodes that the projections are fitted to; labels are made for all."""
    seed: int = 0
    """Of the choice of pictures, and of the fit."""

    def __post_init__(self) -> None:
        for name in ("carried", "within_s", "most_residual"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"label: {name}={getattr(self, name):g} must be more than 0")
        if self.frames < 50:
            raise ConfigError(f"label: frames={self.frames} must be at least 50, or no projection can be trusted")
        if not self.ahead or min(self.ahead) < 1 or len(set(self.ahead)) < len(self.ahead):
            raise ConfigError(f"label: ahead={list(self.ahead)} must be different numbers of steps of at least 1")
