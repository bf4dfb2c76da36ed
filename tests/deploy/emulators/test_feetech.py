"""Emulated Feetech servos do what the memory table says, asked by the vendor's SDK."""

from typing import Any

import pytest

from tests.deploy.emulators.wire import Bench
from vla.deploy.emulators.feetech import FeetechBus
from vla.deploy.emulators.feetech_servo import FeetechServo

sdk = pytest.importorskip("scservo_sdk", reason="needs the extra robot")
DELAY, LIMITS, OFFSET, TORQUE, GOAL, LOCK, POSITION, STATUS = 7, 9, 31, 40, 42, 55, 56, 65


@pytest.fixture
def bench() -> Bench:
    return Bench(FeetechBus, FeetechServo)


@pytest.fixture
def packets(bench: Bench) -> Any:
    return sdk.sms_sts(bench.wire)


def test_who_is_there_answers(packets: Any) -> None:
    assert packets.ping(2) == (777, sdk.COMM_SUCCESS, 0)
    assert packets.ping(9)[1] == sdk.COMM_RX_TIMEOUT


def test_a_goal_is_reached_at_the_speed_that_is_said(bench: Bench, packets: Any) -> None:
    packets.write1ByteTxRx(1, TORQUE, 1)
    assert packets.WritePosEx(1, 2548, 1000, 0) == (sdk.COMM_SUCCESS, 0)
    bench.pass_time(0.3)
    assert bench.servos[1].motor.target == pytest.approx(2048 + 300, abs=4)
    bench.pass_time(0.7)
    assert packets.ReadPos(1)[0] == pytest.approx(2548, abs=2)


def test_a_goal_beyond_the_limits_is_brought_inside(bench: Bench, packets: Any) -> None:
    packets.write1ByteTxRx(1, LOCK, 0)
    packets.write2ByteTxRx(1, LIMITS, 1900)
    packets.write1ByteTxRx(1, TORQUE, 1)
    packets.WritePosEx(1, 100, 0, 0)
    bench.pass_time(0.8)
    assert packets.ReadPos(1)[0] == pytest.approx(1900, abs=2)


def test_without_torque_nothing_moves(bench: Bench, packets: Any) -> None:
    packets.WritePosEx(1, 2500, 0, 0)
    bench.pass_time(0.5)
    assert packets.ReadPos(1)[0] == pytest.approx(2048, abs=2)


def test_what_was_written_behind_the_lock_is_lost_with_the_power(bench: Bench, packets: Any) -> None:
    packets.write1ByteTxRx(1, DELAY, 7)
    packets.write1ByteTxRx(2, LOCK, 0)
    packets.write1ByteTxRx(2, DELAY, 7)
    assert [packets.read1ByteTxRx(i, DELAY)[0] for i in (1, 2)] == [7, 7]
    for servo in bench.servos.values():
        servo.restart()
    assert packets.ping(1)[1] == sdk.COMM_RX_TIMEOUT  # it boots
    bench.pass_time(0.4)
    assert [packets.read1ByteTxRx(i, DELAY)[0] for i in (1, 2)] == [250, 7]


def test_all_are_read_at_once_and_one_that_is_silent_is_passed_over(bench: Bench, packets: Any) -> None:
    bench.servos[2].wiring.silent = True
    group = sdk.GroupSyncRead(packets, POSITION, 2)
    for identifier in (1, 2, 3):
        group.addParam(identifier)
    group.txRxPacket()
    there = [group.isAvailable(i, POSITION, 2)[0] for i in (1, 2, 3)]
    assert there == [True, False, True]
    assert group.getData(3, POSITION, 2) == pytest.approx(2048, abs=2)


def test_all_are_told_at_once(bench: Bench, packets: Any) -> None:
    for identifier in (1, 2, 3):
        packets.write1ByteTxRx(identifier, TORQUE, 1)
        packets.SyncWritePosEx(identifier, 2048 + 50 * identifier, 0, 0)
    packets.groupSyncWrite.txPacket()
    bench.pass_time(0.6)
    assert bench.positions() == pytest.approx([2098, 2148, 2198], abs=3)


def test_a_write_can_wait_for_the_action(bench: Bench, packets: Any) -> None:
    packets.write1ByteTxRx(1, TORQUE, 1)
    packets.RegWritePosEx(1, 2200, 0, 0)
    bench.pass_time(0.3)
    assert packets.ReadPos(1)[0] == pytest.approx(2048, abs=2)
    packets.RegAction()
    bench.pass_time(0.6)
    assert packets.ReadPos(1)[0] == pytest.approx(2200, abs=2)


def test_one_that_is_overloaded_holds_weakly_and_says_so(bench: Bench, packets: Any) -> None:
    packets.write1ByteTxRx(1, TORQUE, 1)
    bench.servos[1].overload()
    _, _, error = packets.read1ByteTxRx(1, STATUS)
    assert error == 0x20
    assert bench.servos[1].motor.share == pytest.approx(0.2)
    packets.write1ByteTxRx(1, TORQUE, 0)
    packets.write1ByteTxRx(1, TORQUE, 1)
    assert bench.servos[1].motor.share == 1.0
    assert packets.read1ByteTxRx(1, STATUS)[2] == 0


def test_heat_switches_it_off_at_its_limit(bench: Bench, packets: Any) -> None:
    packets.write1ByteTxRx(1, TORQUE, 1)
    bench.servos[1].motor.heating_c_s = 60.0
    bench.pass_time(1.0)
    assert packets.read1ByteTxRx(1, TORQUE) == (0, sdk.COMM_SUCCESS, 0x04)


def test_the_middle_can_be_set(bench: Bench, packets: Any) -> None:
    packets.write1ByteTxRx(1, TORQUE, 1)
    packets.WritePosEx(1, 2300, 0, 0)
    bench.pass_time(0.6)
    packets.write1ByteTxRx(1, TORQUE, 128)
    assert packets.ReadPos(1)[0] == pytest.approx(2048, abs=2)
    offset = packets.read2ByteTxRx(1, OFFSET)[0]
    assert offset == pytest.approx(252, abs=2)


def test_damaged_frames_are_not_answered(bench: Bench) -> None:
    from vla.deploy.emulators.feetech_frames import pack

    assert bench.bus.hear(pack(1, 0x01)[:-1] + b"\x00", bench.baud) == []
    assert bench.bus.counts["damaged"] == 1
    assert bench.bus.hear(pack(1, 0x01), 500_000) == []
