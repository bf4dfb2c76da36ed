"""Batches for training, read here or by loader processes: an item is a whole batch, in the order of steps."""

import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from vla.core.errors import VlaError
from vla.core.machine.memory import collect_seldom
from vla.core.machine.places import free_shared_memory, use_writable_folders
from vla.core.machine.spawned import WorkerDiedError, sendable
from vla.core.machine.stopping import left_to_parent
from vla.datasets.sampling.order import ResumableSampler

Batch = TypeVar("Batch")
_AHEAD = 4
_IN_USE = 2
"""Batches that the reader holds while it asks for the next."""
_PAGE = 4096
_PLENTY = 2**30
"""Bytes of free shared memory from which on nobody counts."""


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
    iterator (it is a generator) ends the loader processes. What a loader process raises is raised here as it is.
    """
    if loaders == 0:
        step = 0
        while True:
            batch = batches[step]
            yield batch.pin_memory() if pin_memory else batch  # type: ignore[attr-defined]
            step += 1
    use_writable_folders()
    steps = _Steps()
    ahead = _ahead(batches, loaders)
    options: dict[str, Any] = {"pin_memory": pin_memory, "prefetch_factor": ahead, "multiprocessing_context": "spawn"}
    loaded = torch.utils.data.DataLoader(
        _Guarded(batches), batch_size=None, sampler=steps, num_workers=loaders, worker_init_fn=_begin, **options
    )
    with left_to_parent():
        loader = iter(loaded)
    try:
        yield from _unguarded(loader)
    finally:
        steps.ended = True  # a loader that is cut off while it hands over a batch may abort: take what is on its way
        with suppress(RuntimeError):  # a process that has died hands over nothing
            for _ in loader:
                pass


def _begin(loader: int) -> None:
    collect_seldom()


def _unguarded(loader: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            item = next(loader)
        except RuntimeError as error:  # PyTorch's word for a process that is gone
            reason = str(error.__cause__ or error).splitlines()[0]
            raise WorkerDiedError(f"a loader process died ({reason})") from error
        if isinstance(item, _Failed):
            raise item.error
        yield item


@dataclass(frozen=True)
class _Failed:
    """What a loader process raised: PyTorch would make a traceback of it."""

    error: Exception


class _Guarded(torch.utils.data.Dataset[Any]):
    """Batches in shared memory, or what stood in the way.

    PyTorch itself moves them there in a thread, whose error is printed and leaves the reader waiting for ever.
    """

    def __init__(self, batches: "torch.utils.data.Dataset[Any]") -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Any:
        """One batch."""
        try:
            batch = self._batches[step]
            for tensor in _tensors(batch):
                _share(tensor)
            return batch
        except Exception as error:
            return _Failed(sendable(error))


def _share(tensor: torch.Tensor) -> None:
    try:
        tensor.share_memory_()
    except RuntimeError as error:
        raise VlaError(_full(f"{tensor.nbytes / 1e6:.1f} MB more ({error})")) from error


def _ahead(batches: "torch.utils.data.Dataset[Any]", loaders: int) -> int:
    """How many batches each loader process prepares: what shared memory holds, at most four."""
    free = free_shared_memory()
    if free > _PLENTY:
        return _AHEAD
    size = sum(-(-tensor.nbytes // _PAGE) * _PAGE for tensor in _tensors(batches[0]))
    room = (free // max(1, size) - _IN_USE) // loaders
    if room < 1:
        raise VlaError(_full(f"{(loaders + _IN_USE) * size / 1e6:.1f} MB for {loaders} loader processes"))
    return min(_AHEAD, room)


def _full(needed: str) -> str:
    return (
        f"loader processes hand batches over through /dev/shm, of which {free_shared_memory() / 1e6:.1f} MB are free: "
        f"it needs {needed}; enlarge it (docker run --shm-size=1g), or set data.loaders to 0, or batch smaller"
    )


def _tensors(batch: Any) -> Iterator[torch.Tensor]:
    """All tensors of a batch: of mappings, and of dataclasses."""
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif dataclasses.is_dataclass(batch):
        for field in dataclasses.fields(batch):
            yield from _tensors(getattr(batch, field.name))


class _Steps(torch.utils.data.Sampler[int]):
    """0, 1, 2, ... until it is told to end."""

    ended = False

    def __iter__(self) -> Iterator[int]:
        step = 0
        while not self.ended:
            yield step
            step += 1
