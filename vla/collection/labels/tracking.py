"""Where the gripper is in pictures, found by how it moves; nobody says what it looks like.

While the tool stands still and the gripper closes or opens, what moves in the picture is the gripper: that gives some
points. What is the same around all of them, wherever the tool was, is the gripper's look, and is looked for in other
pictures. Each round of `follow` looks near where the projection of the round before expects it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from vla.collection.labels.projection import Form, Projection, fit_projection
from vla.collection.labels.tool import Places
from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset

_STILL = 0.015
"""Of the tool's travel: more is not standing still."""
_STILLEST = 300
"""Closings and openings that are looked at: those in which the gripper moved most, and the tool least."""
_MOST_STEPS = 5
"""That a gripper is given to close or open."""
_FEWEST = 15
"""Closings and openings of a tool that stands still, below which nothing is believed."""
_MOST_SIDE = 96
"""Pixels of the pictures that are looked at: more make it no surer."""
_CHANGED = 0.02
"""Squared change of a pixel's colour, 0 to 1, below which it is noise."""
_STANDS_OUT = 0.06
"""Change of a colour of a pixel, 0 to 1, from that on which something is before the background."""
_ALIKE = 0.3
"""Difference of pictures at one place of a look, 0 to 1, below which they are about the same there."""
_WINDOW = 0.06
"""Deviation of the window in which a gripper moves, as a share of the picture's side."""
_PATCH = 0.35
"""Side of the gripper's look, as a share of the picture's."""
_INSIDE = 0.7
"""Share of the look's weight that must be in the picture."""
_ROUNDS = ((0.1, 0.3, False), (0.2, 0.3, False), (0.4, 0.3, True), (1.0, 0.3, True), (1.0, 0.2, True))
"""Of each round: how far from where grippers moved the tool may be, of its travel; how far from where it is expected
the gripper is looked for, the picture is 2 across; and whether perspective is fitted."""
_TRUSTED = 0.1
"""Distance in the picture, which is 2 across, within which a pair counts as explained."""


class NoProjectionError(DatasetError):
    """A camera is of no use for labels, and why; a damaged dataset is another error."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """Of one camera: where the gripper was seen, and what follows."""

    steps: Int64[np.ndarray, " m"]
    points: Float64[np.ndarray, "m 2"]
    projection: Projection
    explained: Bool[np.ndarray, " m"]

    def residuals(self, places: Places) -> Float64[np.ndarray, " m"]:
        """Distances of what was seen from where it is projected to; the picture is 2 across."""
        return np.asarray(np.linalg.norm(self.projection(places.rows[self.steps]) - self.points, axis=1))


def gripper_moves(
    dataset: Dataset, closed: Bool[np.ndarray, " t"], places: Places, episodes: Int64[np.ndarray, " _"]
) -> Int64[np.ndarray, "m 2"]:
    """Pairs of steps between which the gripper moved much and the tool little, the first that of the command.

    How far it is says the state, where it has a dimension of the gripper's name; else it takes its time.
    """
    names = [d.name for d in dataset.contract.state]
    column = names.index(dataset.contract.gripper) if dataset.contract.gripper in names else None
    pairs, scores = [], []
    for start, length in zip(dataset.episode_starts[episodes], dataset.episode_lengths[episodes], strict=True):
        of_episode = closed[start : start + length]
        for flip in np.flatnonzero(of_episode[1:] != of_episode[:-1]) + 1:
            steps = np.arange(start + flip, min(start + flip + _MOST_STEPS, start + length - 1) + 1)
            if len(steps) < 2:
                continue
            away = np.linalg.norm(places.rows[steps] - places.rows[steps[0]], axis=1)
            done = np.arange(len(steps)) / _MOST_STEPS
            if column is not None:
                done = np.abs(dataset.state[steps, column] - dataset.state[steps[0], column])
                done = done / max(done.max(), 1e-9)
            score = (done - away / (_STILL * places.travel))[1:]
            pairs.append((steps[0], steps[1 + score.argmax()]))
            scores.append(score.max())
    good = np.argsort(scores, kind="stable")[::-1][:_STILLEST]
    return np.array(pairs, np.int64).reshape(-1, 2)[[i for i in good if scores[i] > 0]]


def read_pictures(dataset: Dataset, camera: str, steps: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m y x 3"]:
    """Pictures of some steps, 0 to 1; large ones are made small by a whole factor."""
    height, width, _ = next(c.shape for c in dataset.contract.cameras if c.name == camera)
    factor = -(-max(height, width) // _MOST_SIDE)
    y, x = height // factor, width // factor
    small = np.empty((len(steps), y, x, 3), np.float32)
    for part in np.array_split(np.arange(len(steps)), len(steps) // 64 + 1):
        out = np.empty((len(part), height, width, 3), np.uint8)
        dataset.read_frames(camera, steps[part], out)
        blocks = out[:, : y * factor, : x * factor].reshape(len(part), y, factor, x, factor, 3)
        small[part] = blocks.mean(axis=(2, 4)) / 255
    return small


def what_stands_out(dataset: Dataset, camera: str, steps: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m y x 4"]:
    """Pictures without what is as in the first of the episode, or as in most of the dataset; and where some is left.

    Without the former, a thing that is grasped in every episode would be taken for a part of the gripper; without the
    latter, so would the place that the arm has left.
    """
    pictures = read_pictures(dataset, camera, steps)
    starts = dataset.episode_starts[np.searchsorted(dataset.episode_starts, steps, side="right") - 1]
    kinds, of_start = np.unique(starts, return_inverse=True)
    first = read_pictures(dataset, camera, kinds)[of_start]
    usual = np.median(pictures, axis=0)
    away = [np.abs(pictures - other).max(axis=-1, keepdims=True) > _STANDS_OUT for other in (first, usual)]
    there = away[0] & away[1]
    return np.asarray(np.concatenate([np.where(there, pictures, 0.0), there], axis=-1), np.float32)


def what_moved(
    before: Float32[np.ndarray, "m y x 3"], after: Float32[np.ndarray, "m y x 3"]
) -> Float64[np.ndarray, "m 2"]:
    """Where most differs between two pictures, NaN where nothing does: the middle of the window that changes most.

    An arm that sways changes along its edges, all over the picture; what moved changes in one place.
    """
    change = np.square(after - before).sum(axis=-1)  # (m, y, x)
    change = np.where(change > _CHANGED, change, 0.0)
    size = change.shape[1:]
    rows, columns = (np.arange(n, dtype=np.float64) for n in size)
    width = _WINDOW * min(size)
    smooth = np.einsum("ij,mjk,lk->mil", _gaussian(rows, rows, width), change, _gaussian(columns, columns, width))
    best = np.stack(np.unravel_index(smooth.reshape(len(smooth), -1).argmax(axis=1), size), axis=1)
    weight = _gaussian(best[:, 0], rows, width)[:, :, None] * _gaussian(best[:, 1], columns, width)[:, None] * change
    total = weight.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        pixels = np.stack([weight.sum(axis=2) @ rows, weight.sum(axis=1) @ columns], axis=1) / total[:, None]
    return _points(pixels, size)


def _gaussian(centres: np.ndarray, at: np.ndarray, width: float) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * ((centres[:, None] - at) / width) ** 2))


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is the same around the gripper in all pictures."""

    mean: Float64[np.ndarray, "p p c"]
    weight: Float64[np.ndarray, "p p c"]
    """Large where pictures agree: that is the gripper, and what differs is what it stands before. Adds up to 1."""

    @staticmethod
    def of(pictures: Float32[np.ndarray, "m y x c"], points: Float[np.ndarray, "m 2"]) -> "Look":
        """The look around a point of each picture."""
        half = _half(pictures.shape[1:3])
        padded = np.pad(pictures, ((0, 0), (half, half), (half, half), (0, 0)), mode="edge")
        rows, columns = _pixels(points, pictures.shape[1:3]).round().astype(int).T
        offsets = np.arange(2 * half + 1)
        patches = padded[
            np.arange(len(pictures))[:, None, None],
            np.clip(rows, 0, pictures.shape[1] - 1)[:, None, None] + offsets[:, None],
            np.clip(columns, 0, pictures.shape[2] - 1)[:, None, None] + offsets,
        ].astype(np.float64)  # (m, p, p, c)
        mean = np.median(patches, axis=0)
        weight = 1 / (np.abs(patches - mean).mean(axis=0) ** 2 + _ALIKE**2)
        return Look(mean=mean, weight=weight / weight.sum())

    def differences(self, pictures: Float32[np.ndarray, "m y x c"]) -> Float64[np.ndarray, "m y x"]:
        """Mean squared difference of what is around each pixel from the look, as far as it is in the picture."""
        size = np.array(pictures.shape[1:3])
        shape = tuple((size + 2 * _half(size)).tolist())
        inside = np.ones((1, *size, pictures.shape[-1]), np.float32)

        def correlated(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
            kernel = kernel[::-1, ::-1].astype(np.float32)
            spectrum = np.fft.rfft2(images, shape, axes=(1, 2)) * np.fft.rfft2(kernel, shape, axes=(0, 1))
            half = _half(size)
            whole = np.fft.irfft2(spectrum.sum(axis=-1), shape, axes=(1, 2))
            return np.asarray(whole[:, half : half + size[0], half : half + size[1]])

        weights = np.maximum(correlated(inside, self.weight), 1e-6)
        squares = correlated(pictures**2, self.weight) - 2 * correlated(pictures, self.weight * self.mean)
        total = squares + correlated(inside, self.weight * self.mean**2)
        return np.asarray(np.where(weights > _INSIDE, total / weights, np.inf))


def _half(size: Sequence[int] | np.ndarray) -> int:
    return max(3, round(_PATCH * min(size) / 2))


def _pixels(points: Float[np.ndarray, "m 2"], size: Sequence[int]) -> Float64[np.ndarray, "m 2"]:
    """Points as rows and columns of pixels, whose centres are whole numbers."""
    return np.asarray((points + 1) / 2 * np.array(size) - 0.5)


def _points(pixels: Float[np.ndarray, "m 2"], size: Sequence[int]) -> Float64[np.ndarray, "m 2"]:
    return np.asarray((2 * pixels + 1) / np.array(size) - 1)


def find(
    look: Look, pictures: Float32[np.ndarray, "m y x c"], near: Float[np.ndarray, "m 2"] | None, reach: float
) -> Float64[np.ndarray, "m 2"]:
    """Where each picture looks most alike, within ``reach`` of ``near``; between pixels by a parabola."""
    size = pictures.shape[1:3]
    score = np.concatenate([look.differences(part) for part in np.array_split(pictures, len(pictures) // 100 + 1)])
    if near is not None:
        grids = [(2 * np.arange(n) + 1) / n - 1 for n in size]
        away = np.hypot(grids[0][:, None] - near[:, :1, None], grids[1] - near[:, 1:, None])  # (m, y, x)
        score = np.where(away < reach, score, np.inf)
    flat = score.reshape(len(score), -1)
    rows, columns = np.unravel_index(flat.argmin(axis=1), size)
    pixels = np.stack([rows, columns], axis=1).astype(np.float64)
    each = np.arange(len(score))
    for axis, (place, most) in enumerate(((rows, size[0] - 1), (columns, size[1] - 1))):
        low, high = np.clip(place - 1, 0, most), np.clip(place + 1, 0, most)
        a = score[each, low, columns] if axis == 0 else score[each, rows, low]
        c = score[each, high, columns] if axis == 0 else score[each, rows, high]
        b = score[each, rows, columns]
        with np.errstate(invalid="ignore", divide="ignore"):
            shift = 0.5 * (a - c) / (a - 2 * b + c)
        pixels[:, axis] += np.where(np.isfinite(shift) & (low < place) & (place < high), np.clip(shift, -0.5, 0.5), 0.0)
    found = _points(pixels, size)
    found[~np.isfinite(flat.min(axis=1))] = np.nan
    return found


def follow(
    dataset: Dataset,
    camera: str,
    places: Places,
    seen_closed: Bool[np.ndarray, " t"],
    moves: Int64[np.ndarray, "m 2"],
    steps: Int64[np.ndarray, " f"],
    seed: int,
) -> Track:
    """See the module. ``moves`` are pairs as `gripper_moves` gives them, ``steps`` those at which it is looked for.

    An open and a closed gripper have looks of their own.

    `NoProjectionError` where too little moves, or nothing that is seen follows the tool.
    """
    before, after = (read_pictures(dataset, camera, column) for column in moves.T)
    middles = what_moved(before, after)
    seen = np.isfinite(middles).all(axis=1)
    if seen.sum() < _FEWEST:
        raise NoProjectionError(
            f"in {int(seen.sum())} of {len(moves)} closings and openings with a tool that stands still anything moves "
            f"in its pictures; at least {_FEWEST} are needed"
        )
    rng = np.random.default_rng(seed)
    projection, agreed = fit_projection(
        places.rows[moves[seen, 0]], middles[seen], form="affine", tolerance=_TRUSTED, rng=rng
    )
    if agreed.sum() < _FEWEST:
        raise NoProjectionError(
            f"what moves in its pictures while the gripper does and the tool does not is at no place that follows the "
            f"tool: {int(agreed.sum())} of {int(seen.sum())} closings and openings agree, at least {_FEWEST} are needed"
        )
    steps = np.unique(np.concatenate([steps, moves[seen][agreed].ravel()]))
    pictures, of_moves = what_stands_out(dataset, camera, steps), np.isin(steps, moves[seen][agreed])
    form: Form = "pinhole" if places.metric else "quadratic"
    anchors = places.rows[moves[seen][agreed, 0]]
    beyond = np.linalg.norm(places.rows[steps][:, None] - anchors, axis=2).min(axis=1) / places.travel
    explained = of_moves
    for further, reach, perspective in _ROUNDS:
        expected, near = projection(places.rows[steps]), beyond <= further
        points = np.full((len(steps), 2), np.nan)
        for state in (False, True):
            rows, sure = (seen_closed[steps] == state) & near, (seen_closed[steps] == state) & explained
            if sure.any():
                look = Look.of(pictures[sure], expected[sure])
                points[rows] = find(look, pictures[rows], expected[rows], reach)
        known = np.isfinite(points).all(axis=1)
        projection, among = fit_projection(
            places.rows[steps[known]],
            points[known],
            form=form if perspective else "affine",
            tolerance=_TRUSTED,
            rng=rng,
        )
        explained = known.copy()
        explained[known] = among
    # A look holds on to the gripper, but not to which point of it: that is where it moved.
    by = np.median(middles[seen][agreed] - projection(places.rows[moves[seen][agreed, 0]]), axis=0)
    return Track(
        steps=steps[known], points=points[known] + by, projection=projection.moved(by), explained=explained[known]
    )
