"""``vla bench server``: what the policy server adds to a bare websocket, and what batching saves."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from vla.bench.measure import Note, Row, compare
from vla.bench.serving.pictures import bench_pictures
from vla.bench.serving.policies import request
from vla.bench.serving.servers import UNPACED, blocking_server, vla_serve
from vla.bench.settings import ServerConfig
from vla.deploy.client import PolicyClient

_TURNS = 10


def bench_server(config: ServerConfig, note: Note) -> list[Row]:
    """Round trips of one client, latency of several, throughput of many, and what images cost."""
    return [*_round_trips(config, note), *_several(config, note), *_many(config, note), *bench_pictures(note)]


def _round_trips(config: ServerConfig, note: Note) -> list[Row]:
    note(f"round trips of one client, {config.requests} with each server, in turns")
    with ExitStack() as stack:
        ours = stack.enter_context(vla_serve("Still", *UNPACED))[0]
        plain = stack.enter_context(blocking_server(works=False))
        clients = [stack.enter_context(PolicyClient(address)) for address in (ours, plain)]
        times: list[list[float]] = [[], []]
        for turn in range(_TURNS + 1):
            for client, taken in zip(clients, times, strict=True):
                found = _ask(client, max(1, config.requests // _TURNS))
                taken += found if turn else []  # the first warms up
    (p50, p99), (plain_p50, plain_p99) = (np.percentile(taken, [50, 99]).tolist() for taken in times)
    return [
        Row(name="round trip of two 224-pixel images, p50", value=p50, unit="ms", against=plain_p50),
        Row(name="the same, p99", value=p99, unit="ms", against=plain_p99),
        Row(name="p50 beyond that of a plain websockets server", value=p50 - plain_p50, unit="ms", bar=0.5),
    ]


def _several(config: ServerConfig, note: Note) -> list[Row]:
    note(f"{config.clients} clients of a policy that takes 20 ms, {config.seconds:g} s with each server")
    with vla_serve("Working", *UNPACED) as (ours, _):
        times, _rate = _together(ours, config.clients, config.seconds)
    with blocking_server(works=True) as blocking:
        blocked, _rate = _together(blocking, config.clients, config.seconds)
    p99, against = float(np.percentile(times, 99)), float(np.percentile(blocked, 99))
    name = f"p99 of {config.clients} clients against a server that blocks"
    return [compare(name, p99, "ms", against=against, bar=2.0)]


def _many(config: ServerConfig, note: Note) -> list[Row]:
    note(f"{config.many} clients, {config.seconds:g} s with batches and without")
    with vla_serve("Working", *UNPACED) as (address, _):
        times, batched = _together(address, config.many, config.seconds)
    with vla_serve("Working", *UNPACED, "--limits.batch", "1") as (address, _):
        _times, alone = _together(address, config.many, config.seconds)
    return [
        compare(f"requests of {config.many} clients, batched", batched, "requests/s", against=alone, bar=2.0),
        Row(name="their p99", value=float(np.percentile(times, 99)), unit="ms", bar=config.deadline_ms),
    ]


def _together(address: str, clients: int, seconds: float) -> tuple[list[float], float]:
    """Milliseconds of every request of several clients that ask without a pause, and how many there were a second."""
    with ExitStack() as stack, ThreadPoolExecutor(clients) as pool:
        opened = [stack.enter_context(PolicyClient(address)) for _ in range(clients)]
        for client in opened:
            _ask(client, 1)
        began = time.perf_counter()
        results: Sequence[list[float]] = list(pool.map(lambda client: _ask_for(client, seconds), opened))
        took = time.perf_counter() - began
    times = [one for taken in results for one in taken]
    return times, len(times) / took


def _ask(client: PolicyClient, times: int) -> list[float]:
    message, taken = request(), []
    for _ in range(times):
        start = time.perf_counter()
        client.infer(message)
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def _ask_for(client: PolicyClient, seconds: float) -> list[float]:
    until, taken = time.perf_counter() + seconds, []
    while time.perf_counter() < until:
        taken += _ask(client, 1)
    return taken
