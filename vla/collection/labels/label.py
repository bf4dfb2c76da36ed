"""Labels from logs: a copy of a dataset with signals that follow from its own states, commands and pictures.

States say where the tool is, commands when it grasped: so where the gripper closes and opens next, and when. Pictures
say where the gripper is in them: so a projection of a fixed camera, where in its picture that will be, and the path
that comes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from vla.collection.labels.events import coming_events, gripper_closed, seen_closed
from vla.collection.labels.projection import Projection
from vla.collection.labels.settings import LabelConfig
from vla.collection.labels.signals import EVENT, PIXEL, TRACE, Signals, make_signals
from vla.collection.labels.tool import Places, tool_places
from vla.collection.labels.tracking import NoProjectionError, Track, follow, gripper_moves
from vla.core.contract import Contract
from vla.core.errors import ContractError, DatasetError
from vla.core.machine.engines import EngineChoice
from vla.core.provenance import provenance
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.storage.storage import Location, open_storage
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.shares import write_segments

_SEGMENT_EPISODES = 100
_EXPLAINED = 0.5
"""Share of what was seen that a projection must explain."""
_STAYS = 0.05
"""A gripper that stays within so much of one place in the picture, 2 across, is seen by a camera that moves with it."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A camera's projection, and how good it is."""

    projection: Projection
    pixels: float
    """Median residual, in pixels of its pictures."""
    explained: float
    """Share of what was seen that it explains."""
    pictures: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found in a dataset before any of it is written."""

    signals: Signals
    tool: str
    """Where the tool's places come from."""
    cameras: Mapping[str, Fitted]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Cameras without a projection, and why."""


def find_labels(dataset: Dataset, config: LabelConfig, note: Callable[[str], None] = lambda text: None) -> Found:
    """Read all labels off the logs; where that cannot be, a `DatasetError` or `ConfigError` says what is missing."""
    places = tool_places(dataset, config)
    note(f"the tool is where {places.source} says")
    coming = coming_events(dataset, places, config.carried)
    fitted, left_out = _fit_cameras(dataset, places, config, note)
    projections = {camera: one.projection for camera, one in fitted.items()}
    signals = make_signals(dataset, places, coming, projections, within_s=config.within_s, ahead=config.ahead)
    return Found(signals=signals, tool=places.source, cameras=fitted, left_out=left_out)


def _fit_cameras(
    dataset: Dataset, places: Places, config: LabelConfig, note: Callable[[str], None]
) -> tuple[dict[str, Fitted], dict[str, str]]:
    """Those of colour that stand still; none of them is an error."""
    episodes = np.flatnonzero(config.fit.mask(dataset.episodes))
    closed, rng = gripper_closed(dataset), np.random.default_rng(config.seed)
    moves = gripper_moves(dataset, closed, places, episodes)
    starts, lengths = dataset.episode_starts[episodes], dataset.episode_lengths[episodes]
    steps = np.concatenate([np.arange(a, a + n) for a, n in zip(starts, lengths, strict=True)])
    steps = np.sort(rng.permutation(steps)[: config.frames])
    fitted: dict[str, Fitted] = {}
    left_out: dict[str, str] = {}
    for camera in dataset.contract.cameras:
        if camera.kind != "rgb":
            continue
        try:
            track = follow(dataset, camera.name, places, seen_closed(dataset, closed), moves, steps, config.seed)
            fitted[camera.name] = _trusted(track, places, max(camera.height, camera.width), config.most_residual)
        except NoProjectionError as error:
            left_out[camera.name] = str(error)
            note(f"camera {camera.name} is left out: {error}")
        else:
            one = fitted[camera.name]
            told = f"residual {one.pixels:.2f} pixels, {one.explained:.0%} of {one.pictures} pictures explained"
            note(f"camera {camera.name}: {told}")
    if not fitted:
        raise DatasetError(
            f"dataset {dataset.url}: no camera has a projection: "
            + "; ".join(f"{camera}: {why}" for camera, why in left_out.items())
            + ". Labels in pictures need a camera that stands still and sees the gripper"
        )
    return fitted, left_out


def _trusted(track: Track, places: Places, side: int, most: float) -> Fitted:
    """A `NoProjectionError` says why a projection cannot be trusted."""
    spread = np.median(np.abs(track.points - np.median(track.points, axis=0)), axis=0).max()
    if spread < _STAYS:
        raise NoProjectionError(
            f"the gripper stays within {spread / 2 * side:.1f} pixels of one place in its pictures wherever the tool "
            "goes: it moves with the tool"
        )
    residual = float(np.median(np.nan_to_num(track.residuals(places), nan=np.inf)))
    explained = float(track.explained.mean())
    if residual / 2 > most or explained < _EXPLAINED:
        raise NoProjectionError(
            f"its projection does not fit: median residual {residual / 2 * side:.1f} pixels, expected at most "
            f"{most * side:.1f}, and {explained:.0%} of {len(track.points)} pictures explained, expected "
            f"{_EXPLAINED:.0%}; it moves, or nothing that it sees follows the tool"
        )
    return Fitted(
        projection=track.projection, pixels=residual / 2 * side, explained=explained, pictures=len(track.points)
    )


def label(
    source: Dataset,
    target: Location,
    config: LabelConfig,
    *,
    workers: int = 1,
    engine: EngineChoice = "auto",
    on_episode: Callable[[int], None] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[int, Found]:
    """Write ``source`` with its labels into ``target``; the version, and what was found.

    Frames are not packed anew, and on one file system not even copied. Episodes keep their uids, and the hash of what
    was recorded: labels are none of it.
    """
    storage = open_storage(target)
    if storage.url == source.storage.url:
        raise ContractError(
            f"label: {source.url} cannot hold its own labels, since signals belong to its contract; name another folder"
        )
    if there := [name for name in (EVENT, PIXEL, TRACE) if name in source.contract.signals]:
        raise ContractError(
            f"label: {source.url} has {', '.join(there)} already; label the dataset that it was made from"
        )
    found = find_labels(source, config, note)
    made = {name: dimensions for name, (dimensions, _) in found.signals.items()}
    contract = replace(source.contract, signals={**source.contract.signals, **made})
    create_dataset(storage, contract, source.codecs)
    numbers = list(range(len(source.episodes)))
    shares = []
    for first in range(0, len(numbers), _SEGMENT_EPISODES):
        chosen = numbers[first : first + _SEGMENT_EPISODES]
        start = source.episode_starts[chosen[0]]
        rows = slice(start, source.episode_starts[chosen[-1]] + source.episode_lengths[chosen[-1]])
        signals = {name: values[rows] for name, (_, values) in found.signals.items()}
        shares.append(_Share(episodes=tuple(chosen), signals=signals))
    version, _ = write_segments(
        storage,
        partial(_write, source, storage.url, contract, _origin(source, found, config)),
        shares,
        f"labels from the logs of {source.url}",
        workers=workers,
        engine=engine,
        on_report=on_episode,
    )
    if version is None:
        raise DatasetError(f"{source.url}: expected at least 1 episode to label, got none; open another version")
    return version, found


@dataclass(frozen=True, kw_only=True)
class _Share:
    """Episodes behind each other, which become one segment, and the labels of their steps."""

    episodes: tuple[int, ...]
    signals: Mapping[str, Any]


def _write(
    source: Dataset,
    target: str,
    contract: Contract,
    origin: dict[str, Any],
    share: _Share,
    report: Callable[[int], None],
) -> tuple[str, None]:
    with SegmentWriter(target, contract, origin) as writer:
        begin = int(source.episode_starts[share.episodes[0]])
        for number in share.episodes:
            record, rows = source.episodes[number], source.read_rows(number)
            of_episode = slice(record.start - begin, record.start - begin + record.length)
            signals = {**rows.signals, **{name: values[of_episode] for name, values in share.signals.items()}}
            writer.copy(record, replace(rows, signals=signals), source.image_files(number))
            report(record.length)
        return writer.seal(), None


def _origin(source: Dataset, found: Found, config: LabelConfig) -> dict[str, Any]:
    """What a reader of the labels must know of how they came to be."""
    cameras = {
        camera: {
            "matrix": one.projection.matrix.tolist(),
            "centre": one.projection.centre.tolist(),
            "scale": one.projection.scale,
            "residual_pixels": one.pixels,
            "explained": one.explained,
        }
        for camera, one in found.cameras.items()
    }
    labels = {"tool": found.tool, "cameras": cameras, "left_out": dict(found.left_out), "fitted_to": str(config.fit)}
    before = source.provenance(0) if len(source.episodes) else {}
    return provenance(labelled_from=source.url, manifest=source.manifest.number, labels=labels) | {
        key: before[key] for key in ("env", "settings") if key in before
    }
