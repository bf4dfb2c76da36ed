"""A policy in a process of its own: one that hangs can be ended and begun anew, and a fault takes nobody along.

Images cross in shared memory, 64 KB or several MB a request; all else, a few hundred bytes, through a pipe. A pipe
alone would cost a millisecond for two images of 224 pixels where this costs a thirtieth of it.
"""

import asyncio
import hashlib
import math
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import ConfigError, ContractError, VlaError
from vla.core.machine.memory import keep_free
from vla.core.machine.processes import end_with_parent
from vla.core.machine.spawned import refuse_unguarded, spawn
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.engines.channel import Channel
from vla.deploy.engines.engine import Chunks, OnAnswered, PolicyDiedError, PolicyFailedError, chunks_of

_ALIGNED = 64
_END_S = 1.0


class PolicyProcess:
    """Implements `vla.deploy.engines.engine.Engine` by a policy that ``make`` builds in a child.

    ``make`` must be found by importing a module. At most ``slots`` observations at once, without histories.
    ``version`` says what ``make`` builds of, such as the seal of a checkpoint; it is asked before and after.
    """

    def __init__(
        self,
        make: Callable[[], Policy],
        *,
        slots: int,
        start_s: float,
        version: Callable[[], str] = str,
    ) -> None:
        refuse_unguarded()
        self._make, self._start_s, self._say_version = make, start_s, version
        self._memory = os.memfd_create("vla-images")
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._begin()
            self._contract, self.version = self._started()
            stride = _Images.stride(self._contract)
            os.ftruncate(self._memory, max(1, stride * slots))
            self._images = _Images(self._contract, self._memory)
        except BaseException:
            self.close()
            raise

    @property
    def contract(self) -> Contract:
        """That of the policy in the child."""
        return self._contract

    @property
    def digest(self) -> str:
        """Of its contract, and of the version that it was built of."""
        said = self._contract.digest()
        return hashlib.blake2b(f"{said} {self.version}".encode(), digest_size=6).hexdigest() if self.version else said

    def act(self, observations: Sequence[Observation | None], resets: Sequence[int], answered: OnAnswered) -> None:
        """Ask the child, and hand on what it raises."""
        asked = []
        for slot, seen in enumerate(observations):
            if seen is not None:
                self._images.write(slot, seen)
                optional = [None if part is None else _packed(part) for part in (seen.committed, seen.speech)]
                asked.append((slot, _packed(seen.state), seen.instruction, seen.time_ns, optional))

        def heard(message: Any) -> None:
            if isinstance(message, OSError):
                self._tell_death(answered)
            else:
                answered(_chunks(message, [slot for slot, *_ in asked], len(observations)))

        self._channel.ask((len(observations), tuple(resets), asked), heard)

    def kill(self) -> bool:
        """End the child, from any thread."""
        self._process.kill()
        return True

    async def restart(self) -> None:
        """Begin another child in the place of one that is gone."""
        await asyncio.to_thread(self._restart)

    def close(self) -> None:
        """End the child, from any thread; harmless a second time."""
        with self._lock:
            if not self._closed:
                self._closed = True
                if hasattr(self, "_process"):
                    self._end()
                os.close(self._memory)

    def _restart(self) -> None:
        with self._lock:
            if self._closed:
                raise PolicyDiedError("the policy is closed")
            self._end()
            self._begin()
        contract, version = self._started()
        if contract.digest() != self._contract.digest():
            raise ContractError("the policy came back with another contract; start the server anew")
        self.version = version

    def _begin(self) -> None:
        self._process, pipe = spawn(_serve, self._make, self._say_version, DupFd(self._memory))
        self._channel = Channel(pipe)

    def _started(self) -> tuple[Contract, str]:
        try:
            kind, said = self._channel.receive(self._start_s)
        except TimeoutError:
            self.kill()
            raise PolicyDiedError(f"the policy did not load within {self._start_s:g} s") from None
        except (EOFError, OSError):
            raise PolicyDiedError(f"the policy's process {self._death()} while it loaded") from None
        if kind != "done":
            raise ConfigError(said)
        contract, version = ForkingPickler.loads(said)
        return contract, version

    def _tell_death(self, answered: OnAnswered) -> None:
        """Once the process is over: on a thread, since that takes a moment."""
        loop = asyncio.get_running_loop()

        def wait() -> None:
            died = PolicyDiedError(f"the policy's process {self._death()}")
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(answered, died)

        threading.Thread(target=wait, name="vla-policy-end", daemon=True).start()

    def _end(self) -> None:
        self._process.kill()
        self._process.join(_END_S)
        self._channel.close()

    def _death(self) -> str:
        self._process.join(_END_S)
        code = self._process.exitcode
        return (
            "closed its pipe"
            if code is None
            else f"ended (exit code {code})"
            if code >= 0
            else f"died (signal {-code})"
        )


class _Images:
    """The images of each slot in shared memory: a place for each camera, in the order of the contract."""

    def __init__(self, contract: Contract, memory: int) -> None:
        self._bytes = np.frombuffer(mmap.mmap(memory, os.fstat(memory).st_size), np.uint8)
        self._contract, self._stride = contract, self.stride(contract)

    @staticmethod
    def stride(contract: Contract) -> int:
        return sum(_padded(camera.shape, camera.dtype) for camera in contract.cameras)

    def write(self, slot: int, observation: Observation) -> None:
        for name, place in self._places(slot).items():
            place[...] = observation.images[name]

    def read(self, slot: int) -> dict[str, np.ndarray]:
        """Copies: what a policy keeps does not change under its hands."""
        return {name: place.copy() for name, place in self._places(slot).items()}

    def _places(self, slot: int) -> dict[str, np.ndarray]:
        places, start = {}, slot * self._stride
        for camera in self._contract.cameras:
            size = math.prod(camera.shape) * np.dtype(camera.dtype).itemsize
            places[camera.name] = self._bytes[start : start + size].view(camera.dtype).reshape(camera.shape)
            start += _padded(camera.shape, camera.dtype)
        return places


def _padded(shape: tuple[int, ...], dtype: str) -> int:
    return -(-math.prod(shape) * np.dtype(dtype).itemsize // _ALIGNED) * _ALIGNED


def _packed(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()


def _array(packed: Any) -> np.ndarray:
    dtype, shape, data = packed
    return np.ndarray(tuple(shape), dtype, data)


def _chunks(message: Any, slots: Sequence[int], count: int) -> Chunks | VlaError:
    """What the child said of the observations in ``slots``."""
    kind, said = message
    if kind == "refused":
        return ContractError(said)
    if kind == "failed":
        return PolicyFailedError(said)
    chunks: list[ActionChunk | None] = [None] * count
    for slot, (actions, time_ns, signals, clipped) in zip(slots, said, strict=True):
        chunks[slot] = ActionChunk(
            actions=_array(actions),
            time_ns=time_ns,
            signals={name: _array(signal) for name, signal in signals.items()},
            clipped=tuple(clipped),
        )
    return chunks


def _serve(pipe: Connection, make: Callable[[], Policy], version: Callable[[], str], memory: Any) -> None:
    """The child: builds the policy, says its contract, and answers until the pipe ends; ``memory`` is a `DupFd`."""
    end_with_parent()
    keep_free()
    channel, descriptor = Channel(pipe), memory.detach()
    try:
        before = version()
        policy = make()
        if version() != before:
            raise ConfigError("the policy was replaced while it was loaded; try again")
        channel.send(("done", bytes(ForkingPickler.dumps((policy.contract, before)))))
    except VlaError as error:
        channel.send(("unable", str(error)))
        return
    images: _Images | None = None
    with suppress(EOFError, OSError):
        while True:
            slots, resets, asked = channel.receive()
            images = images or _Images(policy.contract, descriptor)  # the parent makes room when it knows the contract
            channel.send(_act(policy, images, slots, resets, asked))


def _act(policy: Policy, images: _Images, slots: int, resets: Sequence[int], asked: Any) -> tuple[str, Any]:
    observations: list[Observation | None] = [None] * slots
    for slot, state, instruction, time_ns, optional in asked:
        committed, speech = (None if part is None else _array(part).copy() for part in optional)
        observations[slot] = Observation(
            images=images.read(slot),
            state=_array(state).copy(),
            instruction=instruction,
            time_ns=time_ns,
            committed=committed,
            speech=speech,
        )
    kind, said = chunks_of(policy, observations, resets)
    try:
        return kind, [_said(said[slot]) for slot, *_ in asked] if kind == "done" else said
    except ContractError as error:
        return "refused", str(error)


def _said(chunk: ActionChunk | None) -> Any:
    """As `_chunks` reads it."""
    if not isinstance(chunk, ActionChunk):
        raise ContractError(f"the policy's answer: expected a chunk of actions, got {type(chunk).__name__}")
    arrays = {name: np.asarray(signal) for name, signal in chunk.signals.items()}
    if any(array.dtype.hasobject for array in (np.asarray(chunk.actions), *arrays.values())):
        raise ContractError("the policy's answer: expected numbers, got objects")
    signals = {name: _packed(array) for name, array in arrays.items()}
    return _packed(np.asarray(chunk.actions)), int(chunk.time_ns), signals, [int(step) for step in chunk.clipped]
