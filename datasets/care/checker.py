"""Whether a dataset keeps what its readers rest on: to run on one's own recordings before anything is trained on them.

`vla.datasets.care.validate` asks whether files are whole and numbers plausible. This asks whether what is read has the
lengths, dtypes, shapes and order that the interfaces of `Dataset`, `Windows` and `Mixture` promise.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.mixture import Mixture
from vla.datasets.sampling.windows import Windows
from vla.datasets.storage.storage import Location
from vla.datasets.store.clocks import latest_frame
from vla.datasets.store.episode_check import check_episode
from vla.datasets.store.layout import LOW_DIMENSIONAL, row_kinds, rows_of, signal_name, wrong_rows

_EPISODES = 8
"""Episodes whose frames and windows are read, from the first to the last: more take long and show little more."""
_HORIZON, _HISTORY = 4, 3


def check_dataset(dataset: Location | Dataset) -> None:
    """Raise `DatasetError` with the first promise of `Dataset` and `Windows` that is broken.

    Lengths and low-dimensional arrays are looked at whole; frames and windows in at most 8 episodes, first and last
    among them.
    """
    opened = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    _check_index(opened)
    _check_rows(opened)
    count = len(opened.episodes)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _EPISODES)).astype(np.int64)).tolist()
    for number in chosen:
        _check_episode(opened, number)
    _check_ends(opened)
    windows = Windows(opened, _HORIZON, cameras=_stackable(opened), history=_HISTORY)
    for number in chosen:
        _check_windows(windows, number)
    _refuses(f"{opened.url}: a window behind the last", lambda: windows[len(windows)])
    _check_copy(opened)


def check_mixture(mixture: Mixture) -> None:
    """Raise `DatasetError` with the first promise of `Mixture` that is broken; looks at the borders of each dataset."""
    config = mixture.config
    ends = np.cumsum([row.steps for row in mixture.summary()])
    borders = np.unique(np.concatenate([[0], ends[:-1], ends - 1])).astype(np.int64)
    _require(int(ends[-1]) == len(mixture), f"the mixture: {len(mixture)} items, and its datasets have {ends[-1]}")
    batch = mixture.batch(borders)
    b, t, n, h = len(borders), mixture.history, len(config.slots), mixture.horizon
    s, d = batch["state"].shape[-1], batch["actions"].shape[-1]
    _check_arrays(
        "the mixture",
        batch,
        {
            "images": ("uint8", (b, t, n, *config.image_size, 3)),
            "camera_valid": ("bool", (b, n)),
            "state": ("float32", (b, t, s)),
            "state_valid": ("bool", (b, s)),
            "observation_valid": ("bool", (b, t)),
            "actions": ("float32", (b, h, d)),
            "action_dim_valid": ("bool", (b, d)),
            "executed": ("float32", (b, h, d)),
            "action_valid": ("bool", (b, h)),
            **dict.fromkeys(("instruction", "embodiment", "dataset", "index"), ("int64", (b,))),
            **{signal_name(name): ("float32", (b, g)) for name, g in mixture.signals.items()},
        },
    )
    _require(
        bool(batch["observation_valid"][:, -1].all() and batch["action_valid"][:, 0].all()),
        "the mixture: each item has an observation and a label of its own, and a mask denies it",
    )
    owner = np.searchsorted(ends, borders, side="right")
    _same("the mixture: dataset of its items", batch["dataset"], owner)
    for key, names in (("instruction", mixture.instructions), ("embodiment", mixture.embodiments)):
        _require(
            bool((batch[key] >= 0).all() and (batch[key] < len(names)).all()),
            f"the mixture: {key} {batch[key].tolist()} of {len(names)}",
        )
    for key, mask in (
        ("state", batch["state_valid"][:, None]),
        ("actions", batch["action_dim_valid"][:, None]),
        ("images", batch["camera_valid"][:, None, :, None, None, None]),
    ):
        _require(not (batch[key] * ~mask).any(), f"the mixture: {key}: expected zeros where the mask is false")
    twin = copy.deepcopy(mixture)  # goes through what pickling would, as when it is sent to a worker
    for key, value in batch.items():
        _same(f"the mixture: {key} of one item", np.array([mixture[int(item)][key] for item in borders]), value)
        _same(f"the mixture: {key} of a copy", twin.batch(borders)[key], value)


def _rows(dataset: Dataset) -> dict[str, np.ndarray]:
    """All low-dimensional arrays of a dataset, by their names on disk."""
    rows = {name: getattr(dataset, name) for name in LOW_DIMENSIONAL}
    return rows | {signal_name(name): signal for name, signal in dataset.signals.items()}


def _check_index(dataset: Dataset) -> None:
    """Episodes follow each other without a gap, each with a name of its own."""
    lengths, starts = dataset.episode_lengths, dataset.episode_starts
    _require(bool((lengths >= 1).all()), f"{dataset.url}: lengths: expected at least 1 step in each episode")
    _require(int(lengths.sum()) == len(dataset), f"{dataset.url}: {len(dataset)} steps, its episodes {lengths.sum()}")
    _same(f"{dataset.url}: first steps of the episodes", starts, np.cumsum(lengths) - lengths)
    records = list(dataset.episodes)
    _same(f"{dataset.url}: steps of the records", np.array([record.length for record in records], np.int64), lengths)
    _require(len({record.uid for record in records}) == len(records), f"{dataset.url}: two episodes have one uid")


def _check_rows(dataset: Dataset) -> None:
    """Low-dimensional arrays: as wide as the contract, finite, protected from writing; times rise."""
    arrays = _rows(dataset)
    kinds = row_kinds(dataset.contract)
    promised = {name: (dtype, (len(dataset), *shape)) for name, (dtype, shape) in kinds.items()}
    _check_arrays(dataset.url, arrays, promised)
    for name, array in arrays.items():
        _require(not wrong_rows(name, array).any(), f"{dataset.url}: {name}: expected finite numbers")
        _require(not (array.size and array.flags.writeable), f"{dataset.url}: {name}: expected it to be read-only")
    rising = np.diff(dataset.time_ns) > 0
    rising[dataset.episode_starts[1:] - 1] = True  # from one episode to the next it may do anything
    _require(
        bool(rising.all()),
        f"{dataset.url}: time_ns: expected rising times within an episode, not so after step {int(rising.argmin())}",
    )


def _check_episode(dataset: Dataset, number: int) -> None:
    """An episode fits the contract; its frames and rows are the same whichever way they are read."""
    where = f"{dataset.url}: episode {number}"
    episode, rows = dataset.read_episode(number), dataset.read_rows(number)
    try:
        check_episode(episode, dataset.contract)
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from None
    start, steps = int(dataset.episode_starts[number]), len(episode)
    whole, alone = (rows_of(read, dataset.contract) for read in (episode, rows))
    for name, array in _rows(dataset).items():
        _same(f"{where}: {name}", whole[name], array[start : start + steps])
        _same(f"{where}: {name} without images", alone[name], array[start : start + steps])
    for camera in dataset.contract.cameras:
        frames = episode.images[camera.name]
        clock = episode.image_time_ns.get(camera.name)
        seen = np.arange(steps) if clock is None else latest_frame(clock, episode.time_ns)
        places = np.array([steps - 1, 0, steps // 2], np.int64)
        out = np.empty((len(places), *camera.shape), camera.dtype)
        dataset.read_frames(camera.name, start + places, out)
        _same(f"{where}: several frames of {camera.name} at once", out, frames[seen[places]])
        for place in places.tolist():
            found = dataset.frame(camera.name, start + place)
            _same(f"{where}: the frame of {camera.name} at step {place}", found, frames[seen[place]])


def _check_ends(dataset: Dataset) -> None:
    """What is not there is an `IndexError`, never something else."""
    for camera in dataset.contract.cameras:
        for step in (-1, len(dataset)):
            _refuses(f"{dataset.url}: the frame at step {step}", partial(dataset.frame, camera.name, step))
    _refuses(f"{dataset.url}: episode {len(dataset.episodes)}", lambda: dataset.read_rows(len(dataset.episodes)))


def _stackable(dataset: Dataset) -> tuple[str, ...]:
    """Colour cameras of one size, which windows can stack."""
    colour = [camera for camera in dataset.contract.cameras if camera.kind == "rgb"]
    return tuple(camera.name for camera in colour if camera.shape == colour[0].shape)


def _check_windows(windows: Windows, number: int) -> None:
    """The first and the last window of an episode: repeated beyond its ends, and masked there."""
    dataset, where = windows.dataset, f"{windows.dataset.url}: windows of episode {number}"
    start, end = (int(dataset.episode_starts[number] + n) for n in (0, dataset.episode_lengths[number]))
    items = np.flatnonzero(windows.owner == number)
    _same(f"{where}: steps", windows.rows[items], start + np.flatnonzero(dataset.valid[start:end]))
    if not len(items):
        return
    items = items[[0, -1]]
    rows = windows.rows[items][:, None]
    seen, ahead = rows - np.arange(_HISTORY)[::-1], rows + np.arange(_HORIZON)  # (2, t), (2, h)
    gaps = np.diff(dataset.time_ns[start:end]) * dataset.contract.control_hz > 1.5e9
    stretch = np.array([next((n for n in range(row, end - 1) if gaps[n - start]), end - 1) for row in rows[:, 0]])[
        :, None
    ]
    observed, clamped = np.maximum(seen, start), np.minimum(ahead, stretch)
    pictures = [np.stack([dataset.frame(camera, step) for step in observed.ravel()]) for camera in windows.cameras]
    batch = windows.batch(items)
    expected = {
        "state": dataset.state[observed],
        "observation_valid": seen >= start,
        "actions": dataset.action[clamped],
        "executed": dataset.action_executed[clamped],
        "action_valid": (ahead <= stretch) & dataset.valid[clamped],
        **{signal_name(name): signal[rows[:, 0]] for name, signal in dataset.signals.items()},
        "index": rows[:, 0],
        "episode": np.array([number, number], np.int64),
    }
    if pictures:
        stacked = np.stack(pictures, axis=1)  # (2 t, n, y, x, 3)
        expected["images"] = stacked.reshape(2, _HISTORY, *stacked.shape[1:])
    for key, value in expected.items():
        _same(f"{where}: {key}", batch[key], value)
    for place, item in enumerate(items.tolist()):
        for key, value in windows[item].items():
            _same(f"{where}: {key} of item {item}", np.asarray(value), np.asarray(batch[key][place]))
    texts = [windows.instructions[code] for code in batch["instruction"]]
    said = dataset.episodes[number].instruction
    _require(texts == [said, said], f"{where}: instruction: expected {said!r}, got {texts}")


def _check_copy(dataset: Dataset) -> None:
    """A copy goes through what pickling would, as when a dataset is sent to a worker."""
    twin, where = copy.deepcopy(dataset), f"{dataset.url}: a copy"
    _require(
        (twin.url, twin.manifest.number, len(twin)) == (dataset.url, dataset.manifest.number, len(dataset)),
        f"{where}: expected {dataset!r}, got {twin!r}",
    )
    theirs = _rows(twin)
    for name, array in _rows(dataset).items():
        _same(f"{where}: {name}", theirs[name], array)
    for camera in dataset.contract.cameras if len(dataset) else ():
        _same(f"{where}: a frame of {camera.name}", twin.frame(camera.name, 0), dataset.frame(camera.name, 0))


def _check_arrays(
    where: str, found: Mapping[str, np.ndarray], promised: Mapping[str, tuple[str, tuple[int, ...]]]
) -> None:
    for name, (dtype, shape) in promised.items():
        if name not in found:
            raise DatasetError(f"{where}: {name} is missing; there are {', '.join(found)}")
        array = found[name]
        _require(
            array.dtype == np.dtype(dtype) and array.shape == shape,
            f"{where}: {name}: expected {dtype} {shape}, got {array.dtype} {array.shape}",
        )


def _same(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    _require(
        found.dtype == expected.dtype and found.shape == expected.shape,
        f"{what}: expected {expected.dtype} {expected.shape}, got {found.dtype} {found.shape}",
    )
    _require(found.tobytes() == expected.tobytes(), f"{what}: other values than by another way of reading them")


def _refuses(what: str, read: Callable[[], Any]) -> None:
    try:
        read()
    except IndexError:
        return
    raise DatasetError(f"{what}: expected an IndexError, got an answer")


def _require(kept: bool, broken: str) -> None:
    if not kept:
        raise DatasetError(broken)
