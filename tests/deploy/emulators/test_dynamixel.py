"""Emulated Dynamixel servos do what the manual says, asked by the vendor's SDK."""

from collections.abc import Callable

import pytest

from tests.deploy.emulators.wire import Bench
from vla.deploy.emulators.dynamixel import DynamixelBus
from vla.deploy.emulators.dynamixel_servo import DynamixelServo

sdk = pytest.importorskip("dynamixel_sdk", reason="needs the extra robot")
PACKETS = sdk.PacketHandler(2.0)
DELAY, DRIVE_MODE, MODE, OFFSET, TORQUE, LEVEL, ERROR, WATCHDOG, PROFILE, GOAL, POSITION = (
    9, 10, 11, 20, 64, 68, 70, 98, 112, 116, 132,
)  # fmt: skip
OK, FAILED, UNKNOWN, DAMAGED, RANGE, LENGTH, LIMIT, ACCESS = range(8)


@pytest.fixture
def bench() -> Bench:
    return Bench(DynamixelBus, DynamixelServo)


def write(bench: Bench, identifier: int, address: int, value: int, size: int = 1) -> int | None:
    """The error; None where nobody answered."""
    send = {1: PACKETS.write1ByteTxRx, 2: PACKETS.write2ByteTxRx, 4: PACKETS.write4ByteTxRx}[size]
    result, error = send(bench.wire, identifier, address, value)
    return error if result == sdk.COMM_SUCCESS else None


def read(bench: Bench, identifier: int, address: int, size: int = 1) -> int | None:
    ask = {1: PACKETS.read1ByteTxRx, 2: PACKETS.read2ByteTxRx, 4: PACKETS.read4ByteTxRx}[size]
    value, result, _ = ask(bench.wire, identifier, address)
    return value if result == sdk.COMM_SUCCESS else None


def test_who_is_there_answers(bench: Bench) -> None:
    assert PACKETS.ping(bench.wire, 2) == (1020, sdk.COMM_SUCCESS, 0)
    assert PACKETS.ping(bench.wire, 9)[1] == sdk.COMM_RX_TIMEOUT
    assert PACKETS.broadcastPing(bench.wire)[0] == {i: [1020, 46] for i in (1, 2, 3)}


@pytest.mark.parametrize(
    ("address", "size", "value", "error"),
    [
        (TORQUE, 1, 2, RANGE),
        (GOAL, 4, 4096, LIMIT),
        (GOAL, 4, -1, LIMIT),
        (GOAL, 4, 4095, OK),
        (102, 2, 1194, RANGE),
        (POSITION, 4, 0, ACCESS),
        (0, 2, 7, ACCESS),
        (GOAL, 2, 7, ACCESS),
        (300, 1, 7, ACCESS),
        (WATCHDOG, 1, 0xFF, RANGE),
        (DELAY, 1, 0, OK),
    ],
)
def test_what_cannot_be_written_is_refused(bench: Bench, address: int, size: int, value: int, error: int) -> None:
    before = read(bench, 1, address, size)
    assert write(bench, 1, address, value, size) == error
    assert read(bench, 1, address, size) == (value if error == OK else before)


def test_the_eeprom_is_locked_while_torque_is_on(bench: Bench) -> None:
    assert write(bench, 1, TORQUE, 1) == OK
    assert write(bench, 1, DELAY, 0) == ACCESS
    assert write(bench, 1, TORQUE, 0) == OK
    assert write(bench, 1, DELAY, 0) == OK


def test_a_goal_is_reached_on_time_and_evenly(bench: Bench) -> None:
    assert write(bench, 1, DRIVE_MODE, 4) == OK
    assert write(bench, 1, PROFILE, 500, 4) == OK
    assert write(bench, 1, TORQUE, 1) == OK
    assert write(bench, 1, GOAL, 2548, 4) == OK
    bench.pass_time(0.3)
    assert bench.servos[1].motor.target == pytest.approx(2048 + 300, abs=2)
    bench.pass_time(0.7)
    assert read(bench, 1, POSITION, 4) == pytest.approx(2548, abs=2)


def test_without_torque_nothing_moves(bench: Bench) -> None:
    assert write(bench, 1, GOAL, 2500, 4) == OK
    bench.pass_time(0.5)
    assert read(bench, 1, POSITION, 4) == pytest.approx(2048, abs=2)


def test_the_watchdog_stops_it_until_it_is_taken_back(bench: Bench) -> None:
    write(bench, 1, DRIVE_MODE, 4)
    write(bench, 1, PROFILE, 2000, 4)
    write(bench, 1, TORQUE, 1)
    write(bench, 1, WATCHDOG, 5)  # 100 ms
    write(bench, 1, GOAL, 3048, 4)
    bench.pass_time(0.09)
    assert read(bench, 1, WATCHDOG) == 5
    bench.pass_time(0.2)  # nothing is said meanwhile
    stopped = bench.servos[1].motor.position
    assert stopped < 2048 + 200
    bench.pass_time(1.0)
    assert bench.servos[1].motor.position == pytest.approx(stopped, abs=60)
    assert read(bench, 1, WATCHDOG) == 0xFF
    assert write(bench, 1, GOAL, 2048, 4) == RANGE
    assert write(bench, 1, 104, 1, 4) == RANGE
    assert write(bench, 1, WATCHDOG, 0) == OK
    assert write(bench, 1, GOAL, 2048, 4) == OK


@pytest.mark.parametrize("speak", [lambda b: PACKETS.ping(b.wire, 2), lambda b: PACKETS.ping(b.wire, 1)])
def test_any_instruction_keeps_the_watchdog_quiet(bench: Bench, speak: Callable) -> None:
    write(bench, 1, TORQUE, 1)
    write(bench, 1, WATCHDOG, 5)
    for _ in range(6):
        bench.pass_time(0.08)
        speak(bench)
    assert read(bench, 1, WATCHDOG) == 5


def test_the_watchdog_sleeps_without_torque(bench: Bench) -> None:
    write(bench, 1, WATCHDOG, 1)
    bench.pass_time(0.5)
    assert read(bench, 1, WATCHDOG) == 1


def test_one_that_is_overloaded_lets_go_until_it_is_restarted(bench: Bench) -> None:
    write(bench, 1, TORQUE, 1)
    bench.servos[1].overload()
    assert read(bench, 1, TORQUE) == 0
    assert PACKETS.ping(bench.wire, 1)[2] == sdk.ERRBIT_ALERT if hasattr(sdk, "ERRBIT_ALERT") else 0x80
    assert read(bench, 1, ERROR) == 0x20
    assert (write(bench, 1, TORQUE, 1) or 0) & 0x7F == FAILED
    PACKETS.reboot(bench.wire, 1)
    assert PACKETS.ping(bench.wire, 1)[1] == sdk.COMM_RX_TIMEOUT  # it boots
    bench.pass_time(0.4)
    assert read(bench, 1, ERROR) == 0
    assert write(bench, 1, TORQUE, 1) == OK


def test_heat_switches_it_off_at_its_limit(bench: Bench) -> None:
    write(bench, 1, TORQUE, 1)
    bench.servos[1].motor.heating_c_s = 40.0
    bench.pass_time(1.0)
    assert read(bench, 1, TORQUE) == 1
    bench.pass_time(0.5)
    assert (read(bench, 1, ERROR), read(bench, 1, TORQUE)) == (0x04, 0)
    assert (read(bench, 1, 146) or 0) >= 80


def test_a_restart_forgets_what_is_not_kept(bench: Bench) -> None:
    write(bench, 1, DELAY, 3)
    write(bench, 1, PROFILE, 77, 4)
    write(bench, 1, TORQUE, 1)
    bench.servos[1].restart()
    bench.pass_time(0.4)
    assert (read(bench, 1, DELAY), read(bench, 1, PROFILE, 4), read(bench, 1, TORQUE)) == (3, 0, 0)
    assert read(bench, 1, GOAL, 4) == pytest.approx(2048, abs=2)


def group_read(bench: Bench, *identifiers: int) -> sdk.GroupSyncRead:
    group = sdk.GroupSyncRead(bench.wire, PACKETS, 126, 10)
    for identifier in identifiers:
        group.addParam(identifier)
    return group


def test_all_are_read_at_once(bench: Bench) -> None:
    for ask in (group := group_read(bench, 3, 1, 2)).txRxPacket, group.fastSyncRead:
        assert ask() == sdk.COMM_SUCCESS
        assert [group.getData(i, POSITION, 4) for i in (1, 2, 3)] == pytest.approx([2048] * 3, abs=2)


def test_behind_one_that_is_silent_nobody_answers(bench: Bench) -> None:
    bench.servos[2].wiring.silent = True
    assert group_read(bench, 1, 2, 3).fastSyncRead() != sdk.COMM_SUCCESS
    group = group_read(bench, 1, 2, 3)
    assert group.txRxPacket() == sdk.COMM_RX_TIMEOUT
    assert (len(group.data_dict[1]), len(group.data_dict[2]), len(group.data_dict[3])) == (10, 0, 0)
    assert len(bench.bus.hear(bench.wire.sent, bench.baud)) == 1


def test_all_are_told_at_once_and_what_is_refused_is_counted(bench: Bench) -> None:
    writer = sdk.GroupSyncWrite(bench.wire, PACKETS, GOAL, 4)
    for identifier, goal in ((1, 2000), (2, 2100), (3, 5000)):
        writer.addParam(identifier, list(goal.to_bytes(4, "little")))
    assert writer.txPacket() == sdk.COMM_SUCCESS
    assert [read(bench, i, GOAL, 4) for i in (1, 2)] == [2000, 2100]
    assert read(bench, 3, GOAL, 4) == pytest.approx(2048, abs=2)
    assert bench.bus.counts["refused"] == 1


def test_several_registers_of_several_servos(bench: Bench) -> None:
    writer = sdk.GroupBulkWrite(bench.wire, PACKETS)
    writer.addParam(1, GOAL, 4, list((2222).to_bytes(4, "little")))
    writer.addParam(2, TORQUE, 1, [1])
    assert writer.txPacket() == sdk.COMM_SUCCESS
    reader = sdk.GroupBulkRead(bench.wire, PACKETS)
    reader.addParam(1, GOAL, 4)
    reader.addParam(2, TORQUE, 1)
    for ask in (reader.txRxPacket, reader.fastBulkRead):
        assert ask() == sdk.COMM_SUCCESS
        assert (reader.getData(1, GOAL, 4), reader.getData(2, TORQUE, 1)) == (2222, 1)


def test_a_write_can_wait_for_the_action(bench: Bench) -> None:
    assert PACKETS.regWriteTxRx(bench.wire, 1, TORQUE, 1, [1]) == (sdk.COMM_SUCCESS, OK)
    assert (read(bench, 1, TORQUE), read(bench, 1, 69)) == (0, 1)
    PACKETS.action(bench.wire, sdk.BROADCAST_ID)
    assert (read(bench, 1, TORQUE), read(bench, 1, 69)) == (1, 0)


def test_it_answers_as_much_as_it_is_told_to(bench: Bench) -> None:
    assert write(bench, 1, LEVEL, 1) == OK
    assert write(bench, 1, TORQUE, 1) is None
    assert read(bench, 1, TORQUE) == 1
    assert write(bench, 1, LEVEL, 0) is None
    assert read(bench, 1, TORQUE) is None
    assert PACKETS.ping(bench.wire, 1)[1] == sdk.COMM_SUCCESS


def test_unknown_and_damaged_instructions_are_said_to_be(bench: Bench) -> None:
    from vla.deploy.emulators.dynamixel_frames import new_frames, pack

    damaged = pack(1, 0x01)[:-1] + b"\x00"
    for sent, error in ((pack(1, 0x77), UNKNOWN), (damaged, DAMAGED), (pack(1, 0x02, b"\0"), LENGTH)):
        (reply,) = bench.bus.hear(sent, bench.baud)
        (frame,) = new_frames().feed(reply.data)
        assert frame.parameters[0] == error


def test_one_of_another_speed_hears_nothing(bench: Bench) -> None:
    assert write(bench, 1, 8, 1) == OK  # 57600 from now on
    assert PACKETS.ping(bench.wire, 1)[1] == sdk.COMM_RX_TIMEOUT
    bench.baud = 57600
    assert PACKETS.ping(bench.wire, 1)[1] == sdk.COMM_SUCCESS


def test_the_homing_offset_moves_what_is_shown(bench: Bench) -> None:
    assert write(bench, 1, OFFSET, 100, 4) == OK
    assert read(bench, 1, POSITION, 4) == pytest.approx(2148, abs=2)
    write(bench, 1, TORQUE, 1)
    write(bench, 1, GOAL, 2148, 4)
    bench.pass_time(0.3)
    assert bench.servos[1].motor.position == pytest.approx(2048, abs=3)


def test_its_settings_can_be_forgotten(bench: Bench) -> None:
    write(bench, 2, DELAY, 3)
    assert PACKETS.factoryReset(bench.wire, 2, 7) == (sdk.COMM_SUCCESS, FAILED)
    assert PACKETS.factoryReset(bench.wire, 2, 2) == (sdk.COMM_SUCCESS, OK)
    bench.pass_time(0.4)
    assert read(bench, 2, DELAY) == 250
