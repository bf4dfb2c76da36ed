"""Which actions are learned relative to the present state: applied to labels, undone on what a policy answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from vla.core.contract import Contract
from vla.core.errors import ContractError


@dataclass(frozen=True, kw_only=True)
class ActionTransform:
    """Absolute targets ↔ what is learned; the arrays are NumPy's or torch's."""

    relative_to: tuple[int | None, ...]
    """For each action dimension the index of the state dimension that it is relative to; None leaves it absolute."""

    @staticmethod
    def of(contract: Contract) -> "ActionTransform":
        """Angles are relative to the state of the same name; all else, the gripper say, stays absolute."""
        names = [d.name for d in contract.state]
        reasons = ActionTransform.reasons(contract)
        return ActionTransform(
            relative_to=tuple(
                None if reason else names.index(d.name) for d, reason in zip(contract.action, reasons, strict=True)
            )
        )

    @staticmethod
    def reasons(contract: Contract) -> tuple[str, ...]:
        """Why `of` leaves each action dimension absolute; empty for those that are relative."""
        names = [d.name for d in contract.state]
        return tuple(
            f"its unit is {d.unit}, not rad" if d.unit != "rad" else "" if d.name in names else "no state has its name"
            for d in contract.action
        )

    @staticmethod
    def absolute(contract: Contract) -> "ActionTransform":
        """Nothing is relative."""
        return ActionTransform(relative_to=(None,) * len(contract.action))

    def apply(self, state: Float[Any, "*b s"], actions: Float[Any, "*b h d"]) -> Float[Any, "*b h d"]:
        """Absolute targets to offsets from the state at which the chunk begins."""
        return self._shift(state, actions, -1)

    def undo(self, state: Float[Any, "*b s"], offsets: Float[Any, "*b h d"]) -> Float[Any, "*b h d"]:
        """The mirror of `apply`."""
        return self._shift(state, offsets, 1)

    def _shift(self, state: Any, actions: Any, sign: int) -> Any:
        if actions.shape[-1] != len(self.relative_to):
            raise ValueError(f"actions: expected {len(self.relative_to)} dimensions, got {actions.shape[-1]}")
        columns = [i for i, source in enumerate(self.relative_to) if source is not None]
        shifted = actions * 1  # a copy, in NumPy and in torch
        if columns:
            sources = [self.relative_to[i] for i in columns]
            shifted[..., columns] += sign * state[..., None, sources]
        return shifted

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back."""
        return {"relative_to": list(self.relative_to)}

    @staticmethod
    def from_json(value: Mapping[str, Any], *, where: str) -> "ActionTransform":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        sources = value.get("relative_to")
        if not isinstance(sources, list) or not all(s is None or (type(s) is int and s >= 0) for s in sources):
            raise ContractError(
                f"{where}: relative_to must list state dimensions or null, got {sources!r}; it is damaged"
            )
        return ActionTransform(relative_to=tuple(sources))
