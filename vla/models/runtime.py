"""How a model acts: as it is written, compiled, or as one CUDA graph for each shape of its inputs.

At the sizes of robot policies a GPU waits for the host: launching a kernel takes longer than the kernel. A graph is all
launches of an answer as one (π0 at 106 ms → 43 ms on a 4090, arXiv 2510.26742). It is recorded once for each shape that
is asked for, on memory of its own: inputs are copied in, answers out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from vla.core.errors import ConfigError
from vla.models.model import Model
from vla.models.trunk.inputs import Inputs, Prediction

Compile = Literal["none", "default", "graphs"]
Act = Callable[[Inputs], Prediction]
_WARM_UP = 3
"""Answers before the recording: libraries choose their kernels and allocate what they need."""


def acting(model: Model, compile: Compile, device: torch.device) -> Act:
    """`Model.act` as written (``none``), compiled by TorchInductor (``default``), or as CUDA graphs (``graphs``).

    Graphs on another device than a GPU are a `ConfigError`.
    """
    if compile == "none":
        return model.act
    if compile == "graphs":
        if device.type != "cuda":
            raise ConfigError(f"compile=graphs: expected a CUDA device, got {device}; set compile=default or none")
        return CudaGraphs(model.act)
    compiled: Any = torch.compile(model.predict, dynamic=False)
    model.predict = compiled  # type: ignore[method-assign]
    return model.act


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    graph: Any
    inputs: Inputs
    prediction: Prediction


class CudaGraphs:
    """Answers by replaying what was recorded for inputs of the same shapes."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self._recorded: dict[Any, _Recorded] = {}

    def __call__(self, inputs: Inputs) -> Prediction:
        """The same as ``act``; the first inputs of a shape take as long as several answers."""
        # Inputs without committed steps have fewer tensors, and so are another shape.
        shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs.tensors())
        recorded = self._recorded.get(shapes)
        if recorded is None:
            recorded = self._recorded[shapes] = self._record(inputs)
        for own, given in zip(recorded.inputs.tensors(), inputs.tensors(), strict=True):
            own.copy_(given)
        recorded.graph.replay()
        return recorded.prediction.clone()  # the next replay overwrites it

    def _record(self, inputs: Inputs) -> _Recorded:
        own = inputs.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._act(own)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            prediction = self._act(own)
        return _Recorded(graph=graph, inputs=own, prediction=prediction)
