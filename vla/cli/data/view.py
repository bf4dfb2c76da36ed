"""``vla data view``: a web page of one episode, or a Rerun recording."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse

_EXAMPLES = """  vla data view data/place --episode 3 --out episode.html
  vla data view data/place --episode 3 --out episode.rrd"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write one episode as a self-contained web page: cameras in sync with plots of state and action.

    A file that ends in .rrd becomes a Rerun recording instead (needs rerun-sdk).
    """

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    episode: int = 0
    """Number of the episode."""
    uid: str | None = None
    """Or its uid."""
    out: Path | None = None
    """File to write; by default DATASET-EPISODE.html in this folder."""
    manifest: int | None = None
    """Version; the latest by default."""


def main(argv: list[str]) -> int:
    """Read, render, write."""
    arguments = parse(Arguments, argv, verb="data view", examples=_EXAMPLES)
    import numpy as np

    from vla.core.errors import DatasetError
    from vla.core.files import write_atomic
    from vla.datasets.dataset import Dataset
    from vla.datasets.storage.storage import location_name

    dataset = Dataset.open(arguments.dataset, arguments.manifest)
    number = arguments.episode
    if arguments.uid is not None:
        found = np.flatnonzero(dataset.episodes.uids == arguments.uid.encode())
        if not len(found):
            raise DatasetError(f"{dataset.url}: no episode {arguments.uid!r} in version {dataset.manifest.number}")
        number = int(found[0])
    if not 0 <= number < len(dataset.episodes):
        raise DatasetError(f"{dataset.url}: episode {number}, expected 0 to {len(dataset.episodes) - 1}")
    out = arguments.out or Path(f"{location_name(dataset.url)}-{number}.html")
    if out.suffix == ".rrd":
        from vla.report.episode.of_dataset import episode_title
        from vla.report.episode.rerun import write_rrd

        write_rrd(dataset.read_episode(number), dataset.contract, out, title=episode_title(dataset, number))
    else:
        from vla.report.episode.of_dataset import render_dataset_episode

        write_atomic(out, render_dataset_episode(dataset, number).encode())
    console().print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0
