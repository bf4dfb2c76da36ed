"""From a dataset to batches: split, strata, codec fitting, tokenised instructions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.loader import iterate_steps
from vla.datasets.sampling.order import Order, ResumableSampler, SampleOrder, StratifiedOrder
from vla.datasets.sampling.statistics import load_or_compute
from vla.datasets.sampling.windows import Windows
from vla.datasets.selection import Selection
from vla.datasets.store.storage import location_name
from vla.models.bins import ActionCodec, BinCodec
from vla.models.checkpoint import ModelParts
from vla.models.config import UnifiedConfig
from vla.models.grounding import SIGNALS, GroundingLayout, entries
from vla.models.text import InstructionTokenizer
from vla.train.recipe import DataConfig, TrainConfig

_FIT_WINDOWS = 50_000


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Training and validation windows of one dataset version."""

    train: Windows
    validation: Windows
    order: SampleOrder

    @staticmethod
    def open(config: DataConfig, horizon: int, seed: int) -> "Samples":
        """Open the dataset and split it by episode: by the split that is held out, or by the seed alone."""
        dataset = Dataset.open(config.path, config.manifest)
        episodes, held_out = _split(dataset, config, seed)
        train = Windows(dataset, horizon, episodes)
        if len(train) == 0:
            raise DatasetError(
                f"dataset {config.path} has no frame to learn from ({config.select}); collect or select more episodes"
            )
        approach = np.flatnonzero(before_first_grasp(train, dataset.contract))
        order: SampleOrder = Order(seed, len(train))
        if config.approach and len(approach):
            everything = np.arange(len(train))
            shares = (config.approach, 1 - config.approach)
            order = StratifiedOrder((approach, everything), shares, seed)
        return Samples(train=train, validation=Windows(dataset, horizon, held_out), order=order)


def _split(dataset: Dataset, config: DataConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the episodes to train on, and of those held out."""
    chosen = np.flatnonzero(config.select.mask(dataset.episodes))
    if config.held_out is not None:
        held_out = Selection(splits=(config.held_out,)).mask(dataset.episodes)[chosen]
        return chosen[~held_out], chosen[held_out]
    shuffled = chosen[np.random.default_rng([seed, 0x73706C6974]).permutation(len(chosen))]
    count = round(len(shuffled) * config.validation)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def before_first_grasp(windows: Windows, contract: Contract) -> np.ndarray:
    """Bool (items,): the item comes two steps or more before its episode first closes the gripper."""
    if contract.gripper is None:
        return np.zeros(len(windows), bool)
    column = [d.name for d in contract.action].index(contract.gripper)
    dimension = contract.action[column]
    data = windows.dataset
    closing = data.action[:, column] < (dimension.low + dimension.high) / 2 + 0.1 * (dimension.high - dimension.low)
    first = np.full(len(data.episodes), len(data))
    for episode, (start, length) in enumerate(zip(data.episode_starts, data.episode_lengths, strict=True)):
        if (hits := np.flatnonzero(closing[start : start + length])).size:
            first[episode] = start + hits[0]
    return np.asarray(windows.rows < first[windows.owner] - 1)


def fit_parts(windows: Windows, config: UnifiedConfig, seed: int) -> ModelParts:
    """Everything that is fitted to data: tokenizer, codec limits, state range. All of it goes into the contract."""
    contract, data = windows.dataset.contract, windows.dataset
    rng = np.random.default_rng([seed, 0x666974])
    items = np.sort(rng.choice(len(windows), min(_FIT_WINDOWS, len(windows)), replace=False))
    rows = windows.rows[items]
    last = data.episode_starts[windows.owner[items]] + data.episode_lengths[windows.owner[items]] - 1
    ahead = np.minimum(rows[:, None] + np.arange(config.horizon), last[:, None])
    margin = np.array([1e-3 * (d.high - d.low) for d in contract.state], np.float32)
    metric = [entries(contract)[i] for i in GroundingLayout.of(contract).metric]
    limits = [np.array([getattr(d, end) for d in metric], np.float32) for end in ("low", "high")]
    return ModelParts(
        contract=contract,
        tokenizer=InstructionTokenizer.train(windows.instructions),
        config=config,
        actions=ActionCodec.fit(
            contract, data.state[rows], data.action[ahead], bins=config.action_bins, sigma=config.label_sigma
        ),
        grounding=BinCodec(low=limits[0], high=limits[1], bins=config.grounding_bins, sigma=config.label_sigma),
        state_range=(data.state[rows].min(axis=0) - margin, data.state[rows].max(axis=0) + margin),
    )


class Batches(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Item ``i`` is the whole batch of step ``i``: so any number of loader processes keeps the order."""

    def __init__(self, windows: Windows, parts: ModelParts, sampler: ResumableSampler) -> None:
        self._windows, self._sampler = windows, sampler
        text, valid = parts.tokenizer.encode(windows.instructions, parts.config.text_tokens)
        self._text, self._text_valid = torch.from_numpy(text), torch.from_numpy(valid)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """The tensors that `vla.models.unified.UnifiedTransformer.loss` takes."""
        return self.collate(self._windows.batch(self._sampler.items(step)))

    def collate(self, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """Arrays of `Windows.batch` to tensors, with the instructions as tokens."""
        batch = {key: torch.from_numpy(arrays[key]) for key in ("actions", "action_valid")}
        said = [arrays[f"signals/{name}"] for name in SIGNALS if f"signals/{name}" in arrays]
        nothing = np.empty((len(arrays["index"]), 0), np.float32)
        batch["grounding"] = torch.from_numpy(np.concatenate([nothing, *said], axis=1))
        batch |= {key: torch.from_numpy(arrays[key][:, -1]) for key in ("images", "state")}  # the present
        instruction = torch.from_numpy(arrays["instruction"])
        return batch | {"text": self._text[instruction], "text_valid": self._text_valid[instruction]}

    def first_frames(self, windows: Windows, limit: int = 128) -> dict[str, Tensor] | None:
        """The first frame of each episode of ``windows``, where only looking tells where things are."""
        items = np.flatnonzero(np.diff(windows.owner, prepend=-1))[:limit]
        return self.collate(windows.batch(items)) if len(items) else None

    def any_frames(self, windows: Windows, seed: int, limit: int = 256) -> dict[str, Tensor] | None:
        """A fixed random sample of ``windows``."""
        if len(windows) == 0:
            return None
        items = np.random.default_rng(seed).choice(len(windows), min(limit, len(windows)), replace=False)
        return self.collate(windows.batch(np.sort(items)))

    def loader(self, loaders: int) -> Iterator[dict[str, Tensor]]:
        """Batches from step 0 of the sampler on, without end."""
        return iterate_steps(self, loaders)


def open_run(config: TrainConfig) -> tuple[Samples, ModelParts]:
    """Open the data of a run and fit what is fitted to it."""
    samples = Samples.open(config.data, config.model.horizon, config.seed)
    parts = fit_parts(samples.train, config.model, config.seed)
    data = samples.train.dataset
    statistics = load_or_compute(data, parts.actions.transform, config.model.horizon, samples.train.episodes)
    return samples, parts.bind(
        dataset={"path": location_name(config.data.path), "manifest": data.manifest.number},
        statistics={
            "hash": statistics.hash,
            "state": statistics.state.to_json(),
            "action": statistics.action.to_json(),
        },
    )
