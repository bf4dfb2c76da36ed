"""Statistics of a dataset as a policy sees it: states, and actions after the transform, over whole chunks.

Actions are those of every pair of a step that may be learned from and a step of its chunk that may be, so the
statistics belong to one transform, one horizon and one rate. They are exact: every value counts, none is sampled.
"""

import dataclasses
import hashlib
import itertools
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from vla.core.action_transform import ActionTransform
from vla.core.contract import Contract
from vla.core.errors import DatasetError, VlaError
from vla.core.scaling import Statistics, column_statistics
from vla.core.sealed import brief
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.windows import spacing
from vla.datasets.store.documents import encode, read_document

_FORMAT = 1
"""Part of the hash: raise it when other numbers come out."""

OnProgress = Callable[[int, int], None]
"""Called with the number of dimensions that are done, and of all."""


@dataclass(frozen=True, kw_only=True)
class DatasetStatistics:
    """What inputs and outputs of a policy are scaled by."""

    state: Statistics
    """Of every step that may be learned from."""
    action: Statistics
    """After the transform, of every valid pair of a step and a step of its chunk."""
    transform: ActionTransform
    ahead: tuple[int, ...]
    """Which recorded steps a chunk is made of, counted from the one at which it begins."""
    episodes: int
    hash: str
    """Names what they were computed from: the content of the episodes, the transform and ``ahead``."""

    def problems(self, contract: Contract) -> tuple[str, ...]:
        """One sentence for each dimension that cannot be scaled by its quantiles."""
        of_state = self.state.problems([f"state {d.name}" for d in contract.state])
        return of_state + self.action.problems([f"action {d.name}" for d in contract.action])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back, bit for bit."""
        return {
            "hash": self.hash,
            "transform": self.transform.to_json(),
            "ahead": list(self.ahead),
            "episodes": self.episodes,
            "state": self.state.to_json(),
            "action": self.action.to_json(),
        }

    @staticmethod
    def from_json(value: dict[str, Any], *, where: str) -> "DatasetStatistics":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        try:
            return DatasetStatistics(
                hash=str(value["hash"]),
                transform=ActionTransform.from_json(value["transform"], where=where),
                ahead=tuple(int(step) for step in value["ahead"]),
                episodes=int(value["episodes"]),
                state=Statistics.from_json(value["state"], where=where),
                action=Statistics.from_json(value["action"], where=where),
            )
        except VlaError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(f"{where}: the statistics are damaged ({brief(error)}); compute them again") from None


def compute(
    dataset: Dataset,
    transform: ActionTransform,
    horizon: int,
    episodes: Iterable[SupportsIndex] | None = None,
    *,
    hz: float | None = None,
    progress: OnProgress = lambda done, of: None,
) -> DatasetStatistics:
    """From every value of the chosen episodes, all by default; no step to learn from is a `DatasetError`.

    RAM: a column at a time, so 4 bytes for each pair of a step and a step of its chunk.
    """
    return _Selection(dataset, transform, horizon, episodes, hz).compute(progress)


def load_or_compute(
    dataset: Dataset,
    transform: ActionTransform,
    horizon: int,
    episodes: Iterable[SupportsIndex] | None = None,
    *,
    hz: float | None = None,
    progress: OnProgress = lambda done, of: None,
) -> DatasetStatistics:
    """What `compute` gives, kept in the dataset's ``stats/``; a stored file that is damaged is a `DatasetError`.

    Files are named by content: versions that only relabel, merge or reorder the same episodes share one.
    """
    selection = _Selection(dataset, transform, horizon, episodes, hz)
    stored = selection.stored()
    if stored is not None:
        return stored
    computed = selection.compute(progress)
    try:
        selection.store(computed)
    except OSError as error:
        warnings.warn(f"{dataset.url}: statistics cannot be stored ({error}) and are computed each time", stacklevel=2)
    return computed


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What the inputs and outputs of one robot are scaled by."""

    state: Statistics
    action: Statistics
    hashes: tuple[str, ...]
    """Of the statistics of each dataset that they come from."""


def scale_of(
    parts: Sequence[tuple[Dataset, Iterable[SupportsIndex] | None, float | None]],
    transform: ActionTransform,
    horizon: int,
) -> Scale:
    """One scale for all datasets of a robot, each with its chosen episodes and the rate of its chunks: exact.

    Every value of every dataset counts as often as it was recorded. Only those of a single dataset are stored.
    """
    if len(parts) == 1:
        dataset, episodes, hz = parts[0]
        found = load_or_compute(dataset, transform, horizon, episodes, hz=hz)
        return Scale(state=found.state, action=found.action, hashes=(found.hash,))
    return _Selection.pool([_Selection(dataset, transform, horizon, eps, hz) for dataset, eps, hz in parts])


def recompute(
    dataset: Dataset,
    transform: ActionTransform,
    horizon: int,
    episodes: Iterable[SupportsIndex] | None = None,
    *,
    hz: float | None = None,
    progress: OnProgress = lambda done, of: None,
) -> tuple[DatasetStatistics, str | None]:
    """Compute, compare with what is stored, and replace it if it is damaged or differs; also says what was wrong."""
    selection = _Selection(dataset, transform, horizon, episodes, hz)
    computed = selection.compute(progress)
    try:
        stored, wrong = selection.stored(), None
        if stored is not None and not _close(stored, computed):
            wrong = f"{selection.where}: the numbers do not follow from the episodes"
    except DatasetError as error:
        stored, wrong = None, str(error)
    if wrong is not None:
        selection.quarantine()
    if stored is None or wrong is not None:
        selection.store(computed)
    return computed, wrong


def drift(part: DatasetStatistics, whole: DatasetStatistics, contract: Contract) -> list[str]:
    """One sentence for each dimension in which a part (a segment, a task) is unlike the whole.

    A mean moved if it is more than a quarter of a standard deviation away, and more than three standard errors. Steps
    of one episode say nearly the same, so the error counts episodes.
    """
    found = []
    for name, dimensions in (("state", contract.state), ("action", contract.action)):
        ours, theirs = getattr(part, name), getattr(whole, name)
        for i, dimension in enumerate(dimensions):
            where, std = f"{name} {dimension.name}", theirs.std[i]
            moved = abs(ours.mean[i] - theirs.mean[i])
            size = max(1.0, abs(theirs.min[i]), abs(theirs.max[i]))
            if moved > max(0.25 * std, 3 * std / part.episodes**0.5, 1e-6 * size):
                by = f"{moved / std:.2g} standard deviations" if std > 0 else f"{moved:.3g}, where nothing moved,"
                found.append(f"{where}: its mean {ours.mean[i]:.4g} is {by} away from {theirs.mean[i]:.4g}")
            slack = max(0.1 * (theirs.max[i] - theirs.min[i]), 1e-6 * size)
            if ours.min[i] < theirs.min[i] - slack or ours.max[i] > theirs.max[i] + slack:
                found.append(
                    f"{where}: its range [{ours.min[i]:.4g}, {ours.max[i]:.4g}] leaves "
                    f"[{theirs.min[i]:.4g}, {theirs.max[i]:.4g}] by more than 10 %"
                )
    return found


class _Selection:
    """The steps that count, in an order that depends on the content of their episodes alone."""

    def __init__(
        self,
        dataset: Dataset,
        transform: ActionTransform,
        horizon: int,
        episodes: Iterable[SupportsIndex] | None,
        hz: float | None,
    ) -> None:
        contract = dataset.contract
        sources = [source for source in transform.relative_to if source is not None]
        if len(transform.relative_to) != len(contract.action) or max(sources, default=-1) >= len(contract.state):
            raise DatasetError(f"{dataset.url}: the action transform {transform.relative_to} is of another robot")
        if horizon < 1:
            raise DatasetError(f"horizon: expected at least 1, got {horizon}")
        if hz is not None and not 0 < hz <= contract.control_hz:
            raise DatasetError(f"hz: expected more than 0 and at most {contract.control_hz:g}, got {hz:g}")
        self._dataset, self._transform = dataset, transform
        self._ahead: tuple[int, ...] = tuple(spacing(horizon, contract.control_hz, hz).tolist())
        chosen = np.arange(len(dataset.episodes)) if episodes is None else np.array(list(episodes), np.int64)
        keys = [self._content(int(number)) for number in chosen]
        chosen = chosen[np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)]
        self._count = len(chosen)
        lengths = dataset.episode_lengths[chosen]
        self._episode = np.repeat(np.arange(len(chosen), dtype=np.int32), lengths)
        inside = np.arange(len(self._episode)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._rows = np.repeat(dataset.episode_starts[chosen], lengths) + inside
        self._valid = dataset.valid[self._rows]
        value = {"format": _FORMAT, "transform": transform.to_json(), "ahead": self._ahead}
        digest = hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16)
        for key in sorted(keys):
            digest.update(key)
        self.hash = digest.hexdigest()
        self._name = f"stats/{self.hash}.json"
        self.where = f"{dataset.url}/{self._name}"

    def compute(self, progress: OnProgress) -> DatasetStatistics:
        """Of every value."""
        steps, url = int(np.count_nonzero(self._valid)), self._dataset.url
        if steps == 0:
            raise DatasetError(f"{url}: expected at least 1 step to learn from, got none of {len(self._rows)}")
        of = self._dataset.state.shape[1] + self._dataset.action.shape[1]
        done = itertools.count(1)

        def counted(columns: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
            for column in columns:
                yield column
                del column
                progress(next(done), of)

        pairs = sum(int(np.count_nonzero(self._pairs(step))) for step in self._ahead)
        return DatasetStatistics(
            state=column_statistics(counted(self._states()), steps, what=f"{url}: state"),
            action=column_statistics(counted(self._actions(pairs)), pairs, what=f"{url}: action"),
            transform=self._transform,
            ahead=self._ahead,
            episodes=self._count,
            hash=self.hash,
        )

    @staticmethod
    def pool(selections: "Sequence[_Selection]") -> Scale:
        """Of the values of all, a column at a time."""
        url = " and ".join(selection._dataset.url for selection in selections)
        pairs = [sum(int(np.count_nonzero(s._pairs(step))) for step in s._ahead) for s in selections]
        steps = sum(int(np.count_nonzero(s._valid)) for s in selections)
        if steps == 0:
            raise DatasetError(f"{url}: expected at least 1 step to learn from, got none")
        states = map(np.concatenate, zip(*(s._states() for s in selections), strict=True))
        actions = map(
            np.concatenate, zip(*(s._actions(count) for s, count in zip(selections, pairs, strict=True)), strict=True)
        )
        return Scale(
            state=column_statistics(states, steps, what=f"{url}: state"),
            action=column_statistics(actions, sum(pairs), what=f"{url}: action"),
            hashes=tuple(selection.hash for selection in selections),
        )

    def stored(self) -> DatasetStatistics | None:
        """What the dataset holds, checked."""
        storage = self._dataset.storage
        if self._name.removeprefix("stats/") not in storage.children("stats"):
            return None
        fix = "Replace it with: vla data stats --recompute"
        value = read_document(storage, self._name, missing=fix, damaged=fix)
        try:
            found = DatasetStatistics.from_json(value, where=self.where)
        except VlaError as error:
            raise DatasetError(f"{error}. {fix}") from None
        if found.hash != self.hash:
            raise DatasetError(f"{self.where} holds the statistics {found.hash}: it was renamed. {fix}")
        return found

    def store(self, statistics: DatasetStatistics) -> None:
        """Keep them; another process may have been first with the same."""
        self._dataset.storage.put_if_absent(self._name, encode(statistics.to_json()))

    def quarantine(self) -> None:
        """Take the stored file out of the way."""
        storage = self._dataset.storage
        taken = set(storage.children("quarantine"))
        free = next(name for n in itertools.count() if (name := f"stats-{self.hash}-{n}.json") not in taken)
        storage.move(self._name, f"quarantine/{free}")
        if self._name.removeprefix("stats/") in storage.children("stats"):
            raise DatasetError(f"{self.where} cannot be moved to quarantine/; delete it by hand and run again")

    def _content(self, number: int) -> bytes:
        """What the numbers depend on: actions, states and which steps count, and no label."""
        start, length = self._dataset.episode_starts[number], self._dataset.episode_lengths[number]
        valid = hashlib.blake2b(self._dataset.valid[start : start + length].tobytes(), digest_size=8).digest()
        return bytes(self._dataset.episodes.hashes[number]) + valid

    def _pairs(self, ahead: int) -> np.ndarray:
        """Bool (steps - ahead,): the step may be learned from, and so may the one ``ahead`` of it in its episode."""
        last = max(len(self._valid) - ahead, 0)
        same = self._episode[:last] == self._episode[len(self._episode) - last :]
        return np.asarray(same & self._valid[:last] & self._valid[len(self._valid) - last :])

    def _states(self) -> Iterator[np.ndarray]:
        rows = self._rows[self._valid]
        for i in range(self._dataset.state.shape[1]):
            yield self._dataset.state[rows, i]

    def _actions(self, count: int) -> Iterator[np.ndarray]:
        """Each dimension of the transformed chunks, all pairs of it: float32 (pairs,)."""
        for i, source in enumerate(self._transform.relative_to):
            action = self._dataset.action[self._rows, i]
            state = None if source is None else self._dataset.state[self._rows, source]
            column, filled = np.empty(count, np.float32), 0
            for step in self._ahead:
                pairs = self._pairs(step)
                values = action[len(action) - len(pairs) :][pairs]
                if state is not None:
                    values -= state[: len(pairs)][pairs]
                column[filled : filled + len(values)] = values
                filled += len(values)
            yield column


def _close(a: DatasetStatistics, b: DatasetStatistics) -> bool:
    """Equal up to the last bits of sums, which another processor may round otherwise."""
    if dataclasses.replace(a, state=b.state, action=b.action) != b:
        return False
    vectors = ("mean", "std", "min", "max", "q01", "q99")
    return all(
        (ours.kind, ours.count) == (theirs.kind, theirs.count)
        and all(np.allclose(getattr(ours, v), getattr(theirs, v), rtol=1e-9, atol=1e-9) for v in vectors)
        for ours, theirs in ((a.state, b.state), (a.action, b.action))
    )
