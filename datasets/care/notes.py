"""What imports assumed of all their episodes, or left out, as the segments that they wrote keep it."""

from collections.abc import Iterator
from typing import Any

from vla.datasets.dataset import Dataset
from vla.datasets.store.records import NOTES


def import_notes(dataset: Dataset) -> list[str]:
    """One sentence each, and each once; what is said of single episodes is in `EpisodeIndex.notes`."""
    segments = range(len(dataset.manifest.segments))
    return list(dict.fromkeys(note for number in segments for note in _within(dataset.provenance(number))))


def _within(provenance: dict[str, Any]) -> Iterator[str]:
    """Those of a segment, and of the segments that it was packed of."""
    for key, value in provenance.items():
        if key == NOTES and isinstance(value, list):
            yield from map(str, value)
        elif isinstance(value, dict):
            yield from _within(value)
