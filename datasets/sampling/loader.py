"""Batches for training, read here or by loader processes: an item is a whole batch, in the order of steps."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from vla.core.machine.stopping import left_to_parent
from vla.datasets.sampling.order import ResumableSampler

Batch = TypeVar("Batch")


@runtime_checkable
class BatchSource(Protocol):
    """`vla.datasets.sampling.windows.Windows`, `vla.datasets.sampling.mixture.Mixture`, or anything like them."""

    def batch(self, items: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of these items, with the batch axis in front."""


class Batches(torch.utils.data.Dataset[Batch]):
    """Item ``i`` is the whole batch of step ``i`` of a sampler: so any number of loader processes keeps the order."""

    def __init__(
        self, source: BatchSource, sampler: ResumableSampler, collate: Callable[[dict[str, np.ndarray]], Batch]
    ) -> None:
        self._source, self._sampler, self._collate = source, sampler, collate

    def __getitem__(self, step: int) -> Batch:
        """One batch."""
        return self._collate(self._source.batch(self._sampler.items(step)))


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Arrays as they are, as tensors; images stay uint8."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def iterate_steps(
    batches: "torch.utils.data.Dataset[Batch]", loaders: int, *, pin_memory: bool = False
) -> Generator[Batch, None, None]:
    """Items 0, 1, 2, ... without end: put together where they are decoded, and handed over through shared memory.

    ``pin_memory`` hands them over in page-locked memory, from where copies to a GPU run beside its work. Closing the
    iterator (it is a generator) ends the loader processes.
    """
    if loaders == 0:
        step = 0
        while True:
            batch = batches[step]
            yield batch.pin_memory() if pin_memory else batch  # type: ignore[attr-defined]
            step += 1
    steps = _Steps()
    options: dict[str, Any] = {"pin_memory": pin_memory, "prefetch_factor": 4, "multiprocessing_context": "spawn"}
    with left_to_parent():
        loader = iter(
            torch.utils.data.DataLoader(batches, batch_size=None, sampler=steps, num_workers=loaders, **options)
        )
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
