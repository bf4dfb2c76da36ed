"""One dataset of a mixture: its items, with cameras in the slots and the size of the mixture."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from vla.core.action_transform import ActionTransform
from vla.core.errors import DatasetError, UnknownNameError
from vla.core.lookup import lookup
from vla.core.media.images import resize_frame
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.settings import MixtureConfig, MixtureEntry
from vla.datasets.sampling.statistics import load_or_compute
from vla.datasets.sampling.windows import Windows, spacing
from vla.datasets.store.layout import signal_name


class MixturePart:
    """The items of one dataset, as wide as its own robot."""

    def __init__(
        self,
        dataset: Dataset,
        entry: MixtureEntry,
        config: MixtureConfig,
        *,
        horizon: int,
        history: int,
        episodes: Int64[np.ndarray, " _"] | None = None,
        may_be_empty: bool = False,
    ) -> None:
        """``episodes`` are those of the entry's split by default; what the dataset lacks is a `DatasetError`."""
        contract = dataset.contract
        hz = config.hz if entry.hz is None else entry.hz
        if hz is not None and not 0 < hz <= contract.control_hz:
            raise DatasetError(
                f"{dataset.url}: hz={hz:g} must be positive and at most the {contract.control_hz:g} Hz at which it was "
                "recorded; lower it, or give this entry an hz of its own"
            )
        self.dataset = dataset
        self.cameras = _fill_slots(dataset, config.slots, entry.cameras)
        """{slot: camera} of the slots that are filled."""
        self._slots, self._size = config.slots, tuple(config.image_size)
        episodes = episodes_of_split(dataset, entry.split) if episodes is None else episodes
        self.hz = hz or contract.control_hz
        """Rate of chunks and histories."""
        self.windows = Windows(dataset, horizon, episodes, cameras=(), history=history, hz=hz)
        if len(self.windows) == 0 and not may_be_empty:
            raise DatasetError(f"{dataset.url}: no step of it may be learned from (split {entry.split}); leave it out")
        self._behind = spacing(history, contract.control_hz, hz)[::-1]
        self.span_s = horizon / self.hz
        """What a chunk covers."""

    def batch(self, items: Int64[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """As `vla.datasets.sampling.mixture.Mixture.batch`, without padding; instructions are those of `windows`."""
        raw = self.windows.batch(items)
        state, actions = raw["state"], raw["actions"]
        filled = np.array([slot in self.cameras for slot in self._slots], bool)
        return {
            "images": self._images(raw["index"], raw["episode"]),
            "camera_valid": np.tile(filled, (len(items), 1)),
            "state": state,
            "state_valid": np.ones((len(items), state.shape[-1]), bool),
            "actions": actions,
            "executed": raw["executed"],
            "action_dim_valid": np.ones((len(items), actions.shape[-1]), bool),
            **{key: raw[key] for key in ("observation_valid", "action_valid", "instruction", "index")},
            **{key: value for key, value in raw.items() if key.startswith(signal_name(""))},
        }

    def problems(self) -> list[str]:
        """What people should know of it, one sentence each."""
        transform = ActionTransform.of(self.dataset.contract)
        statistics = load_or_compute(self.dataset, transform, self.windows.horizon, self.windows.episodes, hz=self.hz)
        found = list(statistics.problems(self.dataset.contract))
        unused = [c.name for c in self.dataset.contract.cameras if c.name not in self.cameras.values()]
        if unused:
            found.append(f"no slot shows its cameras {', '.join(unused)}")
        return found

    def _images(self, rows: Int64[np.ndarray, " b"], owner: Int64[np.ndarray, " b"]) -> np.ndarray:
        """uint8 (b, t, slots, y, x, 3), zero where a slot is empty."""
        # As in `Windows`: before the start, the first observation stands in.
        steps = np.maximum(rows[:, None] - self._behind, self.dataset.episode_starts[owner][:, None])  # (b, t)
        images = np.zeros((*steps.shape, len(self._slots), *self._size, 3), np.uint8)
        flat, steps = images.reshape(steps.size, *images.shape[2:]), steps.reshape(-1)
        shapes = {camera.name: camera.shape for camera in self.dataset.contract.cameras}
        for slot, camera in self.cameras.items():
            column = flat[:, self._slots.index(slot)]
            if shapes[camera][:2] == self._size:
                self.dataset.read_frames(camera, steps, column)
                continue
            frame = np.empty((1, *shapes[camera]), np.uint8)
            for row in range(len(steps)):  # one at a time: a batch of large frames is more than RAM should hold
                self.dataset.read_frames(camera, steps[row : row + 1], frame)
                column[row] = resize_frame(frame[0], self._size)
        return images


def _fill_slots(dataset: Dataset, slots: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """{slot: camera}, checked; by equal names if nothing is chosen."""
    colour = {camera.name: camera for camera in dataset.contract.cameras if camera.kind == "rgb"}
    try:
        for slot, camera in chosen.items():
            lookup("slot", slot, dict.fromkeys(slots))
            lookup("colour camera", camera, colour)
    except UnknownNameError as error:
        raise DatasetError(f"{dataset.url}: cameras: {error}") from None
    pairs = chosen or {slot: slot for slot in slots if slot in colour}
    if slots and not pairs:
        raise DatasetError(
            f"{dataset.url}: none of its cameras ({', '.join(colour) or 'none in colour'}) is called like a slot "
            f"({', '.join(slots)}); map them with cameras: {{slot: camera}}"
        )
    return {slot: pairs[slot] for slot in slots if slot in pairs}


def episodes_of_split(dataset: Dataset, split: str | None) -> Int64[np.ndarray, " episodes"] | None:
    """The episodes of a split, or None for all."""
    if split is None:
        return None
    texts, codes = dataset.episodes.column("split")
    try:
        code = lookup("split", split, {texts[code]: code for code in np.unique(codes).tolist()})
    except UnknownNameError as error:
        raise DatasetError(f"{dataset.url}: {error}") from None
    return np.flatnonzero(codes == code).astype(np.int64)
