"""How long policies take for a chunk: every head, our decoding against transformers', and both against the machine."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vla.bench.envs.evaluation import write_random_checkpoint
from vla.bench.measure import Note, Row, compare
from vla.bench.policy.floors import count_work, measure_machine
from vla.bench.policy.generate import same_weights
from vla.bench.policy.timing import Call, take_turns
from vla.bench.settings import PolicyConfig
from vla.bench.tabletop import INTERFACE, random_batch
from vla.core.fit import limits
from vla.core.lookup import known_names, lookup
from vla.core.machine.packages import is_installed
from vla.core.types import Observation
from vla.models.device import choose_device
from vla.models.heads.config import HEADS, HeadConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.model import Model
from vla.models.runtime import CudaGraphs
from vla.models.trunk.config import TransformerConfig
from vla.policies.learned import LearnedPolicy

_MODERN = TransformerConfig(rope=10000.0, gated=True, activation="silu", norm_eps=1e-6, mlp_ratio=8 / 3)
SIZES = {
    "default": TransformerConfig(),
    "10 M": replace(_MODERN, width=256, layers=12, heads=8),
    "10 M deep": replace(_MODERN, width=192, layers=24, heads=6, kv_heads=2),
    "100 M": replace(_MODERN, width=768, layers=14, heads=12),
    "3 B": replace(_MODERN, width=2560, layers=38, heads=20),
}
"""Trunks by their parameters; the deep one has the proportions of small language models (arXiv 2402.14905)."""
_ON_CPU, _ON_GPU = ("default", "10 M", "10 M deep"), ("default", "10 M", "100 M", "3 B")
_ONE_BY_ONE, _AT_ONCE, _CHUNK_MS, _ROOFLINE = 5.0, 20.0, 10.0, 1 / 1.5
"""Goals: times faster than ``generate``, milliseconds, and the share of what the machine could do."""
_PREFIX = 64
"""Tokens before the actions where ours are compared with transformers'; the tabletop's policy has 50."""


def bench_policy(config: PolicyConfig, note: Note) -> list[Row]:
    """Rows named ``size, head: measured`` that stand alone, and rows that are compared."""
    device = choose_device(config.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        sizes = config.sizes or (_ON_GPU if device.type == "cuda" else _ON_CPU)
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
        policy = LearnedPolicy(checkpoint, device=str(device), compile=config.compile)
    which = config.checkpoint or "default policy"
    note(f"{which}: observations to chunks")
    seen = _observation(policy, config.seed)
    policy.act([seen])  # what is compiled or recorded is so now
    times = take_turns({which: lambda: policy.act([seen])}, config.seconds, device)[which]
    title = f"{which}, observation to chunk, {device.type}, {config.threads} threads, compile {config.compile}"
    yield Row(name=f"{title}: p50", value=times.p50, unit="ms", bar=_CHUNK_MS)
    yield Row(name=f"{title}: p99", value=times.p99, unit="ms", bar=_CHUNK_MS)


def _observation(policy: LearnedPolicy, seed: int) -> Observation:
    """Noise of the right shapes, in the middle of all limits, and a sentence."""
    rng, contract = np.random.default_rng(seed), policy.contract
    low, high = limits(contract.state)
    return Observation(
        images={c.name: rng.integers(0, 256, c.shape).astype(c.dtype) for c in contract.cameras},
        state=np.nan_to_num((low + high) / 2, posinf=0.0, neginf=0.0),
        instruction="put the red block on the blue plate",
        time_ns=0,
    )


def _heads(
    size: str, trunk: TransformerConfig, config: PolicyConfig, device: torch.device, note: Note
) -> Iterator[Row]:
    """Each head behind the same trunk, from inputs to scaled chunks, as written and, on a GPU, as one graph."""
    inputs = replace(random_batch(1).inputs, seeds=torch.zeros(1, dtype=torch.long)).to(device)
    names = config.heads or tuple(known_names(HEADS, group=HeadConfig.group))
    models = {name: _model(trunk, name, config.seed).to(device).eval() for name in names}
    calls: dict[str, Call] = {name: partial(model.act, inputs) for name, model in models.items()}
    works = {name: count_work(calls[name], [model]) for name, model in models.items()}
    if device.type == "cuda":
        calls |= {f"{name}, graph": partial(CudaGraphs(model.act), inputs) for name, model in models.items()}
    parameters = sum(p.numel() for p in models[names[0]].parameters())
    note(f"{size}: {', '.join(names)}; {parameters / 1e6:.1f} M parameters")
    machine = measure_machine(parameters, trunk.width, device)
    found = take_turns(calls, config.seconds, device)
    for name, times in found.items():
        work = works[name.removesuffix(", graph")]
        floor = max(machine.bandwidth_ms(work), machine.products_ms(work))
        for what, value, unit in (
            ("p50", times.p50, "ms"),
            ("p99", times.p99, "ms"),
            ("quartiles apart", times.spread, "ms"),
            ("reading weights", machine.bandwidth_ms(work), "ms"),
            ("products", machine.products_ms(work), "ms"),
            ("of the slower", times.p50 / floor, "×"),
        ):
            yield Row(name=f"{size}, {name}: {what}", value=value, unit=unit)
        if name.endswith(", graph"):
            bar = _ROOFLINE if size in ("100 M", "3 B") else None
            yield compare(f"{size}, {name}, against the machine", times.p50, "ms", against=floor, bar=bar)
            eager = found[name.removesuffix(", graph")].p50
            yield compare(f"{size}, {name}, against eager", times.p50, "ms", against=eager)


def _model(trunk: TransformerConfig, head: str, seed: int) -> Model:
    """The default model with another trunk and head, of random weights."""
    kind = lookup(HeadConfig.what, head, HEADS, group=HeadConfig.group)
    torch.manual_seed(seed)
    config = UnifiedConfig(trunk=trunk, head=kind(kind=head))
    return config.build(INTERFACE, config.fit(torch.rand(100, config.horizon, INTERFACE.action) * 2 - 1))


def _generate(
    size: str, trunk: TransformerConfig, config: PolicyConfig, device: torch.device, note: Note
) -> Iterator[Row]:
    """A prefix and a chunk's tokens, by us and by transformers; the same actions at once, with the same weights."""
    if size == "default":  # as large as the default trunk, of the parts that Llama has
        trunk = replace(_MODERN, mlp_ratio=trunk.mlp_ratio * 2 / 3)
    inputs = random_batch(1).inputs
    both = same_weights(trunk, INTERFACE, inputs, length=_PREFIX, device=device, seed=config.seed)
    both.require_same_tokens()
    note(f"{size}: both write the same {both.tokens.codec.length} tokens behind a prefix of {_PREFIX}")
    ours: dict[str, tuple[Call, float]] = {
        "one by one": (both.ours, _ONE_BY_ONE),
        "at once": (both.at_once, _AT_ONCE),
    }
    theirs: dict[str, Call] = {
        "generate": both.generated,
        "generate in inference mode": torch.inference_mode()(both.generated),
    }
    calls = {name: call for name, (call, _) in ours.items()} | theirs
    times = {name: found.p50 for name, found in take_turns(calls, config.seconds, device).items()}
    machine = measure_machine(sum(p.numel() for p in both.trunk.parameters()), trunk.width, device)
    for name, (call, bar) in ours.items():
        work = count_work(call, (both.trunk, both.table, both.parallel))
        title = f"{size} trunk, actions {name}"
        yield compare(f"{title}, against generate", times[name], "ms", against=times["generate"], bar=bar)
        floors = {"reading weights": machine.bandwidth_ms(work), "products": machine.products_ms(work)}
        for what, against in {"generate in inference mode": times["generate in inference mode"], **floors}.items():
            yield compare(f"{title}, against {what}", times[name], "ms", against=against)
