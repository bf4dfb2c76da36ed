"""From datasets to what a run trains on: split, strata, and everything that is fitted to the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64

from vla.core.action_transform import ActionTransform
from vla.core.errors import ConfigError, DatasetError
from vla.core.lookup import lookup
from vla.core.policy_spec import DatasetVersion
from vla.datasets.care.validate import limit_findings
from vla.datasets.dataset import Dataset
from vla.datasets.sampling.loader import Batches
from vla.datasets.sampling.mixture import Mixture
from vla.datasets.sampling.mixture_part import episodes_of_split
from vla.datasets.sampling.order import Order, ResumableSampler, SampleOrder, StratifiedOrder
from vla.datasets.sampling.settings import MixtureConfig
from vla.datasets.sampling.statistics import scale_of
from vla.datasets.sampling.windows import Windows
from vla.datasets.scenes import Ranges, scenes
from vla.datasets.selection import Selection
from vla.datasets.storage.storage import location_name
from vla.models.checkpoint import Blueprint
from vla.models.config import ModelConfig
from vla.models.preprocessor import Answers, Embodiment, Preprocessor, Texts
from vla.models.text.plain import words_of
from vla.models.transfer import Fate, Parent, inherit_codec, inherit_robots, inherit_words
from vla.models.trunk.inputs import Batch
from vla.training.recipe import DataConfig, TrainConfig
from vla.training.strata import ASKING, STRATA

_FIT_WINDOWS = 50_000
"""Chunks of each dataset that a codec is fitted to, at most."""

Episodes = Int64[np.ndarray, " _"]


@runtime_checkable
class Source(Protocol):
    """Windows of one dataset, or a mixture of several."""

    instructions: list[str]
    questions: list[str]
    answers: list[str]

    def __len__(self) -> int:
        """The number of items."""

    def batch(self, items: Int64[np.ndarray, " b"]) -> dict[str, np.ndarray]:
        """Many items at once."""

    def first_items(self) -> Episodes:
        """The first item of each episode."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What is trained on and what is held out, and what was fitted to the former."""

    train: Source
    validation: Source
    order: SampleOrder
    blueprint: Blueprint
    scenes: Mapping[str, Ranges]
    """The seeds of each task, of what is held out too: it decides when one stops."""
    parent: Parent | None = None
    """The checkpoint to start from."""
    fates: tuple[Fate, ...] = ()
    """What was taken of it that is fitted to data."""
    asked: str = ""
    """What was to be held out, in words; empty for nothing."""

    @property
    def nothing_held_out(self) -> str:
        """Why nothing will be measured on held-out episodes, if it will not and was asked for."""
        if not self.asked or len(self.validation):
            return ""
        return f"nothing is held out: {self.asked}; so no number will be one of held-out episodes"

    def batches(self, *, batch: int, rank: int, world: int, start: int) -> Batches[Batch]:
        """What one rank trains on, step by step from slot ``start`` of the order."""
        sampler = ResumableSampler(order=self.order, batch=batch, rank=rank, world=world, start=start)
        return Batches(self.train, sampler, self._collate(self.train))

    def held_out(self, items: Episodes) -> Batch:
        """These items of what is held out."""
        return self._collate(self.validation)(self.validation.batch(items))

    def _collate(self, source: Source) -> "partial[Batch]":
        preprocessor = self.blueprint.preprocessor
        answers = preprocessor.texts(source.answers, preprocessor.answer_tokens)
        return partial(_collate, preprocessor, preprocessor.texts(source.instructions), answers)


def _collate(preprocessor: Preprocessor, texts: Texts, answers: Answers, arrays: dict[str, np.ndarray]) -> Batch:
    return preprocessor.samples(arrays, texts, answers)


def open_samples(config: TrainConfig) -> Samples:
    """Open the data of a run, hold episodes out, and fit what is fitted to the rest."""
    data, model = config.data, config.model
    parent = Parent.open(Path(config.init)) if config.init else None
    if data.mixture is not None:
        return _open_mixture(data.mixture, data, model, parent, config.seed)
    if not data.path:
        raise ConfigError("train.data: which dataset? name it with --data.path, or list several under data.mixture")
    dataset = Dataset.open(data.path, data.manifest)
    episodes, held_out = split_episodes(dataset, np.flatnonzero(data.select.mask(dataset.episodes)), data, config.seed)
    opened = partial(Windows, dataset, model.horizon, history=model.history, written=model.written)
    train = opened(episodes)
    if train.steps == 0:
        raise DatasetError(
            f"dataset {data.path} has no frame to learn from ({data.select}); collect or select more episodes"
        )
    version = DatasetVersion(path=location_name(data.path), manifest=dataset.manifest.number)
    embodiment, hashes = _embodiment([(train, None)], tuple(train.cameras), model.horizon)
    blueprint, fates = _blueprint(
        [embodiment], [(train, 0)], train.image_size, model, (version,), hashes, parent, config.seed
    )
    return Samples(
        train=train,
        validation=opened(held_out),
        order=_order(train, data.strata, config.seed),
        blueprint=blueprint,
        parent=parent,
        fates=fates,
        asked=_asked(data, len(episodes) + len(held_out)),
        scenes=scenes([(dataset, np.concatenate([episodes, held_out]))]),
    )


def _open_mixture(
    mixture: MixtureConfig, data: DataConfig, model: ModelConfig, parent: Parent | None, seed: int
) -> Samples:
    """Every robot of the mixture gets one scale, whatever number of datasets it comes from."""
    if model.written:
        raise ConfigError(
            "model.writers: a mixture has no questions and no pictures of the end yet; train on data.path"
        )
    datasets = [Dataset.open(entry.path, entry.manifest) for entry in mixture.entries]
    splits = []
    for dataset, entry in zip(datasets, mixture.entries, strict=True):
        chosen = episodes_of_split(dataset, entry.split)
        everything = np.arange(len(dataset.episodes))
        splits.append(split_episodes(dataset, everything if chosen is None else chosen, data, seed))
    opened = partial(Mixture, mixture, horizon=model.horizon, history=model.history, datasets=datasets)
    train = opened(episodes=[episodes for episodes, _ in splits])
    robots: list[list[tuple[Windows, float | None]]] = [[] for _ in train.embodiments]
    cameras: list[tuple[str | None, ...]] = [()] * len(robots)
    for part in train.parts:
        robots[train.embodiment(part)].append((part.windows, part.hz))
        cameras[train.embodiment(part)] = tuple(part.cameras.get(slot) for slot in mixture.slots)
    fitted = [_embodiment(own, slots, model.horizon) for own, slots in zip(robots, cameras, strict=True)]
    versions = tuple(
        DatasetVersion(path=location_name(entry.path), manifest=dataset.manifest.number)
        for entry, dataset in zip(mixture.entries, datasets, strict=True)
    )
    size = (mixture.image_size[0], mixture.image_size[1])
    sources = [(part.windows, train.embodiment(part)) for part in train.parts]
    hashes = tuple(h for _, own in fitted for h in own)
    blueprint, fates = _blueprint([e for e, _ in fitted], sources, size, model, versions, hashes, parent, seed)
    return Samples(
        train=train,
        validation=opened(episodes=[held_out for _, held_out in splits], may_be_empty=True),
        order=train.order(seed),
        asked=_asked(data, sum(len(episodes) for episodes, _ in splits)),
        blueprint=blueprint,
        parent=parent,
        fates=fates,
        scenes=scenes((dataset, np.concatenate(split)) for dataset, split in zip(datasets, splits, strict=True)),
    )


def _asked(data: DataConfig, episodes: int) -> str:
    if data.held_out is not None:
        return f"no episode that is chosen is of split {data.held_out}"
    enough = min(0.5, 1.0 / max(1, episodes))
    more = f"--data.validation {enough:.2g} holds one out" if episodes > 1 else "collect more"
    return f"{data.validation:g} of {episodes} episodes is less than one ({more})" if data.validation else ""


def split_episodes(dataset: Dataset, chosen: Episodes, config: DataConfig, seed: int) -> tuple[Episodes, Episodes]:
    """Numbers of the episodes to train on, and of those held out: by a split, or by the seed alone."""
    if config.held_out is not None:
        held_out = Selection(splits=(config.held_out,)).mask(dataset.episodes)[chosen]
        return chosen[~held_out], chosen[held_out]
    shuffled = chosen[np.random.default_rng([seed, 0x73706C6974]).permutation(len(chosen))]
    count = round(len(shuffled) * config.validation)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def _order(windows: Windows, strata: dict[str, float], seed: int) -> SampleOrder:
    """A share from each stratum that has items, the rest from all steps."""
    asked, present = windows.asks(), {}
    for name in strata:
        stratum = lookup("stratum", name, STRATA)
        items = np.flatnonzero(stratum(windows) & (asked if stratum in ASKING else ~asked))
        if len(items):
            present[name] = items
    if asked.any() and not any(STRATA[name] in ASKING for name in present):
        raise ConfigError(
            f"train.data.strata: the model learns to answer, and the data asks {int(asked.sum())} questions; say which "
            "share of each batch they are: questions: 0.2, or of captions alone: scenes: 0.4, parts: 0.2"
        )
    if not present:
        return Order(seed, windows.steps)
    shares = [strata[name] for name in present]
    return StratifiedOrder([*present.values(), np.arange(windows.steps)], [*shares, 1 - sum(shares)], seed)


def _embodiment(
    sources: Sequence[tuple[Windows, float | None]], cameras: tuple[str | None, ...], horizon: int
) -> tuple[Embodiment, tuple[str, ...]]:
    """One robot: its action space, and one scale over all of its windows; also the hashes of the statistics.

    `DatasetError` where states or commands are far outside of their limits: nothing learned from them is right.
    """
    for windows, _ in sources:
        damage = next(limit_findings(windows.dataset), None)
        if damage is not None:
            raise DatasetError(f"dataset {windows.dataset.url}, {damage.where}: {damage.what}")
    contract = sources[0][0].dataset.contract
    space = ActionTransform.of(contract)
    scale = scale_of([(w.dataset, w.episodes, hz) for w, hz in sources], space, horizon)
    hz = sources[0][1] or contract.control_hz
    robot = replace(contract, control_hz=hz, policy=None)
    return Embodiment(
        contract=robot, cameras=cameras, space=space, state=scale.state, action=scale.action
    ), scale.hashes


def _sentences(dataset: Dataset) -> list[str]:
    """All that is said in a dataset: each distinct instruction, and the other wordings that were recorded with it."""
    said, codes = dataset.episodes.column("instruction")
    others, other_codes = dataset.episodes.column("instruction_alternatives")
    found = {said[code] for code in np.unique(codes)}
    return sorted(found.union(*(others[code] for code in np.unique(other_codes))))


def _blueprint(
    embodiments: Sequence[Embodiment],
    sources: Sequence[tuple[Windows, int]],
    image_size: tuple[int, int],
    config: ModelConfig,
    datasets: tuple[DatasetVersion, ...],
    statistics: tuple[str, ...],
    parent: Parent | None,
    seed: int,
) -> tuple[Blueprint, tuple[Fate, ...]]:
    """Everything that is fitted to data: tokenizer, scales, codecs; all of it goes into the checkpoint.

    Of a ``parent`` what means the same is kept; also what became of each.
    """
    instructions = [text for windows, _ in sources for text in _sentences(windows.dataset)]
    questions = [text for windows, _ in sources for text in windows.questions]
    answers = [text for windows, _ in sources for text in windows.answers]
    read, said = [*instructions, *questions], [*instructions, *questions, *answers]
    words = {word for sentence in said for word in words_of(sentence)}
    fates: list[Fate] = []
    if parent is None:
        tokenizer, room, longest = config.tokenizer.fit(said), 0, 0
    else:
        tokenizer, fate = inherit_words(parent, config, said)
        theirs = parent.blueprint.preprocessor
        room, longest = theirs.text_tokens, theirs.answer_tokens
        embodiments, of_robots = inherit_robots(parent, embodiments, config.horizon)
        words.update(theirs.words)
        fates += [fate, *of_robots]
    preprocessor = Preprocessor(
        embodiments=tuple(embodiments),
        tokenizer=tokenizer,
        words=tuple(sorted(words)),
        text_tokens=config.text_tokens or max(room, tokenizer.room_for(read)),
        answer_tokens=max([longest, *(len(tokenizer.ids(answer)) for answer in answers)]),
        image_size=image_size,
        history=config.history,
        horizon=config.horizon,
    )
    tokenizer.require_tells_apart(read)
    preprocessor.texts(read)  # refuses one that is longer than the recipe says
    rng = np.random.default_rng([seed, 0x666974])
    width, chunks = preprocessor.interface.action, []
    for windows, embodiment in sources:
        items = np.sort(rng.choice(windows.steps, min(_FIT_WINDOWS, windows.steps), replace=False))
        actions, _ = windows.chunks(items)
        scaled = preprocessor.scaled_chunks(windows.dataset.state[windows.rows[items]], actions, embodiment)
        chunks.append(torch.nn.functional.pad(scaled, (0, width - scaled.shape[-1])))
    blueprint = Blueprint(
        preprocessor=preprocessor,
        config=config,
        fitted=config.fit(torch.cat(chunks)),
        datasets=datasets,
        statistics=statistics,
    )
    if parent is not None:
        blueprint, fate = inherit_codec(parent, blueprint)
        fates.append(fate)
    return blueprint, tuple(fates)
