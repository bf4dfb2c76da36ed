"""Nearest neighbours among unit vectors: exactly while they are few, in lists around centroids when they are many.

Both are faiss indexes under inner products. Lists (IVF) and not a graph (HNSW): lists take new rows ten times
faster, hold to a filter at any share of rows, and nothing of them is approximate but which lists are read. How many
are read (``probes``) is measured on the rows themselves and on real queries when the lists are made.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla.core.machine.packages import needed_packages

FLAT_MOST = 20_000
"""Rows up to which all are compared: about a millisecond for one query."""
REGROW = 4
"""Lists are made anew when there are so many times more rows than when they were."""
_RECALL = 0.98
"""Share of the ten nearest that is to be found, measured on held-out queries when lists are made."""
_SAMPLE = 40
"""Rows for each centroid that centroids are learned from: faiss wants 39."""
_TRIED = 200
"""Rows that probes are measured with."""
NEAREST = 10
"""Whose recall is measured."""
TIE = 1e-6
"""Scores that differ by less are equal: sums of float32 in another order differ by so much."""
_CHUNK = 16_384

Vectors = Float32[np.ndarray, "_ e"]


@dataclass(kw_only=True)
class Neighbours:
    """Rows by number, in the order in which they were added."""

    index: Any
    probes: int = 0
    """Lists that are read for a query; 0 where all rows are compared."""
    made_of: int = 0
    """Rows that the lists were made of."""

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def fits(self) -> bool:
        """Whether its kind is still right for so many rows."""
        return len(self) <= (REGROW * self.made_of if self.probes else FLAT_MOST)

    def add(self, vectors: Any) -> None:
        """Append rows of any float type, a part at a time."""
        for some in chunks(vectors):
            self.index.add(some)

    def nearest(
        self, query: Float32[np.ndarray, " e"], count: int, allowed: Bool[np.ndarray, " n"] | None = None
    ) -> tuple[Float32[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
        """The ``count`` nearest of the rows that are allowed, best first; as many as there are of them.

        The fewer are allowed, the more lists are read: so that as many of them are compared as of all rows, and, if
        lists hold too few all the same, at last all.
        """
        faiss = load_faiss()
        selector, most, probes = None, min(count, len(self)), self.probes
        if allowed is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
            left = int(allowed.sum())
            most, probes = min(count, left), self._more(probes, left)
        while True:
            parameters = self._parameters(faiss, selector, probes)
            scores, ids = self.index.search(query[None], max(count, 1), params=parameters)
            found = ids[0] >= 0
            if found.sum() >= most or not probes or probes >= self.index.nlist:
                return scores[0][found], ids[0][found].astype(np.int64)
            probes = self._more(probes, len(self) // 4)

    def _more(self, probes: int, left: int) -> int:
        """Lists that hold as many of the ``left`` rows as ``probes`` hold of all."""
        return min(self.index.nlist, -(-probes * len(self) // max(left, 1))) if probes else 0

    def _parameters(self, faiss: Any, selector: Any, probes: int) -> Any:
        chosen = {} if selector is None else {"sel": selector}
        if not self.probes:
            return faiss.SearchParameters(**chosen)
        return faiss.SearchParametersIVF(nprobe=probes, **chosen)


def load_faiss() -> Any:
    """The library, if it is installed."""
    with needed_packages("search"):
        import faiss
    return faiss


def chunks(vectors: Any) -> Iterator[Vectors]:
    """Float32 rows, not too many at a time."""
    for first in range(0, len(vectors), _CHUNK):
        yield np.ascontiguousarray(vectors[first : first + _CHUNK], np.float32)


def flat(width: int) -> Neighbours:
    """No rows yet; all that are added are compared."""
    return Neighbours(index=load_faiss().IndexFlatIP(width))


def make_neighbours(vectors: Any, width: int, queries: Vectors | None = None, *, seed: int = 0) -> Neighbours:
    """All of ``vectors``, which may lie on disk; ``queries`` are some as users ask them, to measure probes with."""
    faiss = load_faiss()
    rows = len(vectors)
    if rows <= FLAT_MOST:
        found = flat(width)
        found.add(vectors)
        return found
    lists = 2 ** round(math.log2(4 * math.sqrt(rows)))
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.permutation(rows)[: _SAMPLE * lists])
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.spherical, index.cp.seed = True, seed
    index.train(np.ascontiguousarray(vectors[sample], np.float32))
    found = Neighbours(index=index, probes=1, made_of=rows)
    found.add(vectors)
    rows_as_queries = np.asarray(vectors[np.sort(rng.permutation(rows)[:_TRIED])], np.float32)
    found.probes = max(_probes(found, vectors, some) for some in (rows_as_queries, queries) if some is not None)
    return found


def exact(vectors: Any, queries: Vectors, count: int) -> tuple[Float32[np.ndarray, "b k"], Int64[np.ndarray, "b k"]]:
    """Scores and numbers of the nearest of all ``vectors``, each compared, best first."""
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    first = 0
    for some in chunks(vectors):
        near = queries @ some.T
        kept = np.argpartition(-near, count - 1, axis=1)[:, :count] if count < len(some) else np.arange(len(some))[None]
        scores = np.concatenate([scores, np.take_along_axis(near, kept, axis=1)], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(first + kept, (len(queries), kept.shape[1]))], axis=1)
        first += len(some)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def recall(neighbours: Neighbours, queries: Vectors, best: Float32[np.ndarray, " b"]) -> float:
    """Share of the nearest rows that are found; ``best`` is the score of the last of them, of each query.

    By scores and not by numbers: frames that look the same are equally good.
    """
    hits = [(neighbours.nearest(q, NEAREST)[0] >= low - TIE).mean() for q, low in zip(queries, best, strict=True)]
    return float(np.mean(hits))


def _probes(made: Neighbours, vectors: Any, queries: Vectors) -> int:
    """The fewest lists, a power of two, in which enough of the nearest are found."""
    best = exact(vectors, queries, NEAREST)[0][:, -1]
    while made.probes < made.index.nlist and recall(made, queries, best) < _RECALL:
        made.probes *= 2
    return made.probes
