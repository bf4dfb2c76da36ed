"""RLDS datasets (TFDS folders of TFRecord files, as Open X-Embodiment and DROID use) as a source of episodes.

One record is one episode: a flat map from names like ``steps/observation/image`` to the values of all its steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.formats.dimensions import dimension_around
from vla.datasets.formats.pictures import PictureError, picture_shape
from vla.datasets.formats.rlds.endings import Endings, Filler, oddities
from vla.datasets.formats.rlds.features import FEATURES, read_features
from vla.datasets.formats.rlds.layout import Layout, RldsKeys, View, dimension_names, plan_layout
from vla.datasets.formats.rlds.shards import Places, Shards, find_folder, index_episodes, read_shards
from vla.datasets.formats.rlds.tfrecord import Values, WireError, parse_example, peek_records, read_record
from vla.datasets.formats.rlds.values import count_steps, frames, numbers, plain, texts, vectors
from vla.datasets.formats.source import Hints, noted

_DEFAULT_HZ = 10.0


def recognise(path: Path) -> bool:
    """Whether ``path`` is a folder with TFDS' features and records, or one with versions of it; never raises."""
    try:
        return any(
            any(file.parent.glob("*.tfrecord*"))
            for pattern in (FEATURES, f"*/{FEATURES}", f"*/*/{FEATURES}")
            for file in path.glob(pattern)
        )
    except (OSError, ValueError):
        return False


def open_rlds(path: Path, hints: Hints, keys: RldsKeys | None = None) -> "RldsSource":
    """Read features and shard lists, and all states and actions once for their limits; damage is a `DatasetError`."""
    folder, chosen = find_folder(path)
    leaves = read_features(folder)
    layout = plan_layout(folder, leaves, keys or RldsKeys())
    shards = read_shards(folder)
    places = index_episodes(folder, shards)
    episodes = places.readable
    if hints.control_hz is not None and not hints.control_hz > 0:
        raise DatasetError(f"control_hz: expected a positive rate, got {hints.control_hz:g}; correct the hint")
    state, action, filler = _measured(shards, episodes, layout)
    contract = Contract(
        robot=hints.robot or "unknown",
        cameras=_cameras(shards, episodes, layout),
        state=state,
        action=action,
        control_hz=hints.control_hz or _DEFAULT_HZ,
    )
    return RldsSource(
        folder=folder,
        hints=hints,
        shards=shards,
        layout=layout,
        places=places,
        filler=filler,
        contract=contract,
        notes=(*chosen, *shards.notes, *places.notes, *layout.notes, *_assumptions(hints, layout), filler.note()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class RldsSource:
    """The episodes of an RLDS dataset; made by `open_rlds`."""

    folder: Path
    hints: Hints
    shards: Shards
    layout: Layout
    places: Places
    filler: Filler
    contract: Contract
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """The number of episodes, those included whose files are missing or damaged."""
        return len(self.places.rows)

    def read(self, number: int) -> Episode:
        """One episode; damage, contradicting counts and numbers that are not finite are a `DatasetError`."""
        shard, offset, length = self.places.rows[number].tolist()
        file = self.shards.shards[shard]
        if not offset:
            raise DatasetError(self.places.problems[shard])
        where = f"{file.path}: episode {number} (record at byte {offset - 12})"
        try:
            example = parse_example(read_record(file.path, offset, length))
        except WireError as error:
            raise DatasetError(f"{where}: {error}") from None
        steps = count_steps(example, self.layout.steps, where)
        flags = {
            name: numbers(example, leaf, steps, where)[:, 0]
            for name, leaf in self.layout.flags.items()
            if leaf.record in example
        }
        action = vectors(example, self.layout.action, steps, where)
        filler = self.filler.steps(action, flags)
        action = _finite(
            np.where(filler[:, None], np.nan_to_num(action, posinf=0.0, neginf=0.0), action), "action", where
        )
        reward = np.asarray(flags.get("reward", np.zeros(steps)), np.float32)
        reward = _finite(np.where(filler, np.nan_to_num(reward, posinf=0.0, neginf=0.0), reward), "reward", where)
        instruction, alternatives, spans = self._language(example, steps, where)
        time_ns = self._time_ns(steps)
        return Episode(
            images={
                view.name: frames(example, view.leaf, steps, camera.shape, where)
                for view, camera in zip(self.layout.views, self.contract.cameras, strict=True)
            },
            state=_finite(vectors(example, self.layout.state, steps, where), "state", where),
            action=action,
            action_executed=action,
            reward=reward,
            done=_done(flags, steps),
            valid=~filler,
            time_ns=time_ns,
            command_time_ns=time_ns,
            instruction=instruction,
            instruction_alternatives=alternatives,
            task=self.hints.task or instruction,
            split=self.hints.split or file.split,
            seed=0,
            success=self._success(example, reward, where),
            provenance=noted(self._provenance(example, number, where, spans), oddities(flags)),
        )

    def _time_ns(self, steps: int) -> Int64[np.ndarray, " t"]:
        """From step numbers: the format has no clock."""
        rate = Fraction(self.contract.control_hz).limit_denominator(1_000_000)
        return np.arange(steps, dtype=np.int64) * (1_000_000_000 * rate.denominator) // rate.numerator

    def _language(
        self, example: Mapping[str, Values], steps: int, where: str
    ) -> tuple[str, tuple[str, ...], list[dict[str, Any]]]:
        """The instruction, its alternatives, and where its text changes within the episode."""
        found = [[text.strip() for text in texts(example, leaf, where, steps)] for leaf in self.layout.instructions]
        first = dict.fromkeys(values[0] for values in found if values)
        later = dict.fromkeys(text for values in found for text in values)
        options = [text for text in (first | later) if text] or [(self.hints.instruction or "").strip()]
        if not options[0]:
            raise DatasetError(f"{where} has no instruction; give one with the import")
        lead = next((values for values in found if any(values)), [])
        spans = [
            {"step": step, "instruction": text} for step, text in enumerate(lead) if step == 0 or text != lead[step - 1]
        ]
        return options[0], tuple(options[1:]), spans if len(spans) > 1 else []

    def _success(self, example: Mapping[str, Values], reward: np.ndarray, where: str) -> bool | None:
        """What the episode says, or else True where its one reward is a 1 at the end; other rewards do not tell."""
        said = None if self.layout.success is None else plain(example, self.layout.success, where)
        if said is not None:
            return bool(np.any(np.asarray(said)))
        return True if reward[-1] == 1 and not reward[:-1].any() else None

    def _provenance(
        self, example: Mapping[str, Values], number: int, where: str, spans: list[dict[str, Any]]
    ) -> dict[str, Any]:
        shard = self.places.rows[number, 0]
        values: dict[str, Any] = {
            "format": "RLDS",
            "dataset": f"{self.shards.name}/{self.shards.version}",
            "file": self.shards.shards[shard].path.name,
            "record": number - int(np.searchsorted(self.places.rows[:, 0], shard)),
        }
        metadata = {leaf.name: plain(example, leaf, where) for leaf in self.layout.metadata}
        values["metadata"] = {name: value for name, value in metadata.items() if value is not None}
        return {**values, "instructions": spans} if spans else values


def _done(flags: Mapping[str, np.ndarray], steps: int) -> np.ndarray:
    """What ``is_terminal`` says, or ``is_last``, or the last step: bool (t,)."""
    for name in ("is_terminal", "is_last"):
        if name in flags:
            return np.asarray(flags[name], bool)
    return np.asarray(np.arange(steps) == steps - 1)


def _finite(array: np.ndarray, name: str, where: str) -> np.ndarray:
    if not np.isfinite(array).all():
        step = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DatasetError(f"{where}, step {step}: expected finite numbers of {name}, got {array[step]}; repair it")
    return array


def _assumptions(hints: Hints, layout: Layout) -> list[str]:
    """What the format never says."""
    notes = ["Units are not written in the dataset and are given as 1; limits are those of its data, widened."]
    notes.append("Actions are taken as they are: the dataset does not say whether they are absolute or changes.")
    if hints.robot is None:
        notes.append("The dataset does not name its robot: it is called unknown; name it with the import.")
    if hints.control_hz is None:
        notes.append(f"The dataset does not say its rate: {_DEFAULT_HZ:g} Hz is assumed; give it with the import.")
    if not layout.instructions:
        notes.append("The dataset has no feature with instructions.")
    if "reward" not in layout.flags:
        notes.append("The dataset has no reward: it is 0.")
    else:
        notes.append(
            "An episode succeeded where its metadata say so, or its one reward is a 1 at the end; else unknown."
        )
    return notes


def _cameras(shards: Shards, episodes: Int64[np.ndarray, "n 3"], layout: Layout) -> tuple[Camera, ...]:
    """Sizes as the features say, or of the first picture where they do not."""
    return tuple(
        Camera(name=view.name, height=height, width=width, kind=view.kind)
        for view in layout.views
        for height, width in [_size(shards, episodes, view)]
    )


def _size(shards: Shards, episodes: Int64[np.ndarray, "n 3"], view: View) -> tuple[int, int]:
    height, width, _ = view.leaf.shape
    if height is not None and width is not None:
        return height, width
    path = shards.shards[int(episodes[0, 0])].path
    first = next(iter(peek_records(path, episodes[:1, 1:], {view.leaf.record})))
    pictures = first.get(view.leaf.record, [])
    try:
        return picture_shape(bytes(pictures[0]))[:2]
    except (IndexError, PictureError) as error:
        raise DatasetError(f"{path}: episode 0: no picture of {view.leaf.name} to measure ({error})") from None


def _measured(
    shards: Shards, episodes: Int64[np.ndarray, "n 3"], layout: Layout
) -> tuple[tuple[Dimension, ...], tuple[Dimension, ...], Filler]:
    """State and action with the range of all finite values, widened, and what all episodes end with."""
    leaves = (*layout.state, *layout.action)
    names = [*dimension_names(layout.state), *dimension_names(layout.action)]
    low, high = np.full(len(names), np.inf, np.float32), np.full(len(names), -np.inf, np.float32)
    wanted = {leaf.record for leaf in leaves}
    split, endings = len(dimension_names(layout.state)), Endings()
    for number, shard in enumerate(shards.shards):
        records = episodes[episodes[:, 0] == number, 1:]
        for place, example in enumerate(peek_records(shard.path, records, wanted)):
            where = f"{shard.path}: record {place}"
            try:
                rows = vectors(example, leaves, count_steps(example, leaves, where), where)
            except DatasetError:
                continue  # one episode must not hide the others: reading it says what is wrong
            endings.add(rows[:, split:])
            finite = np.isfinite(rows)
            low = np.minimum(low, np.where(finite, rows, np.inf).min(axis=0))
            high = np.maximum(high, np.where(finite, rows, -np.inf).max(axis=0))
    dimensions = [dimension_around(name, float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)]
    return tuple(dimensions[:split]), tuple(dimensions[split:]), endings.filler()
