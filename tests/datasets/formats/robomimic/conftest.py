"""Small HDF5 demonstrations, whose pictures tell demonstration, step and which way is up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

ENV_ARGS = {"type": 1, "env_name": "Lift", "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}


def pictures(demo: int, steps: int) -> np.ndarray:
    """Red above, blue below; the first row tells demonstration and step."""
    frames = np.zeros((steps, 6, 8, 3), np.uint8)
    frames[:, :3, :, 0], frames[:, 3:, :, 2] = 200, 200
    frames[:, 0, :, 1] = 10 * (demo + 1) + np.arange(steps)[:, None]
    return frames


def numbers(demo: int, steps: int, width: int) -> np.ndarray:
    return (demo + 0.01 * np.arange(steps)[:, None] + 0.1 * np.arange(width)).astype(np.float32)


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    """Call it to write demonstrations of these lengths; ``change`` gets the open file."""

    def write(
        lengths: tuple[int, ...] = (5, 6),
        change: Callable[[h5py.File], Any] = lambda file: None,
        *,
        name: str = "input.hdf5",
        env_args: dict[str, Any] | None = ENV_ARGS,
        camera: str = "agentview_image",
    ) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            data = file.create_group("data")
            if env_args is not None:
                data.attrs["env_args"] = json.dumps(env_args)
            for demo, steps in enumerate(lengths):
                group = data.create_group(f"demo_{demo}")
                group.attrs["num_samples"] = steps
                group["actions"] = numbers(demo, steps, 7)
                group["obs/robot0_eef_pos"] = numbers(demo, steps, 3)
                group[f"obs/{camera}"] = pictures(demo, steps)
            change(file)
        return path

    return write
