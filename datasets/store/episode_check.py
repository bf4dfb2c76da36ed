"""Whether an episode is what the dataset's contract promises: asked once, before anything is written."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import ContractError, DatasetError
from vla.core.fit import check_limits
from vla.core.types import Episode
from vla.datasets.store.layout import row_kinds, rows_of, wrong_rows

LIMITED = ("state", "action", "action_executed")
"""Arrays whose dimensions have limits that a recording must keep."""


def check_episode(episode: Episode, contract: Contract) -> None:
    """Raise `DatasetError` unless names, shapes and dtypes fit the contract and numbers are finite (`wrong_rows`)."""
    steps = len(episode)
    if steps == 0:
        raise DatasetError("the episode has no steps: expected at least 1; do not append it")
    check_labels(
        instruction=episode.instruction,
        texts=(
            *episode.instruction_alternatives,
            episode.task,
            episode.split,
            episode.model,
            *_asked(episode, contract),
        ),
        seed=episode.seed,
        provenance=episode.provenance,
    )
    kinds = row_kinds(contract)
    for name, array in rows_of(episode, contract).items():
        dtype, shape = kinds[name]
        _check_array(name, array, (steps, *shape), dtype)
        if (wrong := wrong_rows(name, array)).any():
            row = int(np.argmax(wrong))
            raise DatasetError(
                f"{name}: expected finite numbers, got {array[row]} at step {row} of {steps}; "
                "drop the step or repair the recording"
            )
    check_within_limits({name: getattr(episode, name) for name in LIMITED}, contract)
    _check_images(episode, contract, steps)
    _check_simulator(episode, steps)


def check_within_limits(rows: Mapping[str, np.ndarray], contract: Contract) -> None:
    """Raise `DatasetError` for states or commands (t, ·) that lie further outside than the contract tolerates."""
    for name, values in rows.items():
        dimensions = contract.state if name == "state" else contract.action
        try:
            check_limits(values, dimensions, contract.tolerance, what=name)
        except ContractError as error:
            raise DatasetError(str(error)) from None


def _asked(episode: Episode, contract: Contract) -> Iterator[str]:
    """The words of what can be asked; `DatasetError` for what is asked of no step, has no words or no such signals."""
    for question in episode.questions:
        if not 0 <= question.step < len(episode):
            raise DatasetError(
                f"questions: {question.text!r} is asked of step {question.step}: expected 0 to {len(episode) - 1}"
            )
        for name in ("text", "answer"):
            if not getattr(question, name).strip():
                raise DatasetError(f"questions: expected words, got an empty {name} at step {question.step}")
        for name, values in question.signals.items():
            known = contract.signals.get(name, ())
            if len(values) != len(known) or any(map(math.isinf, values)):
                raise DatasetError(
                    f"questions: {question.text!r} at step {question.step} says {list(values)} of signal {name}: "
                    f"expected {len(known)} finite numbers, or NaN for what is not known; "
                    f"signals: {list(contract.signals)}"
                )
        yield from (question.text, question.answer, question.kind)


def _check_simulator(episode: Episode, steps: int) -> None:
    """States are one row a step; a model without states says nothing."""
    states = episode.sim_state
    if states is None:
        if episode.model:
            raise DatasetError("model: a simulator model needs sim_state to belong to; record both or neither")
        return
    if states.ndim != 2 or len(states) != steps or not states.shape[1]:
        raise DatasetError(f"sim_state: expected float64 ({steps}, m), got {states.shape}; record one state a step")
    if not np.isfinite(states).all():
        raise DatasetError("sim_state: expected finite numbers; the simulation diverged, drop the episode")


def check_labels(*, instruction: str, texts: Sequence[str], seed: int, provenance: Mapping[str, Any]) -> None:
    """Raise `DatasetError` unless what is said of an episode survives a UTF-8 file of JSON.

    An empty instruction is refused too: it teaches nothing.
    """
    if not instruction.strip():
        raise DatasetError("instruction: expected a sentence, got an empty string; name the task")
    for text in (instruction, *texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DatasetError(f"{text!r}: expected text that UTF-8 can hold, got {error}; fix its source") from None
    if not -(2**63) <= seed < 2**63:
        raise DatasetError(f"seed: expected 64 bits, got {seed}; use a smaller one")
    try:
        json.dumps(dict(provenance), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise DatasetError(f"provenance: expected JSON, got {provenance!r} ({error}); use plain values") from None


def _check_images(episode: Episode, contract: Contract, steps: int) -> None:
    """Exactly the cameras of the contract, each of its size and kind, on its own clock where it has one."""
    expected = [camera.name for camera in contract.cameras]
    if set(episode.images) != set(expected):
        raise DatasetError(
            f"images: expected cameras {expected}, got {list(episode.images)}; record those of the contract"
        )
    clocks = [camera.name for camera in contract.cameras if camera.hz is not None]
    if set(episode.image_time_ns) != set(clocks):
        raise DatasetError(
            f"image_time_ns: expected cameras {clocks}, got {list(episode.image_time_ns)}; "
            "give times of exactly those cameras that the contract gives a rate"
        )
    for camera in contract.cameras:
        frames = steps
        if camera.hz is not None:
            frames = len(episode.image_time_ns[camera.name])
            _check_clock(camera.name, episode.image_time_ns[camera.name], int(episode.time_ns.min()))
        _check_array(f"images[{camera.name!r}]", episode.images[camera.name], (frames, *camera.shape), camera.dtype)


def _check_clock(camera: str, times: np.ndarray, first_step_ns: int) -> None:
    """At every step there must be a latest frame."""
    if times.dtype != np.int64 or times.ndim != 1 or not len(times) or (np.diff(times) <= 0).any():
        raise DatasetError(f"image_time_ns[{camera!r}]: expected rising int64 times, got {times.dtype} {times.shape}")
    if times[0] > first_step_ns:
        raise DatasetError(
            f"image_time_ns[{camera!r}]: the first frame comes {int(times[0]) - first_step_ns} ns after step 0; "
            "drop the steps before it"
        )


def _check_array(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: str) -> None:
    """One array against its shape and dtype."""
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise DatasetError(
            f"{name}: expected {dtype} {shape}, got {array.dtype} {array.shape}; "
            "convert it, or use a dataset whose contract fits"
        )
