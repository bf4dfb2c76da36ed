"""An emulator in its own process, met through the vendors' unmodified SDKs on its pseudo-terminal."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vla.core.errors import ConfigError, RobotError
from vla.deploy.emulators.build import EmulatorConfig
from vla.deploy.emulators.process import EmulatorProcess

sdk = pytest.importorskip("dynamixel_sdk", reason="needs the extra robot")
PACKETS = sdk.PacketHandler(2.0)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    link = tmp_path_factory.mktemp("line") / "ttyARM"
    emulator = EmulatorProcess(EmulatorConfig(protocol="dynamixel", servos=3, link=link))
    yield emulator
    emulator.close()


@pytest.fixture
def port(emulator: EmulatorProcess) -> Iterator[Any]:
    port = sdk.PortHandler(emulator.device)
    assert port.openPort()
    yield port
    port.closePort()
    emulator.control.clear()


def answers(port: Any, identifier: int) -> bool:
    return any(PACKETS.ping(port, identifier)[1] == sdk.COMM_SUCCESS for _ in range(3))


def test_the_sdk_finds_it_by_its_link(emulator: EmulatorProcess, port: Any) -> None:
    assert Path(emulator.device).is_symlink()
    assert answers(port, 2)


def test_an_answer_takes_the_time_of_its_bytes_and_the_delay(port: Any) -> None:
    """At 57600 baud 400 bytes take 69 ms; 9600 baud are not even heard."""
    for identifier in (1, 2, 3):
        PACKETS.write1ByteTxRx(port, identifier, 9, 250)
        PACKETS.write1ByteTxRx(port, identifier, 8, 1)
    port.setBaudRate(57600)
    try:
        began = time.monotonic()
        data, result, _ = PACKETS.readTxRx(port, 1, 0, 146)
        took = time.monotonic() - began
        assert (result, len(data)) == (sdk.COMM_SUCCESS, 146)
        assert took >= (14 + 146 + 11) * 10 / 57600 + 500e-6
        port.setBaudRate(9600)
        assert PACKETS.ping(port, 1)[1] == sdk.COMM_RX_TIMEOUT
    finally:
        port.setBaudRate(57600)
        for identifier in (1, 2, 3):
            PACKETS.write1ByteTxRx(port, identifier, 8, 3)
        port.setBaudRate(1_000_000)
    assert answers(port, 1)


def test_servos_move_in_real_time(port: Any) -> None:
    for address, value in ((64, 0), (10, 4), (64, 1)):
        PACKETS.write1ByteTxRx(port, 2, address, value)
    PACKETS.write4ByteTxRx(port, 2, 112, 400)
    start = PACKETS.read4ByteTxRx(port, 2, 132)[0]
    PACKETS.write4ByteTxRx(port, 2, 116, start + 400)
    time.sleep(1.0)
    assert PACKETS.read4ByteTxRx(port, 2, 132)[0] == pytest.approx(start + 400, abs=10)


def test_a_silent_servo_is_told_from_the_others(emulator: EmulatorProcess, port: Any) -> None:
    emulator.control.fault("silent:2")
    assert not answers(port, 2)
    assert answers(port, 3)
    emulator.control.clear()
    assert answers(port, 2)


def test_a_slow_answer_is_late_by_that(emulator: EmulatorProcess, port: Any) -> None:
    emulator.control.fault("slow:3=15ms")
    began = time.monotonic()
    assert PACKETS.ping(port, 3)[1] == sdk.COMM_SUCCESS
    assert time.monotonic() - began >= 0.015


@pytest.mark.parametrize(("fault", "count"), [("drop=0.2", "bytes lost"), ("corrupt=0.2", "bytes harmed")])
def test_bytes_are_lost_or_harmed(emulator: EmulatorProcess, port: Any, fault: str, count: str) -> None:
    emulator.control.fault(fault)
    results = [PACKETS.readTxRx(port, 1, 64, 60)[1] for _ in range(6)]
    assert sdk.COMM_SUCCESS not in results
    assert emulator.control.status()["counts"][count] > 0


def test_one_that_is_unplugged_is_gone_and_comes_back(emulator: EmulatorProcess, port: Any) -> None:
    emulator.control.fault("unplug+0.3s")
    time.sleep(0.1)
    with pytest.raises(Exception, match=r"."):
        PACKETS.ping(port, 1)
    port.is_using = False
    assert not Path(emulator.device).exists()
    deadline = time.monotonic() + 10
    while not Path(emulator.device).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = sdk.PortHandler(emulator.device)
    assert again.openPort()
    assert answers(again, 1)
    again.closePort()


def test_what_cannot_be_asked_is_answered_with_what_can(emulator: EmulatorProcess) -> None:
    with pytest.raises(RobotError, match="unknown fault 'burn'"):
        emulator.control.fault("burn:1")
    with pytest.raises(RobotError, match="begin with a seed"):
        emulator.control.begin(-1)
    assert emulator.control.status()["success"] is False


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "dynamixle"}, "did you mean 'dynamixel'"),
        ({"servos": 0}, "servos=0"),
        ({"baud": 1234}, "baud=1234"),
        ({"faults": ("silent:7",)}, "no servo has this id"),
        ({"env": "metaworld/reach"}, "tabletop environments only"),
        ({"env": "tabletop/place", "description": "so101"}, "not those of tabletop-panda"),
    ],
)
def test_what_cannot_be_emulated_is_said(settings: dict[str, Any], message: str) -> None:
    """In this process: it is the same function that the child calls."""
    from vla.deploy.emulators.process import running

    with (
        pytest.raises(Exception, match=message),
        running(EmulatorConfig(**{"protocol": "dynamixel", **settings}), None),
    ):
        pass


def test_a_file_is_not_taken_for_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    with pytest.raises(ConfigError, match="is a file already"):
        EmulatorProcess(EmulatorConfig(protocol="dynamixel", link=tmp_path / "precious"))
    assert (tmp_path / "precious").read_text() == "keep me"


def test_it_ends_with_its_program(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = tmp_path / "forgets.py"
    script.write_text(
        "from vla.deploy.emulators.build import EmulatorConfig\n"
        "from vla.deploy.emulators.process import EmulatorProcess\n"
        'if __name__ == "__main__":\n'
        '    emulator = EmulatorProcess(EmulatorConfig(protocol="dynamixel", servos=1))\n'
        "    print(emulator._process.pid)\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
