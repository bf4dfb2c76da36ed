"""Whether what is shown and what is answered is what a contract says: one rule each, wherever the two meet.

`check_observation` and `check_chunk` are for values of `vla.core.types`; what comes from outside, as a map of a client
or of an environment, is held against the same rules before it becomes one: `check_images`, `check_state`,
`check_actions`. All raise `ContractError`; ``who`` names the one who is to blame, as in "the policy".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ContractError
from vla.core.types import ActionChunk, Observation


def limits(dimensions: Sequence[Dimension], dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each dimension, (d,) each."""
    return np.array([d.low for d in dimensions], dtype), np.array([d.high for d in dimensions], dtype)


def check_observation(observation: Observation, contract: Contract, *, who: str) -> None:
    """Refuse an observation that lacks a camera, or has an image or a state of another shape or type."""
    check_images(observation.images, contract, who=who)
    check_state(observation.state, contract, who=who)


def check_chunk(chunk: ActionChunk | None, contract: Contract, *, who: str) -> ActionChunk:
    """The chunk, unless there is none, or its actions are not what `check_actions` wants."""
    if chunk is None:
        raise ContractError(f"{who}: expected a chunk of actions for the observation, got none")
    check_actions(chunk.actions, contract, who=who)
    return chunk


def check_images(images: Mapping[str, Any], contract: Contract, *, who: str) -> None:
    """Refuse images unless each camera of the contract has one of its shape and type; others may be there too."""
    missing = [camera.name for camera in contract.cameras if camera.name not in images]
    if missing:
        raise ContractError(
            f"{who}: expected cameras {', '.join(camera.name for camera in contract.cameras)}, "
            f"got {', '.join(map(str, images)) or 'none'}; send {', '.join(missing)}"
        )
    for camera in contract.cameras:
        _check_image(images[camera.name], camera, who)


def check_state(state: Any, contract: Contract, *, who: str) -> None:
    """Refuse a state unless it is finite float32 (s,)."""
    names = ", ".join(f"{d.name} [{d.unit}]" for d in contract.state)
    if not _is(state, np.float32, (len(contract.state),)):
        raise ContractError(f"{who}: state: expected float32 ({len(contract.state)},) ({names}), got {describe(state)}")
    bad = [d.name for d, finite in zip(contract.state, np.isfinite(state), strict=True) if not finite]
    if bad:
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


def describe(value: Any) -> str:
    """What an error says of a value that is not the one expected: type and shape of an array, else its type."""
    return f"{value.dtype.name} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


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
