"""One dataset of a mixture: its items, with cameras in the slots and the size of the mixture."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int64

from vla.core.action_transform import ActionTransform
from vla.core.errors import DatasetError, UnknownNameError
from vla.core.lookup import lookup
from vla.datasets.dataset import Dataset
from vla.core.images import resize_frame
from vla.datasets.sampling.statistics import load_or_compute
from vla.datasets.sampling.windows import Windows, spacing


class MixturePart:
    """The items of one dataset, as wide as its own robot."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        slots: Sequence[str],
        cameras: Mapping[str, str],
        image_size: tuple[int, ...],
        horizon: int,
        history: int,
        hz: float | None,
        split: str | None,
        normalise: bool,
    ) -> None:
        """See `MixtureConfig` of `mixture.py`; what the dataset lacks is a `DatasetError` that names it."""
        contract = dataset.contract
        if hz is not None and not 0 < hz <= contract.control_hz:
            raise DatasetError(
                f"{dataset.url}: hz={hz:g} must be positive and at most the {contract.control_hz:g} Hz at which it was "
                "recorded; lower it, or give this entry an hz of its own"
            )
        self.dataset = dataset
        self.cameras = _fill_slots(dataset, slots, cameras)
        """{slot: camera} of the slots that are filled."""
        self._slots, self._size = tuple(slots), tuple(image_size)
        episodes = _of_split(dataset, split)
        self.windows = Windows(dataset, horizon, episodes, cameras=(), history=history, hz=hz)
        if len(self.windows) == 0:
            raise DatasetError(f"{dataset.url}: no step of it may be learned from (split {split}); leave it out")
        self._behind = spacing(history, contract.control_hz, hz)[::-1]
        self.span_s = horizon / (hz or contract.control_hz)
        """What a chunk covers."""
        self.transform = ActionTransform.of(contract)
        self.statistics = load_or_compute(dataset, self.transform, horizon, episodes, hz=hz) if normalise else None

    def batch(self, items: Int64[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """As `vla.datasets.sampling.mixture.Mixture.batch`, without padding; instructions are those of `windows`."""
        raw = self.windows.batch(items)
        state, actions = raw["state"], raw["actions"]
        if self.statistics is not None:
            actions = self.statistics.action.normalise(self.transform.apply(state[:, -1], actions))
            state = self.statistics.state.normalise(state)
        filled = np.array([slot in self.cameras for slot in self._slots], bool)
        return {
            "images": self._images(raw["index"], raw["episode"]),
            "camera_valid": np.tile(filled, (len(items), 1)),
            "state": state,
            "state_valid": np.ones((len(items), state.shape[-1]), bool),
            "actions": actions,
            "action_dim_valid": np.ones((len(items), actions.shape[-1]), bool),
            **{key: raw[key] for key in ("observation_valid", "action_valid", "instruction", "index")},
        }

    def absolute(
        self, state: Float[np.ndarray, "*b s"], actions: Float[np.ndarray, "*b h d"]
    ) -> Float[np.ndarray, "*b h e"]:
        """The mirror of what `batch` does to actions; padding is cut off first."""
        contract = self.dataset.contract
        state, actions = state[..., : len(contract.state)], actions[..., : len(contract.action)]
        if self.statistics is None:
            return actions
        state, actions = self.statistics.state.denormalise(state), self.statistics.action.denormalise(actions)
        absolute: np.ndarray = self.transform.undo(state, actions)
        return absolute

    def problems(self) -> list[str]:
        """What people should know of it, one sentence each."""
        found = [] if self.statistics is None else list(self.statistics.problems(self.dataset.contract))
        unused = [c.name for c in self.dataset.contract.cameras if c.name not in self.cameras.values()]
        if unused:
            found.append(f"no slot shows its cameras {', '.join(unused)}")
        return found

    def _images(self, rows: Int64[np.ndarray, " b"], owner: Int64[np.ndarray, " b"]) -> np.ndarray:
        """uint8 (b, t, slots, y, x, 3), zero where a slot is empty."""
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


def _of_split(dataset: Dataset, split: str | None) -> Int64[np.ndarray, " episodes"] | None:
    """The episodes of a split, or None for all."""
    if split is None:
        return None
    texts, codes = dataset.episodes.column("split")
    try:
        code = lookup("split", split, {texts[code]: code for code in np.unique(codes).tolist()})
    except UnknownNameError as error:
        raise DatasetError(f"{dataset.url}: {error}") from None
    return np.flatnonzero(codes == code).astype(np.int64)
