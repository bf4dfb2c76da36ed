"""How long policies take for a chunk: every head, our decoding against transformers', and both against the machine."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vla.bench.envs.evaluation import write_random_checkpoint
from vla.bench.measure import Note, Row, compare
from vla.bench.policy.floors import Machine, Work, count_work, measure_machine
from vla.bench.policy.generate import same_weights
from vla.bench.policy.timing import Times, take_turns
from vla.bench.settings import PolicyConfig
from vla.bench.tabletop import INTERFACE, random_batch
from vla.core.lookup import known_names, lookup
from vla.core.machine.packages import is_installed
from vla.core.types import Observation
from vla.models.config import UnifiedConfig
from vla.models.device import choose_device
from vla.models.heads.config import HEADS, HeadConfig
from vla.models.model import Model
from vla.models.runtime import CudaGraphs
from vla.models.trunk.config import TransformerConfig
from vla.policies.learned import LearnedPolicy

_MODERN = TransformerConfig(rope=10000.0, gated=True, activation="silu", norm_eps=1e-6)
SIZES = {
    "default": TransformerConfig(),
    "10 M": replace(_MODERN, width=256, layers=12, heads=4, mlp_ratio=8 / 3),
    "10 M deep": replace(_MODERN, width=192, layers=24, heads=6, kv_heads=2, mlp_ratio=8 / 3),
    "100 M": replace(_MODERN, width=768, layers=14, heads=12, mlp_ratio=8 / 3),
    "3 B": replace(_MODERN, width=2560, layers=38, heads=20, mlp_ratio=8 / 3),
}
"""Trunks by their parameters; the larger ones are narrow and deep, as small language models are (arXiv 2402.14905)."""
_ONE_BY_ONE, _AT_ONCE, _CHUNK_MS, _ROOFLINE = 5.0, 20.0, 10.0, 1 / 1.5
"""Goals: times faster than ``generate``, milliseconds, and the least share of the machine."""
_PREFIX = 64
"""Tokens before the actions where ours are compared with transformers'; the tabletop's policy has 50."""


def bench_policy(config: PolicyConfig, note: Note) -> list[Row]:
    """Rows named ``size, head: measured`` that stand alone, and rows that are compared."""
    device = choose_device(config.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        sizes = config.sizes or (("default", "10 M", "100 M", "3 B") if device.type == "cuda" else ("default", "10 M"))
        rows = list(_whole(config, device, note))
        for size in sizes:
            trunk = lookup("size", size, SIZES)
            rows += _heads(size, trunk, config, device, note)
            if config.generate and is_installed("transformers"):
                rows += _generate(size, trunk, config, device, note)
        return rows
    finally:
        torch.set_num_threads(threads)


def _whole(config: PolicyConfig, device: torch.device, note: Note) -> Iterator[Row]:
    """From an observation to a chunk, as a robot's loop asks for it."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        checkpoint = Path(config.checkpoint or write_random_checkpoint(Path(folder) / "checkpoint", config.seed))
        policy = LearnedPolicy(checkpoint, device=str(device))
    which = config.checkpoint or "default policy"
    note(f"{which}: observations to chunks")
    seen = _observation(policy, config.seed)
    times = take_turns({"whole": lambda: policy.act([seen])}, config.seconds, device)["whole"]
    title = f"{which}, observation to chunk, {device.type}, {config.threads} threads"
    yield Row(name=f"{title}: p50", value=times.p50, unit="ms", bar=_CHUNK_MS)
    yield Row(name=f"{title}: p99", value=times.p99, unit="ms", bar=_CHUNK_MS)


def _observation(policy: LearnedPolicy, seed: int) -> Observation:
    """Noise of the right shapes, and words that the policy knows."""
    rng, contract = np.random.default_rng(seed), policy.contract
    low, high = (np.array([getattr(d, end) for d in contract.state], np.float32) for end in ("low", "high"))
    return Observation(
        images={c.name: rng.integers(0, 256, c.shape).astype(c.dtype) for c in contract.cameras},
        state=((low + high) / 2).astype(np.float32),
        instruction="put the red block on the blue plate",
        time_ns=0,
    )


def _heads(
    size: str, trunk: TransformerConfig, config: PolicyConfig, device: torch.device, note: Note
) -> Iterator[Row]:
    """Each head behind the same trunk, from inputs to scaled chunks, as written and, on a GPU, as one graph."""
    inputs = replace(random_batch(1).inputs, seeds=torch.zeros(1, dtype=torch.long)).to(device)
    names = config.heads or tuple(known_names(HEADS, group=HeadConfig.group))
    models: dict[str, Model] = {}
    for name in names:
        head = lookup(HeadConfig.what, name, HEADS, group=HeadConfig.group)(kind=name)
        torch.manual_seed(config.seed)
        whole = UnifiedConfig(trunk=trunk, head=head)
        chunks = torch.rand(100, whole.horizon, INTERFACE.action) * 2 - 1
        models[name] = whole.build(INTERFACE, whole.fit(chunks)).to(device).eval()
        if len(models) == 1:
            note(f"{size}: {sum(p.numel() for p in models[name].parameters()) / 1e6:.1f} M parameters")

    def acting(model: Model) -> Callable[[], object]:
        return lambda: model.act(inputs)

    calls = {name: acting(model) for name, model in models.items()}
    works = {name: count_work(call, [models[name]]) for name, call in calls.items()}
    if device.type == "cuda":
        for name, model in models.items():
            graphs = CudaGraphs(model.act)
            calls[f"{name}, graph"] = lambda graphs=graphs: graphs(inputs)  # type: ignore[misc]
    times = take_turns(calls, config.seconds, device)
    for name, work in works.items():
        parameters = sum(p.numel() for p in models[name].parameters())
        machine = measure_machine(parameters, trunk.width, device)
        yield from _alone(f"{size}, {name}", times[name], work, machine)
        if device.type == "cuda":
            graph = times[f"{name}, graph"]
            yield from _alone(f"{size}, {name}, graph", graph, work, machine)
            yield compare(f"{size}, {name}: graph against eager", graph.p50, "ms", against=times[name].p50)
            bar = _ROOFLINE if size in ("100 M", "3 B") else None
            yield compare(f"{size}, {name}: roofline", graph.p50, "ms", against=_floor(work, machine), bar=bar)


def _alone(thing: str, times: Times, work: Work, machine: Machine) -> Iterator[Row]:
    for what, value, unit in (
        ("p50", times.p50, "ms"),
        ("p99", times.p99, "ms"),
        ("quartiles apart", times.spread, "ms"),
        ("weights read", machine.bandwidth_ms(work), "ms"),
        ("products", machine.products_ms(work), "ms"),
        ("of the larger", times.p50 / _floor(work, machine), "×"),
    ):
        yield Row(name=f"{thing}: {what}", value=value, unit=unit)


def _floor(work: Work, machine: Machine) -> float:
    return max(machine.bandwidth_ms(work), machine.products_ms(work))


def _generate(
    size: str, trunk: TransformerConfig, config: PolicyConfig, device: torch.device, note: Note
) -> Iterator[Row]:
    """A prefix and a chunk's tokens, by us and by transformers; the same actions at once, with the same weights."""
    if size == "default":  # as large as the default trunk, of the parts that transformers has
        trunk = replace(_MODERN, mlp_ratio=trunk.mlp_ratio * 2 / 3)
    both = same_weights(
        trunk, INTERFACE, random_batch(1).inputs, length=_PREFIX, device=device, seed=config.seed
    )
    both.require_same_tokens()
    count = both.tokens.codec.length
    note(f"{size}: both write the same {count} tokens behind a prefix of {_PREFIX}")
    calls = {"ours": both.ours, "at once": both.at_once, "generate": both.generated}
    times = take_turns(calls, config.seconds, device)
    theirs = times["generate"].p50
    title = f"{size} trunk, {count} tokens"
    yield compare(
        f"{title} one by one, against generate", times["ours"].p50, "ms", against=theirs, bar=_ONE_BY_ONE
    )
    yield compare(
        f"{title} as bins at once, against generate", times["at once"].p50, "ms", against=theirs, bar=_AT_ONCE
    )
    machine = measure_machine(sum(p.numel() for p in both.trunk.parameters()), trunk.width, device)
    parts = (both.trunk, both.table, both.parallel)
    for name, call in (("one by one", both.ours), ("as bins at once", both.at_once)):
        work = count_work(call, parts)
        key = "ours" if name == "one by one" else "at once"
        yield compare(
            f"{title} {name}, against reading the weights",
            times[key].p50, "ms", against=machine.bandwidth_ms(work),
        )
        yield compare(
            f"{title} {name}, against the products alone",
            times[key].p50, "ms", against=machine.products_ms(work),
        )
