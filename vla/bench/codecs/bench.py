"""Every action codec on the chunks of a dataset: fitted to most episodes, measured on the others; then learned."""

import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vla.bench.codecs.learned import bench_learned
from vla.bench.codecs.measures import CodecMeasures, measure_codec
from vla.bench.measure import Note, Row
from vla.bench.settings import CodecsConfig
from vla.core.errors import ConfigError
from vla.core.lookup import known_names, lookup
from vla.datasets.sampling.windows import Windows
from vla.models.codecs.config import CODECS, BinsConfig, CodecConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.preprocessor import Preprocessor
from vla.training.recipe import DataConfig, TrainConfig
from vla.training.samples import open_samples

VARIANTS: Mapping[str, CodecConfig] = {
    "bins quantile": BinsConfig(spacing="quantile"),
    "bins mu-law": BinsConfig(spacing="mu-law"),
}
"""What is measured beside each kind with its defaults."""


def bench_codecs(config: CodecsConfig, note: Note) -> list[Row]:
    """Several rows for each codec; their names begin with its name."""
    if not config.dataset:
        raise ConfigError("bench codecs: which dataset? vla bench codecs DATASET")
    codecs = _chosen(config.only)
    recipe = TrainConfig(
        data=DataConfig(path=config.dataset, validation=config.validation),
        model=UnifiedConfig(horizon=config.horizon, execute=min(4, config.horizon)),
        seed=config.seed,
    )
    samples = open_samples(recipe)
    preprocessor, train, held_out = samples.blueprint.preprocessor, samples.train, samples.validation
    assert isinstance(train, Windows)
    assert isinstance(held_out, Windows)
    if len(_successors(held_out)) == 0:
        note("nothing is held out: measured on what codecs are fitted to; more episodes or --validation hold some out")
        held_out = train
    fit_to = _chunks(preprocessor, train, _spread(np.arange(len(train)), config.fit))
    items = _spread(_successors(held_out), config.samples)
    if len(items) == 0:
        raise ConfigError(f"bench codecs: {config.dataset} has no two steps behind each other; collect longer episodes")
    chunks, following = (_chunks(preprocessor, held_out, found) for found in (items, items + 1))
    note(f"fitted to {len(fit_to)} chunks of {config.horizon} steps, measured on {len(chunks)} of held-out episodes")
    rows = []
    for name, kind in codecs.items():
        start = time.perf_counter()
        codec = kind.build(kind.fit(fit_to))
        spent = time.perf_counter() - start
        measures = measure_codec(codec, chunks, following, sequences=config.sequences, seed=config.seed)
        rows += list(_rows(name, measures, spent, config.sequences))
        note(f"{name}: fitted in {spent:.2f} s")
    return rows + bench_learned(config, codecs, note) if config.runs else rows


def _chosen(only: tuple[str, ...]) -> dict[str, CodecConfig]:
    """Every kind that is known, those of packages too, and the variants; or some of these."""
    kinds = {name: lookup(CodecConfig.what, name, CODECS, group=CodecConfig.group) for name in _names()}
    known = {name: kind(kind=name) for name, kind in kinds.items()} | dict(VARIANTS)
    return {name: lookup("codec", name, known) for name in only or known}


def _names() -> list[str]:
    return known_names(CODECS, group=CodecConfig.group)


def _successors(windows: Windows) -> Int64[np.ndarray, " _"]:
    """Items whose next item is the next step of the same episode."""
    follows = (np.diff(windows.rows) == 1) & (np.diff(windows.owner) == 0)
    return np.flatnonzero(follows)


def _spread(items: Int64[np.ndarray, " n"], most: int) -> Int64[np.ndarray, " m"]:
    """At most so many of them, evenly spread."""
    chosen: np.ndarray = items[np.linspace(0, len(items) - 1, min(most, len(items))).astype(np.int64)]
    return chosen


def _chunks(preprocessor: Preprocessor, windows: Windows, items: Int64[np.ndarray, " w"]) -> Float[Tensor, "w h d"]:
    actions, _ = windows.chunks(items)
    return preprocessor.scaled_chunks(windows.dataset.state[windows.rows[items]], actions).to(torch.float32)


def _rows(name: str, found: CodecMeasures, spent: float, sequences: int) -> Iterator[Row]:
    for what, value, unit in (
        ("ids", found.ids, "ids"),
        ("budget", found.budget, "tokens"),
        ("a chunk", found.tokens, "tokens"),
        ("mean error", found.error_mean, "scaled"),
        ("largest error", found.error_max, "scaled"),
        ("decoding", found.decode_ms, "ms"),
        ("fitting", spent, "s"),
        ("overlap", found.overlap, "share"),
        ("redundancy", found.redundancy, "share"),
        ("dependence", found.dependence, "share"),
    ):
        yield Row(name=f"{name}: {what}", value=float(value), unit=unit)
    yield Row(name=f"{name}: failures", value=float(found.failures), unit=f"of {sequences}", bar=0.0)
