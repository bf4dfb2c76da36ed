"""Which pictures of a dataset an image codec is fitted to. Free of heavy imports, so that help is instant."""

from dataclasses import dataclass

from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FramesConfig:
    """Which pictures of a dataset."""

    cameras: tuple[str, ...] = ()
    """These cameras, of one size; by default all that see colours."""
    pictures: int = 2000
    """Of each camera, to fit to; a tenth as many of held-out episodes are what is reported."""
    split: str | None = None
    """Episodes that are held out; by default a tenth of them, drawn by the seed."""

    def __post_init__(self) -> None:
        if self.pictures < 10:
            raise ConfigError(f"pictures={self.pictures} must be at least 10")
