"""Whether what is shown and what is answered is what a contract says: one rule each, wherever the two meet.

`check_observation` and `check_chunk` are for values of `vla.core.types`; what comes from outside, as a map of a client
or of an environment, is held against the same rules before it becomes one: `check_images`, `check_state`,
`check_actions`; rows of recordings against `check_limits`. All raise `ContractError`; ``who`` names the one who is to
blame, as in "the policy". What is a little outside of its limits (`Contract.tolerance`) comes back inside of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ContractError
from vla.core.types import SPEECH_HZ, SPEECH_S, ActionChunk, Observation

_ROUNDING = 1e-6
"""Of a range: what float32 makes of a limit."""


def limits(dimensions: Sequence[Dimension], dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each dimension, (d,) each."""
    return np.array([d.low for d in dimensions], dtype), np.array([d.high for d in dimensions], dtype)


def check_observation(observation: Observation, contract: Contract, *, who: str) -> Observation:
    """Refuse an observation that lacks a camera, or has an image or a state that does not fit.

    Another one comes back where its state was a little outside of its limits, and has been brought inside.
    """
    check_form(observation, contract, who=who)
    state = check_state(observation.state, contract, who=who)
    return observation if state is observation.state else replace(observation, state=state)


def check_form(observation: Observation, contract: Contract, *, who: str) -> None:
    """Refuse an observation that is of other shapes or types, or not finite; limits are for whoever received it."""
    check_images(observation.images, contract, who=who)
    _check_vector(observation.state, contract, who)
    if not isinstance(observation.instruction, str):
        raise ContractError(f"{who}: instruction: expected a string, got {describe(observation.instruction)}")
    if observation.speech is not None:
        check_waveform(observation.speech, who=f"{who}: speech")


def check_waveform(samples: Any, *, who: str) -> None:
    """Refuse what is not mono float32 (a,) in [-1, 1], or shorter or longer than is listened to."""
    if not (isinstance(samples, np.ndarray) and samples.dtype == np.float32 and samples.ndim == 1):
        raise ContractError(f"{who}: expected mono float32 (samples,) at {SPEECH_HZ} Hz, got {describe(samples)}")
    least, most = SPEECH_S
    if not least <= (seconds := len(samples) / SPEECH_HZ) <= most:
        raise ContractError(
            f"{who}: expected {least:g} to {most:g} s, got {len(samples)} samples, which are {seconds:.4g} s at "
            f"{SPEECH_HZ} Hz; send the command alone, and at this rate"
        )
    if not (peak := float(np.abs(samples).max())) <= 1:  # NaN is not
        raise ContractError(f"{who}: expected finite samples from -1 to 1, got {peak:g}; divide int16 by 32768")


def check_speech(samples: Any, contract: Contract, *, who: str) -> None:
    """Refuse speech that is no waveform, or that is said to a policy that was not trained to listen."""
    check_waveform(samples, who=f"{who}: speech")
    if not (contract.policy and contract.policy.speech):
        raise ContractError(
            f"{who}: speech: the policy reads instructions and was not trained to listen; send the text, or train with "
            "model.readers.sound"
        )


def check_committed(committed: Any, contract: Contract, *, who: str) -> None:
    """Refuse commands that are decided already unless they fit the robot, and its policy was trained for so many."""
    check_actions(committed, contract, who=f"{who}: committed")
    check_limits(committed, contract.action, contract.tolerance, what=f"{who}: committed")
    most = contract.policy.committed if contract.policy else 0
    if len(committed) > most:
        raise ContractError(
            f"{who}: committed: expected at most {most} steps, which is what the policy was trained for, got "
            f"{len(committed)}; train with model.committed={len(committed)}, or leave it out"
        )


def check_chunk(chunk: ActionChunk | None, contract: Contract, *, who: str) -> ActionChunk:
    """The chunk with all commands within limits, and in ``clipped`` the steps that were not.

    Refused where there is none, or its actions are not what `check_actions` wants.
    """
    if chunk is None:
        raise ContractError(f"{who}: expected a chunk of actions for the observation, got none")
    check_actions(chunk.actions, contract, who=who)
    low, high = contract.action_limits
    if ((chunk.actions >= low) & (chunk.actions <= high)).all():
        return chunk
    inside = np.clip(chunk.actions, low, high)
    outside = (_beyond(chunk.actions, contract.action) > _ROUNDING).any(axis=1)
    steps = {*chunk.clipped, *np.flatnonzero(outside).tolist()}
    return replace(chunk, actions=inside, clipped=tuple(sorted(steps)))


def check_images(images: Mapping[str, Any], contract: Contract, *, who: str) -> None:
    """Refuse images unless each camera of the contract has one of its shape and type; others may be there too."""
    if missing := [camera.name for camera in contract.cameras if camera.name not in images]:
        raise ContractError(
            f"{who}: expected cameras {', '.join(camera.name for camera in contract.cameras)}, "
            f"got {', '.join(map(str, images)) or 'none'}; send {', '.join(missing)}"
        )
    for camera in contract.cameras:
        _check_image(images[camera.name], camera, who)


def check_state(state: Any, contract: Contract, *, who: str) -> np.ndarray:
    """The state within its limits; refused unless it is finite float32 (s,), and nowhere far outside of them."""
    _check_vector(state, contract, who)
    assert isinstance(state, np.ndarray)
    low, high = contract.state_limits
    if ((state >= low) & (state <= high)).all():  # most are, and a server asks thousands of times a second
        return state
    check_limits(state[None], contract.state, contract.tolerance, what=f"{who}: state")
    if not (_beyond(state[None], contract.state) > _ROUNDING).any():
        return state
    inside: np.ndarray = np.clip(state, low, high)
    return inside


def _check_vector(state: Any, contract: Contract, who: str) -> None:
    if not _is(state, np.float32, (len(contract.state),)):
        names = ", ".join(f"{d.name} [{d.unit}]" for d in contract.state)
        raise ContractError(f"{who}: state: expected float32 ({len(contract.state)},) ({names}), got {describe(state)}")
    if not np.isfinite(state).all():
        bad = [d.name for d, finite in zip(contract.state, np.isfinite(state), strict=True) if not finite]
        raise ContractError(f"{who}: state: expected finite numbers, got NaN or infinity for {', '.join(bad)}")


def check_actions(actions: Any, contract: Contract, *, who: str) -> None:
    """Refuse actions unless they are finite float32 (h, d) with at least one step."""
    wide = len(contract.action)
    horizon = actions.shape[0] if isinstance(actions, np.ndarray) and actions.ndim else 0
    if horizon < 1 or not _is(actions, np.float32, (horizon, wide)):
        raise ContractError(
            f"{who}: actions: expected float32 (horizon, {wide}) of at least one step, got {describe(actions)}"
        )
    if not np.isfinite(actions).all():
        raise ContractError(f"{who}: actions: expected finite numbers, got NaN or infinity")


def check_limits(rows: np.ndarray, dimensions: Sequence[Dimension], tolerance: float, *, what: str) -> None:
    """Refuse rows (t, d) that anywhere lie outside of their limits by more than ``tolerance`` of the range."""
    beyond = _beyond(rows, dimensions)
    if not (beyond > tolerance).any():
        return
    step, column = divmod(int(beyond.argmax()), len(dimensions))
    d, where = dimensions[column], f" at step {step} of {len(rows)}" if len(rows) > 1 else ""
    raise ContractError(
        f"{what} {d.name}: expected {d.low:g} to {d.high:g} {d.unit} (at most {tolerance:g} of that range beyond), "
        f"got {float(rows[step, column]):g}{where}; correct its unit or order, or the contract's limits"
    )


def describe(value: Any) -> str:
    """What an error says of a value that is not the one expected: type and shape of an array, else its type."""
    return f"{value.dtype.name} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _beyond(rows: np.ndarray, dimensions: Sequence[Dimension]) -> np.ndarray:
    """float64 (t, d): how far each number lies outside of its limits, as a share of their range; 0 inside."""
    low, high = limits(dimensions, np.float64)
    rows = rows.astype(np.float64)
    ends = np.abs(np.where(np.isfinite([low, high]), [low, high], 0.0)).max(axis=0)
    has_range = np.isfinite(high - low) & (high > low)
    span = np.where(has_range, high - low, np.where(ends > 0, ends, 1.0))  # of one open end, or none: the other's size
    shares: np.ndarray = np.maximum(np.maximum(low - rows, rows - high), 0.0) / span
    return shares


def _check_image(image: Any, camera: Camera, who: str) -> None:
    if _is(image, camera.dtype, camera.shape):
        return
    y, x, channels = camera.shape
    hint = "; put the channels last" if isinstance(image, np.ndarray) and image.shape == (channels, y, x) else ""
    raise ContractError(
        f"{who}: image of camera {camera.name}: expected {camera.dtype} {camera.shape}, got {describe(image)}{hint}"
    )


def _is(value: Any, dtype: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.dtype(dtype) and value.shape == shape
