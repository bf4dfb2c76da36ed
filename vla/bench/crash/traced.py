"""What is traced for the power cut: one process that records, writes, publishes and packs, and notes what is safe.

Run as ``python -m vla.bench.crash.traced ROOT NOTES``: ``NOTES`` gets a line each time that something was reported to
be committed, by a write that the trace shows too.
"""

import json
import os
import sys
from pathlib import Path

from vla.bench.crash.episodes import CONTRACT, digest, make
from vla.bench.crash.recording import hand_over, recorder_of
from vla.datasets.care.pack import pack
from vla.datasets.dataset import Dataset
from vla.datasets.edit import relabel
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter


def main(root: Path, notes: int) -> None:
    """Everything once."""
    for seeds in ((1, 2), (3,)):
        with SegmentWriter(root, CONTRACT, {"role": "writer"}) as writer:
            found = {writer.append(make(seed)): digest(make(seed)) for seed in seeds}
            segment = writer.seal()
            _note(notes, found)
            publish(root, [segment], "power cut")
    _record(root, notes, 5)
    pack(root)
    dataset = Dataset.open(root)
    relabel(dataset, {dataset.episodes[0].uid: {"split": dataset.episodes[0].split}}, "power cut")
    _record(root, notes, 6)


def _record(root: Path, notes: int, seed: int) -> None:
    episode = make(seed)
    with recorder_of(root, episode) as writer:
        for _ in hand_over(writer, episode):
            pass
        _note(notes, {writer.finish(episode.success): digest(episode)})


def _note(notes: int, found: dict[str, str]) -> None:
    os.write(notes, (json.dumps(found) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
