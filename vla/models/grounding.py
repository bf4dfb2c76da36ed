"""Which entries of a grounding vector are metric, and which are points in which image."""

from dataclasses import dataclass

from vla.core.contract import Contract
from vla.core.errors import ContractError


@dataclass(frozen=True, kw_only=True)
class GroundingLayout:
    """Indices into the contract's grounding."""

    metric: tuple[int, ...]
    """Entries that a grounding token says in bins."""
    points: tuple[tuple[tuple[int, int], ...], ...]
    """For each camera and each thing the entries of its row and its column, said by pointing."""

    @staticmethod
    def of(contract: Contract) -> "GroundingLayout":
        """Read it off the names ``camera.thing.row`` and ``camera.thing.column`` of entries of unit ``image``."""
        index = {d.name: i for i, d in enumerate(contract.grounding)}
        metric = tuple(i for i, d in enumerate(contract.grounding) if d.unit != "image")
        rows = [d.name for d in contract.grounding if d.unit == "image" and d.name.endswith(".row")]
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
