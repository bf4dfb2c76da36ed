"""Devices by name: what this machine does not have is said before anything is built."""

import pytest
import torch

from vla.core.errors import ConfigError
from vla.models.device import choose_device


def test_names_are_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:x", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device='{name}': expected auto, cpu, cuda or cuda:N"):
        choose_device(name)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"device='cuda:99': this machine has \d+ CUDA devices; use cpu or auto"):
        choose_device("cuda:99")
