"""A bound on what is allocated while something is built: a checkpoint's own words decide sizes, and may be anyone's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_ALLOCATING = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint, torch.arange, torch.eye}
    | {torch.linspace, torch.Tensor.new_empty, torch.Tensor.new_zeros, torch.Tensor.new_ones, torch.Tensor.new_full}
)


class TooLargeError(Exception):
    """More was asked for than the bound allows, and none of it was taken."""


class Bounded(TorchFunctionMode):
    """A context in which tensors of at most ``most`` bytes in all are made; the next one is a `TooLargeError`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most, self._made = most, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count before it is made: the system promises memory that it does not have, and kills later."""
        kwargs = kwargs or {}
        if func in _ALLOCATING:
            self._made += func(*args, **{**kwargs, "device": "meta"}).nbytes
            if self._made > self._most:
                raise TooLargeError(f"more than {self._most / 2**20:,.0f} MiB")
        return func(*args, **kwargs)
