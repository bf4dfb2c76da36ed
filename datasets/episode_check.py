"""Whether an episode is what the dataset's contract promises: asked once, before anything is written."""

import re
from collections.abc import Mapping

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.layout import LOW_DIMENSIONAL, widths

_CAMERA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_cameras(contract: Contract) -> None:
    """Raise `DatasetError` unless every camera name can be the name of a Zarr array and a folder."""
    for camera in contract.cameras:
        if not _CAMERA.fullmatch(camera.name) or camera.name == "zarr.json":
            raise DatasetError(
                f"camera {camera.name!r}: expected letters, digits, '_', '-' and '.', a letter or digit first; "
                "rename it in the contract"
            )


def check_episode(episode: Episode, contract: Contract) -> None:
    """Raise `DatasetError` unless names, shapes and dtypes fit the contract and every number is finite."""
    steps = len(episode)
    if steps == 0:
        raise DatasetError("the episode has no steps: expected at least 1; do not append it")
    _check_text(episode)
    _check_images(episode.images, contract, steps)
    for name, (dtype, vector) in LOW_DIMENSIONAL.items():
        array = getattr(episode, name)
        shape = (steps, widths(contract)[name]) if vector else (steps,)
        _check_array(name, array, shape, dtype)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise DatasetError(
                f"{name}: expected finite numbers, got {array[row]} at step {row} of {steps}; "
                "drop the step or repair the recording"
            )


def _check_text(episode: Episode) -> None:
    """Text must survive a UTF-8 file, and an empty instruction teaches nothing."""
    if not episode.instruction.strip():
        raise DatasetError("instruction: expected a sentence, got an empty string; name the task")
    for text in (episode.instruction, *episode.instruction_alternatives, episode.task, episode.split):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DatasetError(f"{text!r}: expected text that UTF-8 can hold, got {error}; fix its source") from None


def _check_images(images: Mapping[str, np.ndarray], contract: Contract, steps: int) -> None:
    """Exactly the cameras of the contract, each of its size."""
    expected = [camera.name for camera in contract.cameras]
    if set(images) != set(expected):
        raise DatasetError(f"images: expected cameras {expected}, got {list(images)}; record those of the contract")
    for camera in contract.cameras:
        shape = (steps, camera.height, camera.width, 3)
        _check_array(f"images[{camera.name!r}]", images[camera.name], shape, "uint8")


def _check_array(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: str) -> None:
    """One array against its shape and dtype."""
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise DatasetError(
            f"{name}: expected {dtype} {shape}, got {array.dtype} {array.shape}; "
            "convert it, or use a dataset whose contract fits"
        )
