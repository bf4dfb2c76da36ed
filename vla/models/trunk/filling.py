"""Weights into a module: every tensor has its place, once, and none is left over."""

from collections.abc import Mapping

from torch import Tensor, nn

from vla.core.errors import CheckpointError

_SHOWN = 3


def fill(module: nn.Module, weights: Mapping[str, Tensor], *, what: str, fix: str = "", assign: bool = False) -> None:
    """Copy ``weights`` into ``module``; with ``assign`` they take the place of its own, which may be on no device.

    A tensor missing, too many or of another shape is a `CheckpointError` that begins with ``what`` and names it.
    """
    own = module.state_dict()
    missing, surplus = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    wrong = [
        f"{name} {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if own[name].shape != weights[name].shape
    ]
    if missing or surplus or wrong:
        raise CheckpointError(
            f"{what}: missing {missing[:_SHOWN]}, too many {surplus[:_SHOWN]}, wrong shape {wrong[:_SHOWN]}{fix}"
        )
    copies = {name: value.detach().clone() for name, value in weights.items()} if assign else dict(weights)
    module.load_state_dict(copies, assign=assign)
