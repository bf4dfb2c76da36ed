"""Where the gripper is in pictures, found by how it moves; nobody says what it looks like.

While the tool stands still and the gripper closes or opens, what moves in the picture is the gripper: that gives some
points. What is the same around all of them, wherever the tool was, is the gripper's look, and is looked for in other
pictures. Each round of `follow` looks near where the projection of the round before expects it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from vla.collection.labels.projection import Form, Projection, fit_projection
from vla.collection.labels.tool import Places
from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset

_STILL = 0.005
"""Of the tool's travel: less is standing still."""
_STILLEST = 300
"""Closings and openings that are looked at: those in which the tool moved least."""
_MOST_STEPS = 5
"""That a gripper is given to close or open."""
_FEWEST = 20
"""Closings and openings of a tool that stands still, below which nothing is believed."""
_PATCH = 0.35
"""Side of the gripper's look, as a share of the picture's."""
_INSIDE = 0.7
"""Share of the look's weight that must be in the picture."""
_NEAR = (1.0, 0.4, 0.2, 0.2)
"""How far from where it is expected the gripper is looked for, in each round; the picture is 2 across."""
_TRUSTED = 0.1
"""Distance in the picture, which is 2 across, within which a pair counts as explained."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """Of one camera: where the gripper was seen, and what follows."""

    steps: Int64[np.ndarray, " m"]
    points: Float64[np.ndarray, "m 2"]
    projection: Projection
    explained: Bool[np.ndarray, " m"]

    def residuals(self, places: Places) -> Float64[np.ndarray, " m"]:
        """Distances of what was seen from where it is projected to; the picture is 2 across."""
        return np.linalg.norm(self.projection(places.rows[self.steps]) - self.points, axis=1)


def gripper_moves(
    dataset: Dataset, closed: Bool[np.ndarray, " t"], places: Places, episodes: Int64[np.ndarray, " _"]
) -> Int64[np.ndarray, "m 2"]:
    """Pairs of steps between which the gripper moved and the tool did not: before the command, and as late as it can."""
    found, moved = [], []
    still = _STILL * places.travel
    for start, length in zip(dataset.episode_starts[episodes], dataset.episode_lengths[episodes], strict=True):
        of_episode = closed[start : start + length]
        for flip in np.flatnonzero(of_episode[1:] != of_episode[:-1]) + 1:
            first = start + flip
            last = min(first + _MOST_STEPS, start + length - 1)
            away = np.linalg.norm(places.rows[first : last + 1] - places.rows[first], axis=1)
            stays = int(np.argmax(away > still)) - 1 if (away > still).any() else last - first
            if stays >= 1:
                found.append((first, first + stays))
                moved.append(away[stays])
    stillest = np.argsort(moved, kind="stable")[:_STILLEST]
    return np.array(found, np.int64).reshape(-1, 2)[stillest]


def read_pictures(dataset: Dataset, camera: str, steps: Int64[np.ndarray, " m"]) -> Float[np.ndarray, "m y x 3"]:
    """Pictures of some steps, 0 to 1."""
    shape = next(c.shape for c in dataset.contract.cameras if c.name == camera)
    out = np.empty((len(steps), *shape), np.uint8)
    dataset.read_frames(camera, steps, out)
    return out.astype(np.float32) / 255


def what_moved(before: Float[np.ndarray, "m y x 3"], after: Float[np.ndarray, "m y x 3"]) -> Float64[np.ndarray, "m 2"]:
    """The middle of what differs between two pictures, NaN where nothing does: weighted medians of row and column."""
    change = np.abs(after - before).sum(axis=-1)  # (m, y, x)
    change = np.where(change > 0.15, change, 0.0)
    middles = []
    for axis in (2, 1):
        along = change.sum(axis=axis).cumsum(axis=1)  # (m, y or x)
        total, size = along[:, -1:], along.shape[1]
        middle = (along < total / 2).sum(axis=1) + 0.5
        middles.append(np.where(total[:, 0] > 0, 2 * middle / size - 1, np.nan))
    return np.stack(middles, axis=1)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is the same around the gripper in all pictures."""

    mean: Float64[np.ndarray, "p p 3"]
    weight: Float64[np.ndarray, "p p 3"]
    """Large where pictures agree: that is the gripper, and what differs is what it stands before. Adds up to 1."""

    @staticmethod
    def of(pictures: Float[np.ndarray, "m y x 3"], points: Float[np.ndarray, "m 2"]) -> "Look":
        """The look around a point of each picture."""
        half = _half(pictures.shape[1:3])
        padded = np.pad(pictures, ((0, 0), (half, half), (half, half), (0, 0)), mode="edge")
        rows, columns = _pixels(points, pictures.shape[1:3]).round().astype(int).T
        offsets = np.arange(2 * half + 1)
        patches = padded[
            np.arange(len(pictures))[:, None, None],
            np.clip(rows, 0, pictures.shape[1] - 1)[:, None, None] + offsets[:, None],
            np.clip(columns, 0, pictures.shape[2] - 1)[:, None, None] + offsets,
        ].astype(np.float64)  # (m, p, p, 3)
        mean = np.median(patches, axis=0)
        weight = 1 / (np.abs(patches - mean).mean(axis=0) ** 2 + 0.05**2)
        return Look(mean=mean, weight=weight / weight.sum())

    def differences(self, pictures: Float[np.ndarray, "m y x 3"]) -> Float64[np.ndarray, "m y x"]:
        """Mean squared difference of what is around each pixel from the look; what is out of the picture is left out."""
        size = np.array(pictures.shape[1:3])
        shape = tuple((size + 2 * _half(size)).tolist())
        inside = np.ones((1, *size, 3), np.float32)

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
    look: Look, pictures: Float[np.ndarray, "m y x 3"], near: Float[np.ndarray, "m 2"] | None, reach: float
) -> Float64[np.ndarray, "m 2"]:
    """Where each picture looks most alike, within ``reach`` of ``near``; between pixels by a parabola."""
    size = pictures.shape[1:3]
    score = np.concatenate([look.differences(part) for part in np.array_split(pictures, len(pictures) // 100 + 1)])
    if near is not None:
        grids = [_points(np.arange(n)[:, None], (n,))[:, 0] for n in size]
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
    closed: Bool[np.ndarray, " t"],
    moves: Int64[np.ndarray, "m 2"],
    steps: Int64[np.ndarray, " f"],
    seed: int,
) -> Track:
    """See the module. ``moves`` are pairs as `gripper_moves` gives them, ``steps`` those at which it is looked for.

    `DatasetError` where too little moves, or nothing that is seen follows the tool.
    """
    before, after = (read_pictures(dataset, camera, column) for column in moves.T)
    middles = what_moved(before, after)
    seen = np.isfinite(middles).all(axis=1)
    if seen.sum() < _FEWEST:
        raise DatasetError(
            f"in {int(seen.sum())} of {len(moves)} closings and openings with a tool that stands still anything moves "
            f"in its pictures; at least {_FEWEST} are needed"
        )
    rng = np.random.default_rng(seed)
    projection, agreed = fit_projection(
        places.rows[moves[seen, 0]], middles[seen], form="affine", tolerance=_TRUSTED, rng=rng
    )
    if agreed.sum() < _FEWEST:
        raise DatasetError(
            f"what moves in its pictures while the gripper does and the tool does not is at no place that follows the "
            f"tool: {int(agreed.sum())} of {int(seen.sum())} closings and openings agree, at least {_FEWEST} are needed"
        )
    steps = np.unique(np.concatenate([steps, moves[seen][agreed].ravel()]))
    pictures, of_moves = read_pictures(dataset, camera, steps), np.isin(steps, moves[seen][agreed])
    form: Form = "pinhole" if places.metric else "quadratic"
    points, explained = np.full((len(steps), 2), np.nan), of_moves
    for reach in _NEAR:
        expected = projection(places.rows[steps])
        for state in (False, True):
            rows = closed[steps] == state
            look = Look.of(pictures[rows & explained], expected[rows & explained])
            points[rows] = find(look, pictures[rows], expected[rows], reach)
        known = np.isfinite(points).all(axis=1)
        projection, among = fit_projection(
            places.rows[steps[known]], points[known], form=form, tolerance=_TRUSTED, rng=rng
        )
        explained = known.copy()
        explained[known] = among
    return Track(steps=steps[known], points=points[known], projection=projection, explained=explained[known])
