"""Weighted mixtures of datasets of different robots, in items of one shape.

What a robot lacks is zero, and a mask says so; all masks are true where there is something to see or to learn.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float64, Int64

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.mixture_part import MixturePart
from vla.datasets.sampling.order import StratifiedOrder
from vla.datasets.sampling.settings import MixtureConfig
from vla.datasets.store.layout import signal_name

_LEAST_SHARE = 1e-3
"""What `StratifiedOrder` can hold."""


@dataclass(frozen=True, kw_only=True)
class MixtureRow:
    """What people want to know of one dataset of a mixture."""

    dataset: str
    robot: str
    embodiment: int
    weight: float
    share: float
    """Of all samples, as it is drawn."""
    steps: int
    """Items."""
    epochs_per_million: float
    """How often each item is drawn in a million samples."""
    cameras: tuple[str, ...]
    """``slot=camera``."""
    problems: tuple[str, ...]


class Mixture:
    """A map-style dataset: the items of all datasets, one dataset after the other. It can be pickled.

    An item is a dictionary of arrays (a batch has the axis ``b`` in front of each), t observations, oldest first:

        images             uint8 (t, slots, y, x, 3)
        camera_valid       bool (slots,)          the robot has a camera for the slot
        state              float32 (t, s)         s: the most of any robot
        state_valid        bool (s,)
        observation_valid  bool (t,)              false before the start of the episode
        actions            float32 (h, d)         d: the most of any robot
        executed           float32 (h, d)         what was sent instead, disturbances and another driver's among it
        action_dim_valid   bool (d,)
        action_valid       bool (h,)              false past the end and where the label may not be learned from
        instruction        int64 ()               index into `instructions`
        embodiment         int64 ()               index into `embodiments`
        dataset            int64 ()               index into the entries
        index              int64 ()               step of its dataset
        signals/NAME       float32 (g,)           NaN where a dataset does not offer the signal
    """

    def __init__(
        self,
        config: MixtureConfig,
        *,
        horizon: int,
        history: int = 1,
        datasets: Sequence[Dataset] | None = None,
        episodes: Sequence[Int64[np.ndarray, " _"] | None] | None = None,
        may_be_empty: bool = False,
    ) -> None:
        """Chunks of ``horizon`` steps, after ``history`` observations.

        ``datasets`` are those of the entries, opened here by default; ``episodes`` chooses from each, by default those
        of the entry's split. Entries without items are errors, unless they ``may_be_empty`` (what is held out).
        """
        self.horizon, self.history = horizon, history
        datasets = datasets or [Dataset.open(entry.path, entry.manifest) for entry in config.entries]
        chosen = episodes or [None] * len(datasets)
        opened = partial(MixturePart, horizon=horizon, history=history, may_be_empty=may_be_empty)
        self._parts = [
            opened(dataset, entry, config, episodes=own)
            for dataset, entry, own in zip(datasets, config.entries, chosen, strict=True)
        ]
        pinned = [
            dataclasses.replace(entry, manifest=part.dataset.manifest.number)
            for entry, part in zip(config.entries, self._parts, strict=True)
        ]
        self.config = dataclasses.replace(config, entries=tuple(pinned))
        """With the version of each dataset that was opened."""
        self._interfaces = list(dict.fromkeys(_interface(part.dataset.contract) for part in self._parts))
        sizes = np.array([len(part.windows) for part in self._parts], np.int64)
        self._ends = np.cumsum(sizes)
        self._state_width = max(len(part.dataset.contract.state) for part in self._parts)
        self._action_width = max(len(part.dataset.contract.action) for part in self._parts)
        self.signals = {name: len(g) for part in self._parts for name, g in part.dataset.contract.signals.items()}
        """Widths of the signals that any dataset offers."""
        # A dict, since sets have no order and indices must be the same in every process.
        texts = dict.fromkeys(text for part in self._parts for text in part.windows.instructions)
        self.instructions = list(texts)
        """The distinct instructions of all datasets."""
        self.questions: list[str] = []  # nothing is asked of several at once
        self.answers: list[str] = []
        number = {text: i for i, text in enumerate(self.instructions)}
        self._instruction = [
            np.array([number[text] for text in part.windows.instructions], np.int64) for part in self._parts
        ]
        # Balanced: weights multiply sizes, so that equal weights draw every step equally often.
        weights = np.array([entry.weight for entry in config.entries]) * (sizes if config.balance else 1)
        self.asked: Float64[np.ndarray, " entries"] = weights / max(weights.sum(), np.finfo(float).tiny)
        """The share of each dataset, as weights say; an order rounds it to thousandths."""
        if not may_be_empty:
            self._check_shares()

    @property
    def embodiments(self) -> list[str]:
        """Robots; one name may stand for several, if their states or actions differ."""
        return [robot for robot, *_ in self._interfaces]

    @property
    def parts(self) -> Sequence[MixturePart]:
        """One for each entry, in order."""
        return self._parts

    def embodiment(self, part: MixturePart) -> int:
        """Index into `embodiments` of the robot of a part."""
        return self._interfaces.index(_interface(part.dataset.contract))

    def first_items(self) -> Int64[np.ndarray, " episodes"]:
        """The first item of each episode."""
        starts = self._ends - [len(part.windows) for part in self._parts]
        found = [start + part.windows.first_items() for start, part in zip(starts, self._parts, strict=True)]
        return np.concatenate(found)

    def __len__(self) -> int:
        """The number of items."""
        return int(self._ends[-1])

    def __getitem__(self, item: SupportsIndex) -> dict[str, Any]:
        """One item."""
        return {key: value[0] for key, value in self.batch(np.array([item], np.int64)).items()}

    def batch(self, items: Int64[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """Many items at once, each array with the axis ``b`` in front."""
        if len(items) and not (items.min() >= 0 and items.max() < len(self)):
            raise IndexError(f"items {items.min()} to {items.max()} of {len(self)}")
        # Items of all datasets share one range of numbers; the first end beyond an item names its dataset.
        owner = np.searchsorted(self._ends, items, side="right")
        batch = self._zeros(len(items))
        for number in np.unique(owner).tolist():
            part, mine = self._parts[number], np.flatnonzero(owner == number)
            found = part.batch(items[mine] - self._ends[number] + len(part.windows))
            found["instruction"] = self._instruction[number][found["instruction"]]
            found["embodiment"] = np.full(len(mine), self.embodiment(part))
            found["dataset"] = np.full(len(mine), number)
            for key, value in found.items():
                batch[key][(mine, *map(slice, value.shape[1:]))] = value  # the rest stays zero
        return batch

    def order(self, seed: int) -> StratifiedOrder:
        """The order of samples: `ResumableSampler` resumes in it exactly, with any number of ranks."""
        return StratifiedOrder(
            [np.arange(end - len(p.windows), end) for p, end in zip(self._parts, self._ends.tolist(), strict=True)],
            self.asked.tolist(),
            seed,
        )

    def summary(self) -> list[MixtureRow]:
        """One row for each dataset."""
        drawn = np.array(self.order(0).parts)
        spans = {round(part.span_s, 9) for part in self._parts}
        rows = []
        for entry, part, asked, share in zip(
            self.config.entries, self._parts, self.asked.tolist(), (drawn / drawn.sum()).tolist(), strict=True
        ):
            problems = list(part.problems())
            if abs(share / asked - 1) > 0.01:
                problems.append(f"its share of {asked:.4%} is drawn as {share:.1%}: shares are rounded to thousandths")
            if len(spans) > 1:
                problems.append(f"its chunks span {part.span_s:.3g} s, others another time; set hz")
            rows.append(
                MixtureRow(
                    dataset=part.dataset.url,
                    robot=part.dataset.contract.robot,
                    embodiment=self.embodiment(part),
                    weight=entry.weight,
                    share=share,
                    steps=len(part.windows),
                    epochs_per_million=1e6 * share / len(part.windows),
                    cameras=tuple(f"{slot}={camera}" for slot, camera in part.cameras.items()),
                    problems=tuple(problems),
                )
            )
        return rows

    def _check_shares(self) -> None:
        small = [i for i, share in enumerate(self.asked) if share < _LEAST_SHARE * (1 - 1e-9)]
        if small:
            told = "; ".join(f"{self.config.entries[i].path} has {self.asked[i]:.2e}" for i in small)
            raise DatasetError(
                f"each dataset needs a share of at least {_LEAST_SHARE:g} of the samples, but {told}. "
                "Raise the weight, leave the dataset out, or merge it with another of the same robot"
            )

    def _zeros(self, b: int) -> dict[str, np.ndarray]:
        config = self.config
        t, slots, s, d, h = self.history, len(config.slots), self._state_width, self._action_width, self.horizon
        return {
            "images": np.zeros((b, t, slots, *config.image_size, 3), np.uint8),
            "camera_valid": np.zeros((b, slots), bool),
            "state": np.zeros((b, t, s), np.float32),
            "state_valid": np.zeros((b, s), bool),
            "observation_valid": np.zeros((b, t), bool),
            "actions": np.zeros((b, h, d), np.float32),
            "executed": np.zeros((b, h, d), np.float32),
            "action_dim_valid": np.zeros((b, d), bool),
            "action_valid": np.zeros((b, h), bool),
            **{key: np.zeros(b, np.int64) for key in ("instruction", "embodiment", "dataset", "index")},
            **{signal_name(name): np.full((b, g), np.nan, np.float32) for name, g in self.signals.items()},
        }


def _interface(contract: Contract) -> tuple[Any, ...]:
    """What makes two robots one embodiment: their states and actions mean the same."""
    dimensions = [tuple((d.name, d.unit) for d in part) for part in (contract.state, contract.action)]
    return (contract.robot, *dimensions, contract.gripper)
