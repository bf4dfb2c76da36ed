"""Batches for training, read here or by loader processes: an item is a whole batch, in the order of steps."""

from collections.abc import Generator, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from vla.datasets.sampling.order import ResumableSampler

Batch = TypeVar("Batch")


@runtime_checkable
class BatchSource(Protocol):
    """`vla.datasets.sampling.windows.Windows`, `vla.datasets.sampling.mixture.Mixture`, or anything like them."""

    def batch(self, items: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of these items, with the batch axis in front."""


class TensorBatches(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Item ``i`` is the batch of step ``i`` of a sampler as tensors; images stay uint8."""

    def __init__(self, source: BatchSource, sampler: ResumableSampler) -> None:
        self._source, self._sampler = source, sampler

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """One batch."""
        arrays = self._source.batch(self._sampler.items(step))
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def iterate_steps(batches: "torch.utils.data.Dataset[Batch]", loaders: int) -> Generator[Batch, None, None]:
    """Items 0, 1, 2, ... without end: put together where they are decoded, and handed over through shared memory.

    Closing the iterator (it is a generator) ends the loader processes.
    """
    if loaders == 0:
        step = 0
        while True:
            yield batches[step]
            step += 1
    steps = _Steps()
    options: dict[str, Any] = {"prefetch_factor": 4, "multiprocessing_context": "spawn"}
    loader = iter(torch.utils.data.DataLoader(batches, batch_size=None, sampler=steps, num_workers=loaders, **options))
    try:
        yield from loader
    finally:
        steps.ended = True  # a loader that is cut off while it hands over a batch may abort: take what is on its way
        for _ in loader:
            pass


class _Steps(torch.utils.data.Sampler[int]):
    """0, 1, 2, ... until it is told to end."""

    ended = False

    def __iter__(self) -> Iterator[int]:
        step = 0
        while not self.ended:
            yield step
            step += 1
