"""Training samples: one observation and the chunk of actions that follows it."""

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.store.clocks import holes
from vla.datasets.store.layout import signal_name

_GOALS = 8
"""A picture is hundreds of tokens and changes little within an episode: one sample in so many learns to write it."""


class Windows:
    """A map-style view of a dataset: item ``i`` is one step whose label may be learned from.

    With ``written`` "answer" further items follow behind these: each is a question that is asked of a step. There the
    instruction is the question, no action is valid and no signal known.

    An item is a dictionary of arrays (a batch has the axis ``b`` in front of each), t observations, oldest first:

        images             uint8 (t, n, y, x, 3)  the cameras in order; before the start, the first of the episode
        state              float32 (t, s)
        observation_valid  bool (t,)              false before the start of the episode
        actions            float32 (h, d)         labels from this step on; past the end or a hole in time, the last one
        executed           float32 (h, d)         what was sent instead, disturbances and another driver's among it
        action_valid       bool (h,)              false past these and where the label may not be learned from
        signals/<name>     float32 (g,)           each signal of the contract
        instruction        int64 ()               index into `instructions`
        answer             int64 ()               index into `answers`, -1 for none; with ``written`` "answer"
        goal               uint8 (n, y, x, 3)     the end of the episode; with ``written`` "goal"
        goal_valid         bool ()                false where it was no success, and for most samples of a batch
        step_fraction      float32 ()             0 at the first step of the episode, 1 at the last
        index              int64 ()               step of the dataset
        episode            int64 ()               episode of the dataset
    """

    def __init__(
        self,
        dataset: Dataset,
        horizon: int,
        episodes: Iterable[SupportsIndex] | None = None,
        cameras: Sequence[str] | None = None,
        *,
        history: int = 1,
        hz: float | None = None,
        written: Collection[str] = (),
    ) -> None:
        """Select ``episodes`` and ``cameras``, all by default.

        ``horizon`` is the length of the action chunks, ``history`` the number of observations. ``hz`` spaces both at
        another rate than the dataset's: each is the nearest recorded step. ``written`` names what else is learned.
        """
        for name, value in (("horizon", horizon), ("history", history)):
            if value < 1:
                raise DatasetError(f"{name}: expected at least 1, got {value}")
        if hz is not None and not 0 < hz <= dataset.contract.control_hz:
            raise DatasetError(f"hz: expected more than 0 and at most {dataset.contract.control_hz:g}, got {hz:g}")
        self.dataset = dataset
        self.horizon, self.history = horizon, history
        self._ahead = spacing(horizon, dataset.contract.control_hz, hz)
        self._behind = spacing(history, dataset.contract.control_hz, hz)[::-1]
        self.cameras = tuple(cameras if cameras is not None else (c.name for c in dataset.contract.cameras))
        self._image_shape = _common_shape(dataset, self.cameras)
        self.image_size = self._image_shape[:2]
        """(y, x) of every image."""
        texts, codes = dataset.episodes.column("instruction")
        # Codes of one instruction may have gaps after edits; these count from 0, and memory is an integer an episode.
        present, self._instruction = np.unique(codes, return_inverse=True)
        self.instructions = [texts[code] for code in present]
        """The distinct instructions of the whole dataset, so that indices agree between selections of it."""
        self.episodes = _select(dataset, episodes)
        lengths = dataset.episode_lengths[self.episodes]
        # Two integers a step, made for all episodes at once.
        owner = np.repeat(self.episodes, lengths)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = dataset.episode_starts[owner] + step
        keep = dataset.valid[rows]
        self.rows: Int64[np.ndarray, " items"] = rows[keep]
        """Step of the dataset of each item."""
        self.owner: Int64[np.ndarray, " items"] = owner[keep]
        """Episode of the dataset of each item."""
        self.steps = len(self.rows)
        """Items that are about acting; what comes behind them are questions."""
        self.questions: list[str] = []
        self.answers: list[str] = []
        """The distinct questions and answers of the whole dataset, where they are learned."""
        self._written = frozenset(written)
        self._asked = np.zeros((0, 3), np.int64)  # question, answer and kind of each item behind the steps
        self._kinds: list[str] = []
        if "answer" in self._written:
            self._ask()
        # Labels behind a hole are not those of the steps that they would stand for.
        found = holes(dataset.time_ns, dataset.episode_starts, dataset.contract.control_hz)
        self._holes = np.append(found, len(dataset))

    def __len__(self) -> int:
        """The number of items."""
        return len(self.rows)

    def __getitem__(self, item: SupportsIndex) -> dict[str, Any]:
        """One item."""
        return {key: value[0] for key, value in self.batch(np.array([operator.index(item)], np.int64)).items()}

    def batch(self, items: Int64[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """Many items at once, each array with the axis ``b`` in front."""
        if len(items) and not (items.min() >= 0 and items.max() < len(self)):
            raise IndexError(f"items {items.min()} to {items.max()} of {len(self)}")
        data = self.dataset
        rows, owner = self.rows[items], self.owner[items]
        starts, lengths = data.episode_starts[owner], data.episode_lengths[owner]
        ahead, action_valid = self._chunk_rows(items)
        seen = rows[:, None] - self._behind  # (b, t)
        first = starts[:, None]
        # Before the start, the first observation stands in; the mask says so.
        observed = np.maximum(seen, first)
        arrays = {
            "images": self._images(observed),
            "state": data.state[observed],  # (b, t, s)
            "observation_valid": seen >= first,
            "actions": data.action[ahead],  # (b, h, d)
            "executed": data.action_executed[ahead],
            "action_valid": action_valid,
            **{signal_name(name): signal[rows] for name, signal in data.signals.items()},
            "instruction": self._instruction[owner],
            "step_fraction": ((rows - starts) / np.maximum(lengths - 1, 1)).astype(np.float32),
            "index": rows,
            "episode": owner,
        }
        if "answer" in self._written:
            arrays |= self._questions(items, arrays)
        if "goal" in self._written:
            arrays |= self._goals(items, owner, starts + lengths - 1)
        return arrays

    def chunks(self, items: Int64[np.ndarray, " b"]) -> tuple[Float32[np.ndarray, "b h d"], Bool[np.ndarray, "b h"]]:
        """The ``actions`` and the ``action_valid`` of `batch`, without reading a frame."""
        rows, valid = self._chunk_rows(items)
        return self.dataset.action[rows], valid

    def _chunk_rows(self, items: Int64[np.ndarray, " b"]) -> tuple[Int64[np.ndarray, "b h"], Bool[np.ndarray, "b h"]]:
        """The steps of the dataset whose labels make the chunks, and whether they may be learned from."""
        data, owner = self.dataset, self.owner[items]
        ahead = self.rows[items][:, None] + self._ahead  # (b, h)
        last = (data.episode_starts[owner] + data.episode_lengths[owner] - 1)[:, None]
        last = np.minimum(last, self._holes[np.searchsorted(self._holes, self.rows[items])][:, None])
        # Holding the last target is what a finished arm does, and a chunk keeps its length.
        clamped = np.minimum(ahead, last)
        return clamped, (ahead <= last) & data.valid[clamped]

    def first_items(self) -> Int64[np.ndarray, " episodes"]:
        """The first item of each episode, where only looking tells where things are."""
        return np.flatnonzero(np.diff(self.owner[: self.steps], prepend=-1)).astype(np.int64)

    def asks(self, *kinds: str) -> Bool[np.ndarray, " items"]:
        """Which items are questions: of these ``kinds``, or any."""
        chosen = [number for number, kind in enumerate(self._kinds) if kind in kinds or not kinds]
        return np.concatenate([np.zeros(self.steps, bool), np.isin(self._asked[:, 2], chosen)])

    def _ask(self) -> None:
        """Items for the questions of the selected episodes; words are counted over the whole dataset."""
        texts = {text: number for number, text in enumerate(self.instructions)}
        answers: dict[str, int] = {}
        kinds: dict[str, int] = {}
        found: dict[int, list[tuple[int, int, int, int]]] = {}
        for episode, questions in self.dataset.episodes.questions():
            length = int(self.dataset.episode_lengths[episode])
            for q in questions:
                if q.step >= length:
                    raise DatasetError(
                        f"{self.dataset.url}, episode {episode}: {q.text!r} is asked of step {q.step} of {length}"
                    )
                counted = ((texts, q.text), (answers, q.answer), (kinds, q.kind))
                text, answer, kind = (known.setdefault(said, len(known)) for known, said in counted)
                found.setdefault(episode, []).append((q.step, text, answer, kind))
        self.questions, self.answers = list(texts)[len(self.instructions) :], list(answers)
        self.instructions, self._kinds = list(texts), list(kinds)
        own = [(episode, *q) for episode in self.episodes.tolist() for q in found.get(episode, ())]
        table = np.array(own, np.int64).reshape(-1, 5)  # episode, step, question, answer, kind
        self.rows = np.concatenate([self.rows, self.dataset.episode_starts[table[:, 0]] + table[:, 1]])
        self.owner = np.concatenate([self.owner, table[:, 0]])
        self._asked = table[:, 2:]

    def _questions(self, items: Int64[np.ndarray, " b"], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What is different where something is asked."""
        asks = items >= self.steps
        asked = self._asked[items[asks] - self.steps]  # (q, 3)
        instruction, answer = arrays["instruction"].copy(), np.full(len(items), -1, np.int64)
        instruction[asks], answer[asks] = asked[:, 0], asked[:, 1]
        unknown = {}
        for name in map(signal_name, self.dataset.signals):  # they are about what the instruction names
            unknown[name] = np.where(asks[:, None], np.float32(np.nan), arrays[name])
        valid = arrays["action_valid"] & ~asks[:, None]
        return {"instruction": instruction, "answer": answer, "action_valid": valid, **unknown}

    def _goals(
        self, items: Int64[np.ndarray, " b"], owner: Int64[np.ndarray, " b"], last: Int64[np.ndarray, " b"]
    ) -> dict[str, np.ndarray]:
        """The pictures at the end of every `_GOALS`-th sample's episode, where that was a success."""
        valid = (np.arange(len(items)) % _GOALS == 0) & (items < self.steps)
        valid &= self.dataset.episodes.success[owner] == 1
        goal = np.zeros((len(items), len(self.cameras), *self._image_shape), np.uint8)
        goal[valid] = self._images(last[valid, None])[:, 0]
        return {"goal": goal, "goal_valid": valid}

    def _images(self, steps: Int64[np.ndarray, "b t"]) -> np.ndarray:
        """Frames of all cameras, uint8 (b, t, n, y, x, 3)."""
        images = np.empty((*steps.shape, len(self.cameras), *self._image_shape), np.uint8)
        # A view (b t, n, y, x, 3), into which each camera decodes its own frames: no copy, no stack.
        flat = images.reshape(steps.size, *images.shape[2:])
        for slot, camera in enumerate(self.cameras):
            self.dataset.read_frames(camera, steps.reshape(-1), flat[:, slot])
        return images


def spacing(count: int, control_hz: float, hz: float | None) -> Int64[np.ndarray, " count"]:
    """The ``count`` recorded steps that are nearest to multiples of a period of ``hz``, from 0 on."""
    return np.asarray(np.rint(np.arange(count) * (control_hz / (hz or control_hz))), np.int64)


def _select(dataset: Dataset, episodes: Iterable[SupportsIndex] | None) -> Int64[np.ndarray, " episodes"]:
    """Episode numbers, checked."""
    count = len(dataset.episodes)
    if episodes is None:
        return np.arange(count, dtype=np.int64)
    chosen = np.array(list(episodes), np.int64)
    if len(chosen) and not (chosen.min() >= 0 and chosen.max() < count):
        raise DatasetError(f"episodes: expected 0 to {count - 1}, got {chosen.min()} to {chosen.max()}")
    if len(np.unique(chosen)) != len(chosen):
        raise DatasetError("episodes: an episode is selected twice; select each once")
    return chosen


def _common_shape(dataset: Dataset, cameras: Sequence[str]) -> tuple[int, int, int]:
    """The (y, x, 3) of all cameras: images are stacked, so it must be one."""
    shapes = {camera.name: camera.shape for camera in dataset.contract.cameras if camera.kind == "rgb"}
    unknown = [name for name in cameras if name not in shapes]
    if unknown:
        raise DatasetError(f"cameras: expected some of {list(shapes)}, got {list(cameras)}; select colour cameras")
    if len({shapes[name] for name in cameras}) > 1:
        found = {name: shapes[name] for name in cameras}
        raise DatasetError(f"cameras: expected one size to stack, got {found}; select cameras of one size")
    return shapes[cameras[0]] if cameras else (0, 0, 3)
