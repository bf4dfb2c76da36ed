"""What a model is built for: the sizes and names that its parts need, and nothing of any robot."""

from collections.abc import Mapping
from dataclasses import dataclass

from vla.core.contract import Dimension


@dataclass(frozen=True, kw_only=True)
class Interface:
    """Sizes of `vla.models.trunk.inputs.Inputs` and `Targets`; the letters are theirs."""

    cameras: tuple[str, ...]
    """n: the camera in each image slot, of the first robot."""
    history: int
    """t"""
    state: int
    """s"""
    action: int
    """d"""
    horizon: int
    """h"""
    words: int
    """Text tokens that exist."""
    text: int
    """l"""
    embodiments: int
    """Robots."""
    signals: Mapping[str, tuple[Dimension, ...]]
    """The signals that the training data offers."""
    answer: int = 0
    """Tokens of the longest answer to a question; 0 where none is asked."""
