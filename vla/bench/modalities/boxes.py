"""How boxes that a model says meet those of what is seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from vla.core.media.boxes import is_centred_within, overlap, read_box

_HALF = 0.5
"""Of which a box that is found must overlap the true one, as detectors are counted."""


@dataclass(frozen=True, kw_only=True)
class Met:
    """One answer beside the true box; what is no box meets nothing."""

    overlap: float = 0.0
    """Intersection over union."""
    centred: bool = False
    """Its middle lies in the true box."""

    @property
    def found(self) -> bool:
        """Whether it counts as found."""
        return self.overlap >= _HALF


def meet(said: Sequence[str], right: Sequence[str]) -> list[Met]:
    """Each answer, beside what is right."""
    return [_met(answer, truth) for answer, truth in zip(said, right, strict=True)]


def _met(answer: str, truth: str) -> Met:
    box, true = read_box(answer), read_box(truth)
    assert true is not None, f"the scene knows no such box: {truth!r}"
    return Met() if box is None else Met(overlap=overlap(box, true), centred=is_centred_within(box, true))
