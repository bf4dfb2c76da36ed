"""Several sequences in one row, so that short ones leave no padding to compute."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from vla.models.trunk.sequence import Segment, joined, side_by_side


def pack(sequences: Sequence[Sequence[Segment]]) -> Segment:
    """One segment whose rows hold all ``sequences``, each of which begins at position 0 and sees nothing but itself.

    A sequence is segments one behind the other, of the same ``b`` samples as those of the other sequences. What is read
    is cut apart again by the lengths.
    """
    each = [joined(parts) for parts in sequences]
    numbered = [replace(one, segment=number) for number, one in enumerate(each)]
    return side_by_side(numbered, torch.cat([one.positions(0) for one in each]))
