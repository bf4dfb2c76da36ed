"""Which device to compute on."""

import torch

from vla.core.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one; ``cpu``, ``cuda``, ``cuda:1`` are themselves, checked."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name!r}: expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name!r}: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu or auto"
        )
    return device
