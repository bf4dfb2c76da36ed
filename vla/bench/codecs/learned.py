"""Every head and codec learned and acting: one recipe and the same scenes, only how actions are written differs.

The recipe is the demo's, in this process, with another head; ``steps`` of its 32 samples each.
"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vla.bench.measure import Note, Row
from vla.bench.settings import CodecsConfig
from vla.core.config import load_recipe, to_dict
from vla.core.files import write_json
from vla.core.lookup import lookup
from vla.datasets.dataset import Dataset
from vla.datasets.scenes import recorded_settings
from vla.evaluation.evaluate import evaluate
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
from vla.training.engines import train
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig

RECIPE = "demo"
_CALLS = 31
"""Of which the median is the time of a chunk."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One training and what came of it."""

    successes: int
    episodes: int
    samples_per_s: float
    parameters: int
    chunk_ms: float


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
            note(f"{name}, seed {seed}: {runs[-1].successes} of {runs[-1].episodes}; {folder}")
        rows += _rows(name, runs)
    return rows


def _run(config: CodecsConfig, head: HeadConfig, seed: int, folder: Path) -> _Run:
    changes = {
        "data": {"path": config.dataset},
        "model": {"head": to_dict(head)},
        **{"engine": "inline", "workers": 1, "steps": config.steps, "minutes": 1e6, "seed": seed},
    }
    asked = {"recipe": RECIPE, "changes": changes, "scenes": [config.env, config.scenes, config.episodes]}
    kept = folder / "measured.json"
    if kept.exists():
        before = json.loads(kept.read_text())
        if before["asked"] == asked:
            return _Run(**before["found"])
    checkpoint = train(load_recipe(TrainConfig, RECIPE, changes=changes), folder)
    driven = evaluate(
        checkpoint,
        env=config.env,
        settings=recorded_settings(Dataset.open(config.dataset), 0),
        episodes=config.episodes,
        seed=config.scenes,
        out=folder / f"{config.env.replace('/', '-')}-{config.scenes}-{config.episodes}",
    ).success
    rates = [line["samples_per_s"] for line in read_metrics(folder) if line["kind"] == "train"]
    parameters, chunk_ms = _cost(checkpoint)
    found = _Run(
        successes=driven.successes,
        episodes=driven.episodes,
        samples_per_s=statistics.median(rates) if rates else 0.0,
        parameters=parameters,
        chunk_ms=chunk_ms,
    )
    write_json(kept, {"asked": asked, "found": asdict(found)})
    return found


def _cost(checkpoint: Path) -> tuple[int, float]:
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
    return parameters, 1e3 * statistics.median(spent)


def _rows(name: str, runs: Sequence[_Run]) -> Iterator[Row]:
    """The seeds' episodes pooled, with their interval, and the worst and best seed, which lie further apart."""
    successes, episodes = sum(run.successes for run in runs), sum(run.episodes for run in runs)
    pooled = success_rate(successes, episodes)
    each = [100 * run.successes / run.episodes for run in runs]
    for what, value, unit in (
        ("success", 100 * pooled.rate, "%"),
        ("from", 100 * pooled.low, "%"),
        ("to", 100 * pooled.high, "%"),
        ("worst seed", min(each), "%"),
        ("best seed", max(each), "%"),
        ("a chunk", statistics.median(run.chunk_ms for run in runs), "ms"),
        ("training", statistics.median(run.samples_per_s for run in runs), "samples/s"),
        ("parameters", runs[0].parameters / 1e6, "M"),
    ):
        yield Row(name=f"{name}: {what}", value=value, unit=unit)
