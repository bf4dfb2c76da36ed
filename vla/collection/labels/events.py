"""What the gripper did, read off the commands and the way of the tool: when something was grasped, and when let go.

What is labelled and why: the next keyframe of the gripper (StaKe, arXiv 2606.26801), where it closed and opened seen
from the moments before (PARA, SPARC arXiv 2606.13497).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from vla.collection.labels.tool import Places
from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset

_SPARE = 0.1
"""Of the range of the commands: how far beyond the middle the gripper closes or opens, so that noise is no event."""
_STILL_RANGE = 0.05
"""Of the limits: a gripper whose commands stay within does nothing."""


@dataclass(frozen=True, kw_only=True)
class Grasp:
    """Steps of an episode: the command to close, and the one to open, None where it holds to the end."""

    closed: int
    opened: int | None


def gripper_closed(dataset: Dataset) -> Bool[np.ndarray, " t"]:
    """Whether the gripper is told to be closed at each step, with hysteresis about the middle of what it is told."""
    contract = dataset.contract
    if contract.gripper is None:
        raise DatasetError(
            f"dataset {dataset.url}: its contract names no gripper, whose events would be labelled; "
            "name it where the data is imported (vla data convert --describe)"
        )
    column = [d.name for d in contract.action].index(contract.gripper)
    limits, commands = contract.action[column], dataset.action_executed[:, column]
    low, high = np.quantile(commands, (0.01, 0.99)) if len(commands) else (0.0, 0.0)
    if high - low < _STILL_RANGE * (limits.high - limits.low):
        raise DatasetError(
            f"dataset {dataset.url}: the gripper {contract.gripper} never moves: its commands stay between {low:g} and "
            f"{high:g} of [{limits.low:g}, {limits.high:g}]; there is no event to label"
        )
    share = (commands - low) / (high - low)
    closed = np.zeros(len(share), bool)
    for start, length in zip(dataset.episode_starts, dataset.episode_lengths, strict=True):
        now = bool(share[start] < 0.5)
        for step in range(start, start + length):
            now = bool(share[step] < (0.5 + _SPARE if now else 0.5 - _SPARE))
            closed[step] = now
    return closed


def seen_closed(dataset: Dataset, closed: Bool[np.ndarray, " t"]) -> Bool[np.ndarray, " t"]:
    """Whether the gripper looks closed in the picture of each step, which is older than the step's command."""
    before = np.arange(len(closed)) - 1
    before[dataset.episode_starts] += 1
    return np.asarray(closed[before])


def grasps(closed: Bool[np.ndarray, " t"], rows: Float[np.ndarray, "t k"], carried: float) -> list[Grasp]:
    """Closings of one episode after which the tool moved by more than ``carried``, or that hold to its end.

    Others are tries: the gripper opened again where it was.
    """
    flips = (np.flatnonzero(closed[1:] != closed[:-1]) + 1).tolist()
    found = []
    for step, until in zip(flips, [*flips, len(closed)][1:], strict=True):
        away = np.linalg.norm(rows[step:until] - rows[step], axis=1).max()
        if closed[step] and (away > carried or until == len(closed)):
            found.append(Grasp(closed=step, opened=until if until < len(closed) else None))
    return found


@dataclass(frozen=True, kw_only=True)
class Coming:
    """What comes, seen from each step; rows of a dataset, -1 where nothing of the kind comes in the episode."""

    closing: Int64[np.ndarray, " t"]
    """Where the next grasp begins, this step included."""
    opening: Int64[np.ndarray, " t"]
    """Where the present grasp ends, or else the next one."""

    @property
    def next(self) -> Int64[np.ndarray, " t"]:
        """The nearer of both."""
        both = np.stack([self.closing, self.opening])
        nearest = np.where(both < 0, np.iinfo(np.int64).max, both).min(axis=0)
        return np.where((both < 0).all(axis=0), -1, nearest)


def coming_events(dataset: Dataset, places: Places, carried: float) -> Coming:
    """Read off all episodes; a dataset in which nothing is ever grasped is refused."""
    closed = gripper_closed(dataset)
    closing, opening = np.full((2, len(closed)), -1, np.int64)
    reach = carried * places.travel
    for start, length in zip(dataset.episode_starts.tolist(), dataset.episode_lengths.tolist(), strict=True):
        rows = slice(start, start + length)
        begin = 0
        for grasp in grasps(closed[rows], places.rows[rows], reach):
            closing[start + begin : start + grasp.closed + 1] = start + grasp.closed
            end = length if grasp.opened is None else grasp.opened
            if grasp.opened is not None:
                opening[start + begin : start + end + 1] = start + end
            begin = end + 1
    if (closing < 0).all():
        raise DatasetError(
            f"dataset {dataset.url}: nothing is ever grasped: after no closing of the gripper does the tool move by "
            f"{reach:.2g} {places.dimensions[0].unit} before it opens (--carried {carried:g} of its travel)"
        )
    return Coming(closing=closing, opening=opening)
