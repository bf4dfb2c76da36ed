"""Auxiliaries by kind: what is learned beside actions, where the data says it. Free of heavy imports."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vla.core.config import Kinded, require_at_least_one
from vla.core.errors import ConfigError
from vla.models.trunk.interface import Interface

if TYPE_CHECKING:
    from vla.models.auxiliaries.auxiliary import Auxiliary


@dataclass(frozen=True, kw_only=True)
class AuxiliaryConfig(Kinded):
    """What is learned from a signal of the dataset; see `vla.models.auxiliaries.auxiliary.Auxiliary`."""

    what: ClassVar[str] = "kind of auxiliary"
    group: ClassVar[str] = "vla.auxiliaries"

    signal: str
    """The signal that it learns from; where a dataset does not offer it, the auxiliary is left out."""
    weight: float = 1.0
    """Of its loss, beside that of the actions."""

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError(f"model.auxiliaries: weight={self.weight} of {self.signal} must be at least 0")

    @classmethod
    def table(cls) -> Mapping[str, type["AuxiliaryConfig"]]:
        """The kinds of this project."""
        return AUXILIARIES

    def build(self, interface: Interface, width: int) -> "Auxiliary":
        """The auxiliary on hidden states of ``width``."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class GroundingConfig(AuxiliaryConfig):
    """A token that says where the named things are, in bins between the limits of the signal's dimensions."""

    kind: str = "grounding"
    signal: str = "grounding"
    bins: int = 64
    label_sigma: float = 1.0
    """Deviation of the soft targets, in bins."""
    own: bool = False
    """It has a readout of its own and no ids in the vocabulary, as where the table is frozen."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bins < 2:
            raise ConfigError(f"model.auxiliaries.grounding.bins={self.bins} must be at least 2")

    def build(self, interface: Interface, width: int) -> "Auxiliary":
        """See `AuxiliaryConfig.build`."""
        from vla.models.auxiliaries.grounding import Grounding

        return Grounding(self, interface.signals[self.signal], width)


@dataclass(frozen=True, kw_only=True)
class PointingConfig(AuxiliaryConfig):
    """Pooling maps of the image reader that point at the named things."""

    kind: str = "pointing"
    signal: str = "pointing"

    def build(self, interface: Interface, width: int) -> "Auxiliary":
        """See `AuxiliaryConfig.build`."""
        from vla.models.auxiliaries.pointing import Pointing

        return Pointing(self, interface)


@dataclass(frozen=True, kw_only=True)
class MatchingConfig(AuxiliaryConfig):
    """Tokens that are matched with the patches of a vision tower: ``pointing`` for readers of kind connected."""

    kind: str = "matching"
    signal: str = "pointing"
    channels: int = 64
    """Of what is matched: those of the tower's convolutions, or the tower's width where it has none."""
    says: bool = True
    """What was found is said in tokens that actions see."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_one(self, "channels", where="model.auxiliaries.matching.")

    def build(self, interface: Interface, width: int) -> "Auxiliary":
        """See `AuxiliaryConfig.build`."""
        from vla.models.auxiliaries.matching import Matching

        return Matching(self, interface, width)


AUXILIARIES: dict[str, type[AuxiliaryConfig]] = {
    "grounding": GroundingConfig,
    "pointing": PointingConfig,
    "matching": MatchingConfig,
}
