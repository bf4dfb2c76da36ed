"""Moments of episodes that deserve more samples than their number: each is a function of the recorded data alone."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from vla.core.types import BOX, PART, SCENE
from vla.datasets.sampling.windows import Windows

Stratum = Callable[[Windows], Bool[np.ndarray, " items"]]
"""Which items belong to it."""


def before_first_grasp(windows: Windows) -> Bool[np.ndarray, " items"]:
    """Two steps or more before the episode first closes its gripper; nothing where there is no gripper.

    There the arm's own pose does not yet give the object away, so that only looking tells where to go.
    """
    data, contract = windows.dataset, windows.dataset.contract
    if contract.gripper is None:
        return np.zeros(len(windows), bool)
    column = [d.name for d in contract.action].index(contract.gripper)
    dimension = contract.action[column]
    # Closing is below the middle, a tenth of the range to spare: larger opens.
    closing = data.action[:, column] < (dimension.low + dimension.high) / 2 + 0.1 * (dimension.high - dimension.low)
    first = np.full(len(data.episodes), len(data) + 1)  # beyond every step, where it never closes
    for episode, (start, length) in enumerate(zip(data.episode_starts, data.episode_lengths, strict=True)):
        if (hits := np.flatnonzero(closing[start : start + length])).size:
            first[episode] = start + hits[0]
    return np.asarray(windows.rows < first[windows.owner] - 1)


def questions(windows: Windows) -> Bool[np.ndarray, " items"]:
    """What is asked, where answers are learned; nothing else is drawn of them."""
    return windows.asks()


def scenes(windows: Windows) -> Bool[np.ndarray, " items"]:
    """Captions of all that a picture shows."""
    return windows.asks(SCENE)


def parts(windows: Windows) -> Bool[np.ndarray, " items"]:
    """Captions of one thing in a picture."""
    return windows.asks(PART)


def boxes(windows: Windows) -> Bool[np.ndarray, " items"]:
    """Questions where a thing is in the picture."""
    return windows.asks(BOX)


STRATA: dict[str, Stratum] = {
    "approach": before_first_grasp,
    "questions": questions,
    "scenes": scenes,
    "parts": parts,
    "boxes": boxes,
}
ASKING = (questions, scenes, parts, boxes)
"""Those that draw what is asked; the others draw steps to act in."""
