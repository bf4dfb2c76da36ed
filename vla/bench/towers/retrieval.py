"""What a two-tower checkpoint finds among scenes that it has not seen, and which sentences it tells apart."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla.bench.measure import Note, Row
from vla.bench.settings import RetrievalConfig
from vla.bench.towers.captions import Caption, captions, exchanged, pictures, resting, turned, unique_scenes
from vla.core.errors import ConfigError, DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.scenes import recorded_settings
from vla.evaluation.statistics import success_rate
from vla.models.contrastive.embedder import Embedder
from vla.paradigms.probes import KINDS, by_likeness, make_probes
from vla.training.held_out import held_out

_PROBED = "tabletop/place"
"""What `vla.paradigms.probes` are made of."""
_BARS = {"binding": 10.0}
"""Most of them that may be mistaken, in percent: "red on blue" against "blue on red" where all four are there."""


def bench_retrieval(config: RetrievalConfig, note: Note) -> list[Row]:
    """Sentences whose picture is not found, and pairs of sentences that are mistaken for each other, in percent."""
    if not config.checkpoint or not config.dataset:
        raise ConfigError("bench retrieval: which of both? vla bench retrieval RUN/checkpoint DATASET")
    embedder, dataset = Embedder.open(Path(config.checkpoint)), Dataset.open(config.dataset)
    episodes = held_out(Path(config.checkpoint), dataset)
    every = captions(dataset, episodes)
    scenes = unique_scenes(every, config.scenes, config.seed)
    if len(scenes) < 2:
        raise DatasetError(
            f"{dataset.url}: expected two captions or more of scenes that {config.checkpoint} has not learned from, "
            f"got {len(scenes)} of {len(episodes)} episodes; collect some with vla collect --captions 2 --seed 600000"
        )
    note(f"{len(scenes)} unique captions of {len(episodes)} episodes that {config.checkpoint} has not learned from")
    images = embedder.images(pictures(dataset, embedder.camera, scenes))
    places = ranks(images, embedder.texts([caption.text for caption in scenes]))
    return [
        share(f"sentence to picture, not the first of {len(scenes)}", places > 0, bar=20.0),
        share(f"sentence to picture, not among the first five of {len(scenes)}", places > 4),
        *_told_apart(embedder, dataset, "what lies on what, colours exchanged", resting(every)),
        *_told_apart(embedder, dataset, "whole scenes, colours of two things exchanged", exchanged(every)),
        *_told_apart(embedder, dataset, "what is beside what, the side turned round", turned(every)),
        *_probed(embedder, dataset, config.probes, note),
    ]


def ranks(images: Float32[np.ndarray, "b e"], texts: Float32[np.ndarray, "b e"]) -> Int64[np.ndarray, " b"]:
    """How many pictures are nearer to each sentence than its own."""
    near = texts @ images.T
    own = np.diagonal(near)[:, None]
    # As near as its own is no better than chance: half of those count as nearer, or all alike would be all right.
    found: np.ndarray = (near > own).sum(axis=1) + (near == own).sum(axis=1) // 2
    return found


def _told_apart(embedder: Embedder, dataset: Dataset, name: str, pairs: Iterable[tuple[Caption, str]]) -> list[Row]:
    """Moments at which the sentence that is true is not the nearer one; nothing where the data has none.

    No goal: the false sentence often names what is not there, which is easier than telling who lies on whom. For that
    there are the probes.
    """
    moments = list(pairs)
    if not moments:
        return []
    right, wrong = zip(*((caption.text, other) for caption, other in moments), strict=True)
    images = embedder.images(pictures(dataset, embedder.camera, [caption for caption, _ in moments]))
    near = [(images * embedder.texts(texts)).sum(axis=1) for texts in (right, wrong)]
    return [share(f"{name}, mistaken", near[0] <= near[1])]


def _probed(embedder: Embedder, dataset: Dataset, count: int, note: Note) -> list[Row]:
    """Statements of new scenes that are mistaken for their opposites, in which only what words bind decides."""
    tasks, _ = dataset.episodes.column("task")
    if not count or _PROBED not in tasks:
        note(f"no probes: {'none are asked for' if not count else f'these are of {_PROBED}'}")
        return []
    judge, settings = by_likeness(embedder, embedder.camera), recorded_settings(dataset, 0)
    found = {kind: judge(make_probes(kind, count, settings=settings)) for kind in KINDS}
    return [share(f"probe of {kind}, mistaken", ~np.array(right), bar=_BARS.get(kind)) for kind, right in found.items()]


def share(name: str, wrong: Bool[np.ndarray, " b"], bar: float | None = None) -> Row:
    """How much is wrong, in percent, with its 95 % interval."""
    rate = success_rate(int(wrong.sum()), len(wrong))
    title = f"{name} ({100 * rate.low:.1f} to {100 * rate.high:.1f} % of {len(wrong)})"
    return Row(name=title, value=100 * rate.rate, unit="%", bar=bar)
