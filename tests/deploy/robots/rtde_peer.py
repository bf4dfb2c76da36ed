"""A controller's side of RTDE v2, of the dashboard and of the port for scripts, with an arm behind it.

It is strict: what is no variable is not found, an input belongs to one client, and what is wrong is noted. It does not
interpret URScript: it does with the input registers what the program of ur_rtde would, if that was loaded and has the
lines that this rests on. The ports are fixed, so each peer has an address of its own in 127.0.0.0/8.
"""

import asyncio
import itertools
import math
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

RTDE, SCRIPTS, DASHBOARD = 30004, 30003, 29999
HOME = (0.0, -1.6, 1.6, -1.6, -1.6, 0.1)
SPEED, STEP_S = math.pi, 0.004
"""The fastest of the joints in rad/s, and how often they move."""
RELIES_ON = (
    r"def rtde_control\(\):",
    r"servoj\(q, t=dt, lookahead_time=lh_time, gain=g\)",
    r"servo_target = q\n",
    r"elif cmd == 16:\n\s+textmsg\(\"servo_stop\"\)",
    r"elif cmd == 35:\n\s+textmsg\(\"set_watchdog\"\)",
    r'rtde_set_watchdog\("input_int_register_0", watchdog_min_frequency, "stop"\)',
    r"elif cmd == 255:\n\s+textmsg\(\"Received stop script!\"\)",
    r"if cmd == 24 or cmd == 11 or",
)
"""Of the program, as patterns."""
NO_COMMAND, SERVOJ, SERVO_STOP, SET_WATCHDOG, STOP_SCRIPT = 0, 11, 16, 35, 255
READY, DONE = 1, 2
_FORMATS = {"DOUBLE": "d", "INT32": "i", "UINT32": "I", "VECTOR6D": "6d"}
_OUTPUTS = {
    "timestamp": "DOUBLE",
    "actual_q": "VECTOR6D",
    "robot_mode": "INT32",
    "safety_mode": "INT32",
    "runtime_state": "UINT32",
    "robot_status_bits": "UINT32",
    "safety_status_bits": "UINT32",
    **{f"output_int_register_{i}": "INT32" for i in range(48)},
    **{f"output_double_register_{i}": "DOUBLE" for i in range(48)},
}
_INPUTS = {
    **{f"input_int_register_{i}": "INT32" for i in range(48)},
    **{f"input_double_register_{i}": "DOUBLE" for i in range(48)},
}
_addresses = itertools.count(1)


class Peer:
    """Begins at once, powered, in remote control and with no program; `close` ends it."""

    def __init__(self) -> None:
        self.host = f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}.{next(_addresses)}"
        self.q, self.target, self.servoing = list(HOME), list(HOME), False
        self.mode, self.safety, self.runtime = 7, 1, 1
        self.servoed: list[tuple[float, ...]] = []
        """Targets, each with time, lookahead and gain."""
        self.complaints: list[str] = []
        self.heard: list[str] = []
        """Commands of the program and of the dashboard that were carried out."""
        self.programs = 0
        self.remote = True
        self.claimed: set[str] = set()
        """Inputs that somebody else writes."""
        self.silent = threading.Event()
        """Nothing is told, though the connections stay."""
        self.watchdog_s: float | None = None
        self.hz: float | None = None
        self._registers: dict[str, float] = {}
        self._signed_s, self._executing, self._state = 0.0, False, 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._commanding: set[asyncio.StreamWriter] = set()
        self._told: dict[asyncio.StreamWriter, tuple[tuple[str, ...], float, float]] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="rtde-peer")
        self._thread.start()
        assert self._ready.wait(10)

    def protective_stop(self) -> None:
        self.runtime, self.safety = 4, 3

    def emergency_stop(self) -> None:
        self.runtime, self.safety, self.mode = 1, 7, 3

    def stop_program(self) -> None:
        self.runtime, self.servoing, self.watchdog_s, self._state = 1, False, None, 0

    def cut(self, *, reset: bool, commands_alone: bool = False) -> None:
        """End every connection, or that of the commands, in order or without; it goes on listening."""

        def end() -> None:
            for writer in list(self._commanding if commands_alone else self._writers):
                if reset:
                    raw: socket.socket = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort() if reset else writer.close()

        self._loop.call_soon_threadsafe(end)

    @property
    def connections(self) -> int:
        return len(self._writers)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        works = {RTDE: self._rtde, SCRIPTS: self._scripts, DASHBOARD: self._dashboard}
        servers = [await asyncio.start_server(self._client(work), self.host, port) for port, work in works.items()]
        live = asyncio.create_task(self._live())
        self._ready.set()
        await self._over.wait()
        live.cancel()
        for server in servers:
            server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0.01)

    def _client(self, work: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Any:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            try:
                await work(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.transport.abort()
                self._told.pop(writer, None)
                self._commanding.discard(writer)
                self._writers.discard(writer)

        return run

    async def _rtde(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipes: list[tuple[str, ...]] = []
        outputs: tuple[tuple[str, ...], float] | None = None
        while True:
            size, kind = struct.unpack(">HB", await reader.readexactly(3))
            body, answer = await reader.readexactly(size - 3), b""
            match chr(kind):
                case "V":
                    answer = bytes([body == b"\0\2"])
                case "v":
                    answer = struct.pack(">4I", 5, 12, 2, 1101534)
                case "O":
                    names, (hz,) = _names(body[8:]), struct.unpack_from(">d", body)
                    answer = _types(names, _OUTPUTS, set(), 1)
                    outputs, self.hz = (names, hz), hz
                case "I":
                    self._commanding.add(writer)
                    recipes.append(_names(body))
                    answer = _types(recipes[-1], _INPUTS, self.claimed, len(recipes))
                    self.complaints += [f"RTDE: no input {name}" for name in recipes[-1] if name not in _INPUTS]
                case "S":
                    answer = bytes([outputs is not None])
                    if outputs is not None:
                        self._told[writer] = (outputs[0], 1 / outputs[1], 0.0)
                case "P":
                    answer = b"\1"
                    self._told.pop(writer, None)
                case "U":
                    self._take(recipes, body)
                    continue
                case other:
                    self.complaints.append(f"RTDE: {other}")
            if not self.silent.is_set():
                writer.write(struct.pack(">HB", 3 + len(answer), kind) + answer)

    def _take(self, recipes: Sequence[tuple[str, ...]], body: bytes) -> None:
        """Set input registers."""
        if not 1 <= body[0] <= len(recipes):
            self.complaints.append(f"RTDE: no recipe {body[0]}")
            return
        names = recipes[body[0] - 1]
        values = struct.unpack(">" + "".join(_FORMATS[_INPUTS[name]] for name in names), body[1:])
        self._registers.update(zip(names, values, strict=True))
        if "input_int_register_0" in names:
            self._signed_s = time.monotonic()
            if self.runtime == 2:
                self._execute(int(self._registers["input_int_register_0"]))

    def _execute(self, command: int) -> None:
        """What the main loop of the program does with a command."""
        doubles = [self._registers.get(f"input_double_register_{i}", 0.0) for i in range(11)]
        if command == NO_COMMAND:
            self._executing, self._state = False, READY
        elif command == SERVOJ:
            self.target, self.servoing, self._state = doubles[:6], True, READY
            self.servoed.append((*doubles[:6], *doubles[8:11]))
        elif not self._executing:
            self._executing, self._state = True, DONE
            if command == SERVO_STOP:
                self.servoing = False
            elif command == SET_WATCHDOG:
                self.watchdog_s = 1 / doubles[0]
            elif command == STOP_SCRIPT:
                self.stop_program()
            else:
                self.complaints.append(f"program: command {command}")
            names = {SERVO_STOP: "servo_stop", SET_WATCHDOG: "set_watchdog", STOP_SCRIPT: "stop_script"}
            self.heard.append(names.get(command, str(command)))

    async def _scripts(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = b""
        while part := await reader.read(1 << 16):
            text += part
            if not text.rstrip().endswith(b"\nend"):
                continue
            program, text = text.decode(), b""
            self.complaints += [f"program: no {line}" for line in RELIES_ON if not re.search(line, program)]
            if self.mode == 7 and self.safety == 1 and self.remote:
                self.stop_program()
                self.runtime, self._executing, self._state = 2, False, READY
                self.programs += 1

    async def _dashboard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Connected: Universal Robots Dashboard Server\n")
        while line := await reader.readline():
            match line.strip().decode().lower():
                case "polyscopeversion":
                    answer = "URSoftware 5.12.2.1101534 (Jul 06 2022)"
                case "get serial number":
                    answer = "20225500001"
                case "is in remote control":
                    answer = str(self.remote).lower()
                case "stop":
                    self.stop_program()
                    answer = "Stopped"
                case other:
                    self.complaints.append(f"dashboard: {other}")
                    answer = f"could not understand: {other}"
            if not self.silent.is_set():
                writer.write(f"{answer}\n".encode())

    async def _live(self) -> None:
        """Move, see whether there are signs, and tell."""
        began_s = before_s = time.monotonic()
        while True:
            await asyncio.sleep(STEP_S)
            now_s = time.monotonic()
            if self.runtime == 2 and self.watchdog_s is not None and now_s > self._signed_s + self.watchdog_s:
                self.stop_program()
                self.heard.append("watchdog")
            if self.runtime == 2 and self.servoing:
                self._move(now_s - before_s)
            before_s = now_s
            if not self.silent.is_set():
                self._tell(now_s, now_s - began_s)

    def _move(self, dt: float) -> None:
        """As ``servoj`` does: a share of the way, and no faster than the joints are."""
        share = 1 - math.exp(-dt / 0.05)
        ways = [(goal - at) * share for goal, at in zip(self.target, self.q, strict=True)]
        self.q = [at + max(-SPEED * dt, min(SPEED * dt, way)) for at, way in zip(self.q, ways, strict=True)]

    def _tell(self, now_s: float, stamp_s: float) -> None:
        known: dict[str, Any] = {
            "timestamp": stamp_s,
            "actual_q": self.q,
            "robot_mode": self.mode,
            "safety_mode": self.safety,
            "runtime_state": self.runtime,
            "robot_status_bits": 1 | (self.runtime == 2) << 1,
            "safety_status_bits": {1: 0b1, 2: 0b10, 3: 0b100}.get(self.safety, 0b11000000),
            "output_int_register_0": self._state,
        }
        for writer, (names, period_s, due_s) in list(self._told.items()):
            if now_s < due_s:
                continue
            self._told[writer] = (names, period_s, max(due_s + period_s, now_s))
            values = [known.get(name, 0) for name in names]
            flat = [x for value in values for x in (value if isinstance(value, list) else [value])]
            body = struct.pack(">B" + "".join(_FORMATS[_OUTPUTS[name]] for name in names), 1, *flat)
            with suppress(ConnectionError):
                writer.write(struct.pack(">HB", 3 + len(body), ord("U")) + body)


def _names(text: bytes) -> tuple[str, ...]:
    return tuple(name for name in text.decode().split(",") if name)


def _types(names: Sequence[str], known: dict[str, str], claimed: set[str], recipe: int) -> bytes:
    """The answer to a recipe; one that cannot be had is number 0."""
    types = ["IN_USE" if name in claimed else known.get(name, "NOT_FOUND") for name in names]
    valid = all(kind in _FORMATS for kind in types)
    return bytes([recipe if valid else 0]) + ",".join(types).encode()
