"""``vla bench soak``: a policy server and the robots that it drives for long, what grows, and what is not counted."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from vla.bench.measure import Note, Row
from vla.bench.serving.driven import Counted, drive_remotely
from vla.bench.serving.policies import HZ_VARIABLE
from vla.bench.serving.servers import children_of, held_by, metric, vla_serve
from vla.bench.settings import SoakConfig
from vla.core.errors import VlaError
from vla.core.machine.spawned import spawn

_EVERY_S = 5.0
_SAMPLES = 20
"""At least, in a run that is shorter."""
_READY_S, _END_S = 120.0, 60.0
Held = dict[str, int]


def bench_soak(config: SoakConfig, note: Note, *, policy: str = "Swinging") -> list[Row]:
    """What server, policy and clients hold while they run, what the clients counted, and what came of it."""
    seconds = 60 * config.minutes
    with vla_serve(policy, environment={HZ_VARIABLE: str(config.hz)}) as (address, server):
        note(f"{config.clients} robots at {config.hz:g} Hz, {config.minutes:g} min")
        with ExitStack() as stack:
            processes = [stack.enter_context(_client(address, config.hz, seconds)) for _ in range(config.clients)]
            pids, pipes = zip(*processes, strict=True)
            for pipe in pipes:
                if (said := _hear(pipe, _READY_S)) != "driving":
                    raise VlaError(f"bench soak: a client did not come to drive: {said}")
            seen = _watch(server, pids, seconds)
            for pipe in pipes:
                with suppress(OSError):  # it ended before its time, and has said why
                    pipe.send("enough")
            answers = [_hear(pipe, _END_S) for pipe in pipes]
        failed = metric(address, "vla_errors_total"), metric(address, "vla_policy_restarts_total")
    counted = [answer for answer in answers if isinstance(answer, Counted)]
    for answer in answers:
        if not isinstance(answer, Counted):
            note(f"a client ended before its time: {answer}")
    return [
        *_memory("the server and its policy", [held for held, _ in seen], seconds),
        *_memory("the clients", [held for _, held in seen], seconds),
        Row(name="clients that ended before their time", value=float(config.clients - len(counted)), unit="", bar=0.0),
        *_answers(counted, *failed),
        *_deadlines(counted),
    ]


@contextmanager
def _client(address: str, hz: float, seconds: float) -> Iterator[tuple[int, Connection]]:
    process, pipe = spawn(drive_remotely, address, hz, seconds)
    try:
        yield process.pid or 0, pipe
    finally:
        process.kill()
        process.join()
        pipe.close()


def _hear(pipe: Connection, within_s: float) -> Any:
    """The next word of a client, or why there is none."""
    with suppress(EOFError, OSError):
        return pipe.recv() if pipe.poll(within_s) else f"it said nothing for {within_s:g} s"
    return "its process is gone"


def _watch(server: int, clients: Sequence[int], seconds: float) -> list[tuple[Held, Held]]:
    """What the server with its children and what the clients hold, again and again until the time is over."""
    from rich.console import Console
    from rich.progress import Progress

    seen, every_s = list[tuple[Held, Held]](), min(_EVERY_S, seconds / _SAMPLES)
    began = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("soaking", total=seconds)
        while (left_s := began + seconds - time.monotonic()) > 0:
            time.sleep(min(every_s, left_s))
            bar.update(task, completed=time.monotonic() - began)
            seen.append((_held([server, *children_of(server)]), _held(clients)))
    return seen


def _held(pids: Sequence[int]) -> Held:
    """By all of them together."""
    each = list[Held]()
    for pid in pids:
        with suppress(OSError):  # it has gone, which others say
            each.append(held_by(pid))
    return {name: sum(held[name] for held in each) for name in ("bytes", "descriptors", "threads")}


def _memory(whose: str, seen: Sequence[Held], seconds: float) -> list[Row]:
    """Of the second half: how far apart the least and the most are, and where it is going."""
    half = seen[len(seen) // 2 :]
    resident = np.array([held["bytes"] for held in half]) / 1e6
    slope = round(float(np.polyfit(np.linspace(0, seconds / 120, len(half)), resident, 1)[0]), 3)
    more = {name: float(max(held[name] for held in half) - half[0][name]) for name in ("descriptors", "threads")}
    return [
        Row(name=f"{whose}: RSS", value=float(resident[-1]), unit="MB"),
        Row(
            name=f"{whose}: RSS, most less least of the second half", value=float(np.ptp(resident)), unit="MB", bar=1.0
        ),
        Row(name=f"{whose}: slope of it", value=slope, unit="MB a minute"),
        *(Row(name=f"{whose}: more {name}", value=value, unit="", bar=0.0) for name, value in more.items()),
    ]


def _answers(counted: Sequence[Counted], refused: float, begun_anew: float) -> list[Row]:
    took_ms = 1e3 * np.concatenate([np.zeros(0), *(one.latency_s for one in counted)])
    p50, p99, most = np.percentile(took_ms, (50, 99, 100)) if len(took_ms) else (np.nan,) * 3
    errors = sum(one.errors for one in counted) + refused
    return [
        Row(name="requests answered", value=float(len(took_ms)), unit=""),
        Row(name="requests that failed", value=float(errors), unit="", bar=0.0),
        Row(name="policies that had to be begun anew", value=begun_anew, unit="", bar=0.0),
        Row(name="latency p50", value=float(p50), unit="ms"),
        Row(name="latency p99", value=float(p99), unit="ms"),
        Row(name="latency max", value=float(most), unit="ms"),
        Row(name="steps held for want of a command", value=float(sum(one.starved for one in counted)), unit=""),
    ]


def _deadlines(counted: Sequence[Counted]) -> list[Row]:
    """What all clients say together, and of times what the worst of them says."""

    def total(name: str) -> float:
        return float(sum(getattr(one, name) for one in counted))

    due = total("ticks") + total("missed")
    late = np.max([one.lateness_ms for one in counted], axis=0, initial=0.0)
    times = (
        Row(name=f"lateness {n}", value=float(ms), unit="ms") for n, ms in zip(("p50", "p99", "max"), late, strict=True)
    )
    return [
        *times,
        Row(name="deadlines missed", value=total("missed"), unit=f"of {due:,.0f}"),
        Row(name="deadlines that nobody counted, or that never were", value=total("uncounted"), unit="", bar=0.0),
        Row(name="ticks without a command, or commands without a tick", value=total("unsent"), unit="", bar=0.0),
        Row(name="commands that made up for a missed one", value=total("hurried"), unit="", bar=0.0),
        Row(name="commands not gated", value=total("ungated"), unit="", bar=0.0),
    ]
