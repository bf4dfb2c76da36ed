"""Servers to measure, each in a process of its own: ours as it is started by hand, and two of a few lines."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

from vla.bench.serving.policies import CHUNK, cost_s
from vla.core.machine.processes import end_with_parent
from vla.core.machine.spawned import spawn
from vla.deploy.wire import pack, unpack

_READY_S = 120.0
UNPACED = ("--limits.requests-per-s", "1e6", "--limits.bytes-per-s", "1e12", "--limits.frames-per-s", "1e9")
"""Options of ``vla serve`` for clients that send without a pause."""


@contextlib.contextmanager
def vla_serve(policy: str, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """``vla serve vla.bench.serving.policies:POLICY``, or ``module:POLICY``: its address and its process."""
    with tempfile.TemporaryDirectory() as folder:
        ready, log = Path(folder) / "ready.json", Path(folder) / "log.txt"
        name = policy if ":" in policy else f"vla.bench.serving.policies:{policy}"
        command = [sys.executable, "-m", "vla.cli.main", "serve", name, "--port", "0", "--json", str(ready), *options]
        variables = {**os.environ, **(environment or {})}
        with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said, env=variables) as process:
            try:
                deadline = time.monotonic() + _READY_S
                while not ready.exists():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"the server was never ready: {log.read_text()[-2000:]}")
                    time.sleep(0.02)
                yield json.loads(ready.read_text())["address"], process.pid
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextlib.contextmanager
def blocking_server(*, works: bool) -> Iterator[str]:
    """A plain websockets server that infers on its event loop, as openpi's does: at no cost, or at `Working`'s."""
    process, pipe = spawn(_serve_blocking, works)
    try:
        yield pipe.recv()
    finally:
        process.kill()
        process.join()
        pipe.close()


def _serve_blocking(pipe: Connection, works: bool) -> None:
    end_with_parent()
    answer = {"actions": CHUNK, "policy_timing": {"infer_ms": 0.0}, "server_timing": {"infer_ms": 0.0}}

    async def talk(connection: ServerConnection) -> None:
        await connection.send(pack({}))
        async for frame in connection:
            assert isinstance(frame, bytes)
            unpack(frame)
            if works:
                time.sleep(cost_s(1))
            await connection.send(pack(answer))

    async def main() -> None:
        async with serve(talk, "127.0.0.1", 0, compression=None, max_size=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            pipe.send(f"ws://127.0.0.1:{port}")
            await server.wait_closed()

    asyncio.run(main())


def held_by(pid: int) -> dict[str, int]:
    """Open descriptors, threads and resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "bytes": pages * os.sysconf("SC_PAGE_SIZE"),
    }


def children_of(pid: int) -> list[int]:
    """The processes that a process has begun."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text().split()]


def metric(address: str, name: str) -> float:
    """What a server counts under this name, all labels together; NaN where it knows no such count."""
    with urllib.request.urlopen(address.replace("ws://", "http://") + "/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    if not any(line.startswith(f"# TYPE {name} ") for line in lines):
        return float("nan")
    found = (line.rpartition(" ")[2] for line in lines if line.startswith((f"{name} ", f"{name}{{")))
    return sum(map(float, found), 0.0)
