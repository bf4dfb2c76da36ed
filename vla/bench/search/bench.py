"""How fast the nearest frames are found, what is missed, and how an index grows, beside comparing all.

A query is asked alone and on one thread, in three rounds of all queries in turn, so that none meets its own rows in the
cache. Every call counts; a row more says what is left without what else the machine does, of each query its fastest.
What is missed is of the ten nearest by the vectors as they are stored.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.bench.measure import Note, Row, compare
from vla.bench.search.pictures import some_crops, some_vectors
from vla.bench.search.settings import SearchConfig
from vla.core.errors import ConfigError
from vla.datasets.dataset import Dataset
from vla.search.embedding import Embedder
from vla.search.neighbours import NEAREST, Neighbours, Vectors, exact, load_faiss, make_neighbours, recall

MOST_MS, MOST_MISSED = 2.0, 5.0
"""The goals at every size: milliseconds of the slowest hundredth of queries, and percent of the nearest ten."""
_ROUNDS, _EXACT_QUERIES = 3, 50
_ADDED = 0.02
"""Share of the rows that are added last, to lists that are there."""


def bench_search(config: SearchConfig, note: Note) -> list[Row]:
    """All sizes, with the model that a checkpoint holds."""
    if not config.dataset or not config.checkpoint:
        raise ConfigError("bench search: of what? vla bench search DATASET --checkpoint RUN/checkpoint")
    import torch

    from vla.models.contrastive.embedder import Embedder as TwoTower

    torch.set_num_threads(config.threads)
    return bench_with(config, TwoTower.open(Path(config.checkpoint)), note)


def bench_with(config: SearchConfig, embedder: Embedder, note: Note) -> list[Row]:
    """All sizes, with any model."""
    dataset = Dataset.open(config.dataset)
    vectors = some_vectors(dataset, embedder, max(config.sizes), Path(config.out), config.seed, note)
    asked = {"pictures": some_crops(dataset, embedder, config.queries, config.seed)}
    known, others = _sentences(dataset, config.queries)
    if others:
        asked["words"] = embedder.texts(others)
    rng = np.random.default_rng(config.seed)
    tried = embedder.texts(known) if known else None
    load_faiss().omp_set_num_threads(1)
    rows: list[Row] = []
    for size in sorted(config.sizes):
        note(f"{size:,} vectors of {embedder.width}")
        chosen = vectors[np.sort(rng.permutation(len(vectors))[:size])]
        rows += _at(chosen, asked, tried)
    return rows


def _sentences(dataset: Dataset, most: int) -> tuple[list[str], list[str]]:
    """Instructions and answers of the dataset: those that an index is made with, and others that it is asked for."""
    found = dict.fromkeys(dataset.episodes.column("instruction")[0])
    for _, questions in dataset.episodes.questions():
        found |= dict.fromkeys(question.answer for question in questions if " " in question.answer)
        if len(found) > 2 * most:
            break
    texts = sorted(found)
    return texts[::2][:100], texts[1::2][:most]


def _at(vectors: np.ndarray, asked: dict[str, Vectors], tried: Vectors | None) -> Iterator[Row]:
    """One size: how it is made and grows, then each kind of query."""
    size, width = vectors.shape
    last = max(1, round(_ADDED * size))
    began = time.perf_counter()
    made = make_neighbours(vectors[:-last], width, tried)
    built_s, began = time.perf_counter() - began, time.perf_counter()
    made.add(vectors[-last:])
    added_s = time.perf_counter() - began
    held = len(load_faiss().serialize_index(made.index)) / 1e6
    how = f"{made.probes} of {made.index.nlist} lists" if made.probes else "all compared"
    yield Row(name=f"{size:,} ({how}): made", value=(size - last) / built_s, unit="vectors/s")
    yield Row(name=f"{size:,}: added to it", value=last / added_s, unit="vectors/s")
    yield Row(name=f"{size:,}: memory, and on disk", value=held, unit="MB", against=4 * size * width / 1e6)
    stored = np.asarray(vectors, np.float32)
    for kind, queries in asked.items():
        yield from _asked(f"{size:,}, {kind}", made, stored, queries)


def _asked(title: str, made: Neighbours, stored: Vectors, queries: Vectors) -> Iterator[Row]:
    """Milliseconds of the middle and of the slowest hundredth, and what is missed."""
    ours = _milliseconds(lambda query: made.nearest(query, NEAREST), queries)
    all_compared = _milliseconds(lambda query: _brute(stored, query), queries[:_EXACT_QUERIES])
    best = exact(stored, queries, NEAREST)[0][:, -1]
    p50, p99 = np.percentile(ours, [50, 99])
    against = np.percentile(all_compared, [50, 99])
    yield compare(f"{title}: p50", float(p50), "ms", against=float(against[0]))
    yield Row(name=f"{title}: p99", value=float(p99), unit="ms", against=float(against[1]), bar=MOST_MS)
    yield Row(name=f"{title}: p99, fastest rounds", value=float(np.percentile(ours.min(axis=0), 99)), unit="ms")
    missed = 100 * (1 - recall(made, queries, best))
    yield Row(name=f"{title}: missed of the {NEAREST} nearest", value=missed, unit="%", bar=MOST_MISSED)


def _brute(stored: Vectors, query: Float32[np.ndarray, " e"]) -> Any:
    """All compared, without an index."""
    scores = stored @ query
    near = np.argpartition(-scores, NEAREST)[:NEAREST]
    return near[np.argsort(-scores[near])]


def _milliseconds(ask: Callable[[Vectors], Any], queries: Vectors) -> Float32[np.ndarray, "r b"]:
    """Of each query in each round."""
    taken = np.empty((_ROUNDS, len(queries)), np.float32)
    for times in taken:
        for number, query in enumerate(queries):
            began = time.perf_counter()
            ask(query)
            times[number] = 1e3 * (time.perf_counter() - began)
    return taken
