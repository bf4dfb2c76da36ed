"""What a call cannot be faster than: its weights over the memory's bandwidth, its products over the arithmetic's rate.

Work is counted where it is done, so that whatever a model does is counted: of each product the floating point
operations, and the bytes of parameters among its operands, each time that it reads them. The machine's two rates are
measured in the same process, on the same number of threads, with tensors of the same sizes.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_SECONDS = 0.2
_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of one call."""

    flops: int
    """Of its products and convolutions, two for each multiplication with an addition."""
    weight_bytes: int
    """Of the parameters that they read, as often as they read them."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What it reaches at what this work is made of."""

    bytes_per_s: float
    flops_per_s: float

    def bandwidth_ms(self, work: Work) -> float:
        """Milliseconds to read the weights."""
        return 1e3 * work.weight_bytes / self.bytes_per_s

    def products_ms(self, work: Work) -> float:
        """Milliseconds to do the products."""
        return 1e3 * work.flops / self.flops_per_s


def count_work(call: Callable[[], object], modules: Iterable[nn.Module]) -> Work:
    """The work of one ``call``, in which the parameters of ``modules`` are weights."""
    with torch.no_grad(), _Counter(modules) as counter:
        call()
    return Work(flops=counter.flops, weight_bytes=counter.bytes)


def measure_machine(weights: int, width: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Machine:
    """Rates of reading as many numbers as there are ``weights``, and of products of (1024, width) by (width, width).

    Weights that fit into a cache are read from there, here as in the model.
    """
    half = max(1, weights // 2)
    a, b = (torch.ones(half, dtype=dtype, device=device) for _ in range(2))
    read = 2 * half * a.element_size() / _quickest(lambda: torch.dot(a, b), device)
    rows, square = (torch.ones(n, width, dtype=dtype, device=device) for n in (_ROWS, width))
    return Machine(bytes_per_s=read, flops_per_s=2 * _ROWS * width**2 / _quickest(lambda: rows @ square, device))


def _quickest(call: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds of the quickest of several calls, the first one left out."""
    best, until = float("inf"), 0.0
    while time.perf_counter() < until or best == float("inf"):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if until:
            best = min(best, time.perf_counter() - began)
        else:
            until = time.perf_counter() + _SECONDS
    return best


class _Counter(TorchDispatchMode):
    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.flops = self.bytes = 0
        # A view of a parameter, such as some rows of a table, shares its memory.
        self._weights = {p.untyped_storage().data_ptr() for module in modules for p in module.parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            with self:  # in inference mode what is made of other operations comes as a whole
                parts = func.decompose(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {})) if parts is NotImplemented else parts
        out = func(*args, **(kwargs or {}))
        self.flops += count(*args, **(kwargs or {}), out_val=out)
        tensors = [value for value in args if isinstance(value, Tensor)]
        self.bytes += sum(t.nbytes for t in tensors if t.untyped_storage().data_ptr() in self._weights)
        return out
