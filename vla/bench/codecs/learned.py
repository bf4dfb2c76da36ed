"""Every head and codec learned and acting: one recipe and the same scenes, only how actions are written differs.

The recipe is the demo's, in this process, with another head; ``steps`` of its 32 samples each.
"""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vla.bench.measure import Note, Row
from vla.bench.settings import CodecsConfig
from vla.bench.trained import RUN, trained
from vla.core.config import load_recipe, to_dict
from vla.core.lookup import lookup
from vla.evaluation.statistics import success_rate
from vla.models.checkpoint import open_checkpoint, read_tensors
from vla.models.codecs.config import CodecConfig
from vla.models.heads.config import (
    BinsHeadConfig,
    FlowHeadConfig,
    HeadConfig,
    L1HeadConfig,
    MaskedHeadConfig,
    MipHeadConfig,
    TokensHeadConfig,
)
from vla.policies.checker import made_up_observations
from vla.policies.table import build_policy, find_policy
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig

RECIPE = "demo"
_CALLS = 31
"""Of which the median is the time of a chunk."""


def variants(codecs: Mapping[str, CodecConfig]) -> dict[str, HeadConfig]:
    """Heads by name: those that need no codec, masked filling of the first codec, and each codec token by token."""
    first = next(iter(codecs.values()))
    return {
        "bins": BinsHeadConfig(),
        "bins joint": BinsHeadConfig(layout="joint"),
        "l1": L1HeadConfig(),
        "mip": MipHeadConfig(),
        "flow": FlowHeadConfig(),
        "flow insulated": FlowHeadConfig(insulate=True, teacher=BinsHeadConfig()),
        "masked": MaskedHeadConfig(codec=first),
        **{f"tokens {name}": TokensHeadConfig(codec=codec) for name, codec in codecs.items()},
    }


def bench_learned(config: CodecsConfig, codecs: Mapping[str, CodecConfig], note: Note) -> list[Row]:
    """Several rows for each head; their names begin with its name. What ``config.runs`` holds is not done again."""
    known = variants(codecs)
    rows: list[Row] = []
    for name in config.heads or known:
        head = lookup("head", name, known)
        runs = []
        for seed in range(config.seed, config.seed + config.seeds):
            folder = Path(config.runs) / f"{name.replace(' ', '-')}-{seed}"
            runs.append(_run(config, head, seed, folder))
            note(f"{name}, seed {seed}: {runs[-1]['successes']} of {runs[-1]['episodes']}; {folder}")
        rows += _rows(name, runs)
    return rows


def _run(config: CodecsConfig, head: HeadConfig, seed: int, folder: Path) -> dict[str, Any]:
    changes = {
        "data": {"path": config.dataset},
        "model": {"head": to_dict(head)},
        **{"engine": "inline", "workers": 1, "steps": config.steps, "minutes": 1e6, "seed": seed},
    }
    return trained(
        load_recipe(TrainConfig, RECIPE, changes=changes),
        folder,
        env=config.env,
        episodes=config.episodes,
        scenes=config.scenes,
        measure=lambda checkpoint: _cost(checkpoint) | {"samples_per_s": _rate(folder / RUN)},
    )


def _rate(run: Path) -> float:
    rates = [line["samples_per_s"] for line in read_metrics(run) if line["kind"] == "train"]
    return statistics.median(rates) if rates else 0.0


def _cost(checkpoint: Path) -> dict[str, int | float]:
    """Parameters, and milliseconds from an observation to its chunk, the median of many."""
    weights = read_tensors(open_checkpoint(checkpoint), "weights.safetensors")
    parameters = sum(tensor.numel() for tensor in weights.values())
    policy = build_policy(find_policy(str(checkpoint)))
    observations = made_up_observations(policy.contract, 1)
    policy.reset(0)
    spent = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        policy.act(observations)
        spent.append(time.perf_counter() - start)
    return {"parameters": parameters, "chunk_ms": 1e3 * statistics.median(spent)}


def _rows(name: str, runs: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """The seeds' episodes pooled, with their interval, and the worst and best seed, which lie further apart."""
    successes, episodes = (sum(run[what] for run in runs) for what in ("successes", "episodes"))
    pooled = success_rate(successes, episodes)
    each = [100 * run["success"] for run in runs]
    for what, value, unit in (
        ("success", 100 * pooled.rate, "%"),
        ("from", 100 * pooled.low, "%"),
        ("to", 100 * pooled.high, "%"),
        ("worst seed", min(each), "%"),
        ("best seed", max(each), "%"),
        ("a chunk", statistics.median(run["chunk_ms"] for run in runs), "ms"),
        ("training", statistics.median(run["samples_per_s"] for run in runs), "samples/s"),
        ("parameters", runs[0]["parameters"] / 1e6, "M"),
    ):
        yield Row(name=f"{name}: {what}", value=value, unit=unit)
