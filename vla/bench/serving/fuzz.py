"""``vla bench fuzz``: hostile clients at ``vla serve``, and what becomes of it and of a good client meanwhile."""

import time
from contextlib import ExitStack

import numpy as np

from vla.bench.measure import Note, Row
from vla.bench.serving.attackers import attack
from vla.bench.serving.policies import request
from vla.bench.serving.servers import UNPACED, held_by, metric, vla_serve
from vla.bench.settings import FuzzConfig
from vla.core.errors import ServeError
from vla.core.machine.spawned import spawn
from vla.deploy.client import PolicyClient

_IDLE_S = 3.0
_LEAK_MB = 16.0
"""What allocators keep for themselves after so many messages."""


def bench_fuzz(config: FuzzConfig, note: Note) -> list[Row]:
    """A flood without limits on its rate, and then every attack at the limits that are the default."""
    return [*_flood(config, note), *_neighbours(config, note)]


def _flood(config: FuzzConfig, note: Note) -> list[Row]:
    """As many messages as fast as they go: whether it falls, and whether it leaks."""
    with vla_serve("Still", *UNPACED) as (address, pid):
        each = -(-config.frames // config.clients)
        _hostile(address, config.seed + 1000, config.clients, max(1, each // 10))  # allocators are warm
        before = held_by(pid)
        note(f"{each * config.clients} hostile messages of {config.clients} clients")
        began = time.perf_counter()
        sent = _hostile(address, config.seed, config.clients, each)
        took = time.perf_counter() - began
        time.sleep(1.0)
        after = held_by(pid)
        with PolicyClient(address) as client:
            client.infer(request())
        restarts = metric(address, "vla_policy_restarts_total")
    return [
        Row(name="hostile messages", value=sent / took, unit="messages/s"),
        Row(name="hostile messages sent, of those to be sent", value=sent / (each * config.clients), unit="share"),
        Row(name="policies that had to be begun anew", value=restarts, unit="", bar=0.0),
        Row(name="descriptors left open", value=float(after["descriptors"] - before["descriptors"]), unit="", bar=0.0),
        Row(name="memory kept", value=(after["bytes"] - before["bytes"]) / 1e6, unit="MB", bar=_LEAK_MB),
    ]


def _hostile(address: str, seed: int, clients: int, each: int) -> int:
    process, pipe = spawn(attack, address, seed, clients, each)
    try:
        return sum(pipe.recv().values())
    finally:
        process.kill()
        process.join()
        pipe.close()


def _neighbours(config: FuzzConfig, note: Note) -> list[Row]:
    """A good client at its own rate, alone and among all attacks; and a newcomer when idle ones hold all places."""
    with vla_serve("Still", "--limits.idle-s", str(_IDLE_S), "--limits.clients", "16") as (address, pid):
        with PolicyClient(address) as client:
            note(f"a good client alone, {config.seconds:g} s")
            alone = _at_rate(client, config.hz, config.seconds)
            note(f"and among hostile ones, {config.seconds:g} s")
            process, pipe = spawn(attack, address, config.seed, min(config.clients, 4), None)
            try:
                time.sleep(1.0)
                among = _at_rate(client, config.hz, config.seconds)
                pipe.send("stop")
                pipe.recv()
            finally:
                process.kill()
                process.join()
                pipe.close()
        waited = _newcomer(address, note)
        held = held_by(pid)
    p99, against = float(np.percentile(among, 99)), float(np.percentile(alone, 99))
    return [
        Row(
            name="p99 of a good client among hostile ones",
            value=p99,
            unit="ms",
            against=against,
            ratio=against / p99,
            bar=0.5,
        ),
        Row(name="requests of it that failed", value=float(np.isnan(among).sum()), unit="", bar=0.0),
        Row(name="a newcomer's wait while idle clients hold all places", value=waited, unit="s", bar=2 * _IDLE_S),
        Row(name="memory of the server afterwards", value=held["bytes"] / 1e6, unit="MB"),
    ]


def _newcomer(address: str, note: Note) -> float:
    note("a newcomer, when idle clients hold all places")
    with ExitStack() as stack:
        began = None
        while True:
            try:
                client = stack.enter_context(PolicyClient(address))
            except ServeError:
                began = began or time.perf_counter()
                time.sleep(0.05)
                continue
            if began is not None:
                client.infer(request())
                return time.perf_counter() - began


def _at_rate(client: PolicyClient, hz: float, seconds: float) -> list[float]:
    """Milliseconds of each request; NaN of one that failed."""
    message, times, due = request(), list[float](), time.perf_counter()
    for _ in range(max(1, round(seconds * hz))):
        time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        try:
            client.infer(message)
            times.append((time.perf_counter() - start) * 1e3)
        except ServeError:
            times.append(float("nan"))
        due += 1 / hz
    return times
