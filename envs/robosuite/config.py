"""Settings of the robosuite environments. Free of heavy imports."""

from dataclasses import dataclass
from typing import Literal

from vla.core.errors import ConfigError

TIMESTEP_S = 0.002
"""robosuite's own."""


@dataclass(frozen=True, kw_only=True)
class RobosuiteConfig:
    """Knobs of one environment."""

    robot: Literal["Panda", "UR5e", "Sawyer", "IIWA"] = "Panda"
    control: Literal["joint", "osc"] = "joint"
    """``joint``: absolute joint targets and the gripper's opening; ``osc``: robosuite's OSC_POSE, changes of a pose."""
    image_size: int = 128
    """Height and width of both cameras, pixels."""
    control_hz: float = 20.0
    max_steps: int | None = None
    """Steps until an episode is truncated; by default what the task says."""
    collision_geometry: bool = False
    """Draw the arm by the shapes that collide: several times as fast, and plain."""
    tool_pose: bool = False
    """Add the tool's pose in the base frame to the state: position (m), and its x and y axes."""

    def __post_init__(self) -> None:
        steps = 1 / TIMESTEP_S / self.control_hz if self.control_hz > 0 else 0.0
        if steps < 1 or abs(steps - round(steps)) > 1e-6:
            raise ConfigError(
                f"robosuite: control_hz={self.control_hz} must divide the {1 / TIMESTEP_S:g} Hz of its physics; "
                "use 10, 20, 25, 50 or 100"
            )
        if self.image_size < 8:
            raise ConfigError(f"robosuite: image_size={self.image_size} must be at least 8")
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"robosuite: max_steps={self.max_steps} must be at least 1")
