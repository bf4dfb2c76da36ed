"""Which entries of the signals ``grounding`` and ``pointing`` are metric, and which are points in which image."""

from dataclasses import dataclass

from vla.core.contract import Contract, Dimension
from vla.core.errors import ContractError

SIGNALS = ("grounding", "pointing")
"""What the model learns of, one after the other in one vector."""


def entries(contract: Contract) -> tuple[Dimension, ...]:
    """The dimensions of the vector."""
    return tuple(dimension for name in SIGNALS for dimension in contract.signals.get(name, ()))


@dataclass(frozen=True, kw_only=True)
class GroundingLayout:
    """Indices into the vector of `entries`."""

    metric: tuple[int, ...]
    """Entries that a grounding token says in bins."""
    points: tuple[tuple[tuple[int, int], ...], ...]
    """For each camera and each thing the entries of its row and its column, said by pointing."""

    @staticmethod
    def of(contract: Contract) -> "GroundingLayout":
        """Read it off the names ``camera.thing.row`` and ``camera.thing.column`` of entries of unit ``image``."""
        dimensions = entries(contract)
        index = {d.name: i for i, d in enumerate(dimensions)}
        metric = tuple(i for i, d in enumerate(dimensions) if d.unit != "image")
        rows = [d.name for d in dimensions if d.unit == "image" and d.name.endswith(".row")]
        points = tuple(
            tuple((index[name], _column(index, name)) for name in rows if name.startswith(f"{camera.name}."))
            for camera in contract.cameras
        )
        if len({len(of_camera) for of_camera in points}) > 1:
            raise ContractError(f"grounding: each camera must have the same things to point at, got {rows}")
        return GroundingLayout(metric=metric, points=points)


def _column(index: dict[str, int], row: str) -> int:
    column = row.removesuffix("row") + "column"
    if column not in index:
        raise ContractError(f"grounding: {row} has no {column} beside it")
    return index[column]
