"""What the vendor's SDK makes of a disturbed line does not become a position, nor an error of another kind."""

import os
import threading
import tty

import pytest

from vla.deploy.emulators.dynamixel_frames import status
from vla.deploy.servos.dynamixel import DynamixelBus

pytest.importorskip("dynamixel_sdk", reason="needs the extra robot")


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("data", [b"", bytes(4), bytes(10), bytes(83)])
def test_a_late_answer_of_another_is_not_taken_for_this_one(fast: bool, data: bytes) -> None:
    """The SDK (4.1.0) raises an IndexError where a status of one servo comes in the place of a fast one."""
    master, slave = os.openpty()
    tty.setraw(slave)
    bus = DynamixelBus(os.ttyname(slave), fast=fast)

    def answer() -> None:
        os.read(master, 100)
        os.write(master, status(3, 0, data))

    other = threading.Thread(target=answer)
    other.start()
    assert bus.positions([1, 2]) == {}
    other.join()
    bus.close()
    os.close(master)
    os.close(slave)
