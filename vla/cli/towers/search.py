"""``vla search``: find frames and episodes by words or by a picture."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import Cluster, console, parse, progress, write_result
from vla.core.errors import ConfigError
from vla.core.machine.engines import EngineChoice
from vla.core.machine.processes import cores
from vla.search.settings import FramesConfig, Wanted

if TYPE_CHECKING:
    from vla.datasets.dataset import Dataset
    from vla.search.embedding import Embedder, Opener
    from vla.search.hits import Hit, Searched

_EXAMPLES = """  vla search data/place "red block on blue plate" --checkpoint runs/two-tower/checkpoint
  vla search data/place "red block held" --checkpoint runs/two-tower/checkpoint --success False --html hits.html
  vla search data/place --image photo.jpg --checkpoint runs/two-tower/checkpoint --by frame --hits 30
  vla search data/place --frame 3:25:front --checkpoint runs/two-tower/checkpoint --also data/stack"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Find frames and episodes of datasets by words or by a picture.

    A model of two towers gives frames and words vectors that can be compared. The vectors of a dataset are kept in an
    index in its folder, DATASET/search, which grows when the dataset does: only new episodes are embedded.
    """

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    query: Annotated[str, tyro.conf.Positional] = ""
    """What is looked for, in words."""
    checkpoint: Path | None = None
    """A model of two towers."""
    image: Path | None = None
    """What is looked for, as a PNG or JPEG."""
    frame: str | None = None
    """What is looked for, as a frame of the dataset: EPISODE:STEP or EPISODE:STEP:CAMERA."""
    also: tuple[str, ...] = ()
    """More datasets, searched together with the first."""
    wanted: Annotated[Wanted, tyro.conf.arg(name="")] = field(default_factory=Wanted)
    index: Path | None = None
    """Folder for the indexes; by default each lies in the folder of its dataset."""
    every: int | None = None
    """Every so manieth frame of an episode is embedded, beside its first and last; 5 where an index is new."""
    update: bool = True
    """Embed episodes that the index does not have yet."""
    manifest: int | None = None
    """Version of the dataset; the latest by default."""
    workers: int = cores()
    engine: EngineChoice = "auto"
    """auto shares work out where that saves time."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
    html: Path | None = None
    """Write a contact sheet to this file, and beside it a page of each episode, which opens at the frame."""
    json: Path | None = None
    """Write the hits to this file."""


def main(argv: list[str]) -> int:
    """Embed what is new, search, show."""
    arguments = parse(Arguments, argv, verb="search", examples=_EXAMPLES)
    _require_one_query(arguments)
    if arguments.checkpoint is None:
        raise ConfigError("search: which model? give --checkpoint RUN/checkpoint, one of two towers")
    from vla.datasets.dataset import Dataset
    from vla.models.contrastive.embedder import Embedder
    from vla.search.hits import choose, find
    from vla.search.neighbours import load_faiss
    from vla.search.query import embed_query

    load_faiss()
    datasets = [Dataset.open(arguments.dataset, arguments.manifest), *map(Dataset.open, arguments.also)]
    query = _query(arguments, datasets[0])
    choose(datasets, arguments.wanted)  # what is mistyped is said before anything is embedded
    embedder = Embedder.open(arguments.checkpoint)
    searched = _searched(arguments, datasets, embedder, partial(Embedder.open, arguments.checkpoint))
    vector = embed_query(embedder, query)
    began_s = time.perf_counter()
    hits = find(vector, searched, arguments.wanted)
    took_s = time.perf_counter() - began_s
    rows = sum(len(one.index) for one in searched)
    console().print(_table(hits) if hits else "nothing: no episode is left by what was asked for")
    console().print(f"{len(hits)} of {rows:,} frames in {1e3 * took_s:.1f} ms", style="dim")
    facts = {"model": str(arguments.checkpoint), "digest": embedder.digest, "frames": f"{rows:,}"}
    said = facts | {"query": arguments.query or str(arguments.image or arguments.frame)}
    if arguments.html is not None:
        from vla.report.search.page import write_sheet

        write_sheet(arguments.html, query, hits, facts=said | {"datasets": ", ".join(d.url for d in datasets)})
        console().print(f"{arguments.html} ({arguments.html.stat().st_size / 1e3:,.0f} kB)")
    write_result(arguments.json, {**said, "seconds": took_s, "hits": [hit.facts() for hit in hits]})
    return 0


def _require_one_query(arguments: Arguments) -> None:
    given = [name for name in ("query", "image", "frame") if getattr(arguments, name)]
    if len(given) != 1:
        said = f"got {' and '.join(given)}" if given else "got nothing"
        raise ConfigError(f"search: what is looked for? expected words, --image FILE or --frame EPISODE:STEP, {said}")


def _query(arguments: Arguments, dataset: "Dataset") -> Any:
    """Words, or pixels."""
    from vla.search.query import picture_of_file, picture_of_frame

    if arguments.image is not None:
        return picture_of_file(arguments.image)
    return picture_of_frame(dataset, arguments.frame) if arguments.frame is not None else arguments.query


def _searched(
    arguments: Arguments, datasets: "Sequence[Dataset]", embedder: "Embedder", opener: "Opener"
) -> "list[Searched]":
    """Bring the indexes up to date, with a progress bar where there is something to do."""
    from vla.search.session import open_searched
    from vla.search.update import Updating

    with progress("frames") as bar:
        tasks: list[Any] = []
        seen = [0]

        def begin(episodes: int) -> None:
            tasks.append(bar.add_task("embed", total=episodes, frames=""))

        def advance(frames: int) -> None:
            seen[0] += frames
            bar.update(tasks[-1], advance=1, frames=f"{seen[0]:,} frames")

        return open_searched(
            datasets,
            embedder,
            opener,
            base=arguments.index,
            frames=None if arguments.every is None else FramesConfig(every=arguments.every),
            how=Updating(workers=arguments.workers, engine=arguments.engine, on_begin=begin, on_frames=advance),
            update=arguments.update,
        )


def _table(hits: "Sequence[Hit]") -> Any:
    from rich.table import Table
    from rich.text import Text

    several = len({hit.dataset.url for hit in hits}) > 1
    table = Table(
        "score", *(["dataset"] if several else []), "episode", "step", "s", "camera", "success", "instruction"
    )
    for hit in hits:
        facts: Mapping[str, Any] = hit.facts()
        success = {None: "–", True: "yes", False: "no"}[facts["success"]]
        cells = [f"{hit.score:.3f}", *([facts["dataset"]] if several else []), str(hit.episode), str(hit.step)]
        words = Text(facts["instruction"])  # which is no markup
        table.add_row(*cells, f"{hit.time_s:.1f}", hit.camera, success, words)
    return table
