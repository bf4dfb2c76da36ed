"""Loader processes: the order is kept, errors arrive as they are, and nothing is waited for that does not come."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vla.core.errors import DatasetError
from vla.core.machine.spawned import WorkerDiedError
from vla.datasets.sampling.loader import iterate_steps


class Numbers(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Batches of ``size`` floats; the step ``bad`` does what ``act`` does."""

    def __init__(self, size: int = 4, bad: int = -1, act: Callable[[], None] | None = None) -> None:
        self.size, self.bad, self.act = size, bad, act

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        if step == self.bad and self.act is not None:
            self.act()
        return {"step": torch.full((self.size,), float(step))}


def damage() -> None:
    raise DatasetError("segment 3: checksum does not fit")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("loaders", [0, 2])
def test_the_order_is_kept(loaders: int) -> None:
    steps = iterate_steps(Numbers(), loaders)
    assert [float(next(steps)["step"][0]) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    steps.close()


def test_an_error_of_a_loader_process_arrives_as_it_is() -> None:
    steps = iterate_steps(Numbers(bad=1, act=damage), 1)
    next(steps)
    with pytest.raises(DatasetError) as raised:
        next(steps)
    assert str(raised.value) == "segment 3: checksum does not fit"


def test_a_loader_process_that_dies_is_named() -> None:
    steps = iterate_steps(Numbers(bad=1, act=die), 1)
    with pytest.raises(WorkerDiedError, match=r"a loader process died .*signal"):
        list(steps)


_SMALL = """
import sys
sys.path.insert(0, {folder!r})
from test_loader import Numbers
from vla.core.errors import VlaError
from vla.datasets.sampling.loader import iterate_steps
if __name__ == "__main__":
    steps = iterate_steps(Numbers(size=int(sys.argv[1])), 2)
    try:
        for _ in range(8):
            next(steps)
    except VlaError as error:
        print(error)
    steps.close()
"""


@pytest.mark.parametrize(("size", "fits"), [(50_000, True), (400_000, False)])
def test_small_shared_memory_is_enough_or_named(tmp_path: Path, size: int, fits: bool) -> None:
    (tmp_path / "main.py").write_text(_SMALL.format(folder=str(Path(__file__).parent)))
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=2m tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*small, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a /dev/shm of its own")
    command = [*small, sys.executable, str(tmp_path / "main.py"), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "" if fits else "/dev/shm, of which 2.1 MB are free: it needs 6.4 MB for 2" in done.stdout
