"""Whether an episode was a success, by sentences that its end fits: no label is learned from, only the scale is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64

from vla.core.errors import ConfigError, ContractError
from vla.core.lookup import lookup
from vla.datasets.dataset import Dataset
from vla.envs.prompts import Prompts
from vla.envs.tabletop.prompts import PROMPTS
from vla.evaluation.detection.auroc import Auroc, Bin, Calibration, auroc, calibrate, calibration_error, reliability
from vla.models.contrastive.embedder import Embedder
from vla.training.samples import Episodes


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A checkpoint that embeds, and how sure its scores make one."""

    embedder: Embedder
    prompts: Prompts | None
    """For all episodes; None takes those of each one's task."""
    calibration: Calibration

    def probability(self, dataset: Dataset, episodes: Episodes) -> Float[np.ndarray, " b"]:
        """That each of these episodes was a success."""
        return self.calibration.probability(scores(self.embedder, dataset, episodes, self.prompts))


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What a detector is worth, on episodes that did not calibrate it."""

    auroc: Auroc
    reliability: Sequence[Bin]
    error: float
    """The mean distance of what is believed from what is found."""


def fit_detector(
    embedder: Embedder, labelled: Dataset, episodes: Episodes, prompts: Prompts | None, seed: int = 0
) -> tuple[Detector, Trust]:
    """Calibrated on one half of the episodes whose success is known, and measured on the other."""
    known = episodes[labelled.episodes.success[episodes] >= 0]
    truth = labelled.episodes.success[known] == 1
    # Every second one of the successes and of the failures, so that neither half lacks any.
    order = np.random.default_rng([seed, 0x68616C66]).permutation(len(known))
    order = order[np.argsort(truth[order], kind="stable")]
    found = scores(embedder, labelled, known, prompts)
    for part in (order, order[::2], order[1::2]):
        auroc(found[part], truth[part])  # refuses one without both
    calibration = calibrate(found[order[::2]], truth[order[::2]])
    rest = order[1::2]
    bins = reliability(calibration.probability(found[rest]), truth[rest])
    trust = Trust(auroc=auroc(found[rest], truth[rest]), reliability=bins, error=calibration_error(bins))
    return Detector(embedder=embedder, prompts=prompts, calibration=calibration), trust


def scores(
    embedder: Embedder, dataset: Dataset, episodes: Episodes, prompts: Prompts | None
) -> Float64[np.ndarray, " b"]:
    """How much more the last picture fits a sentence of success than all of failure together, as logarithms."""
    if embedder.camera not in {camera.name for camera in dataset.contract.cameras}:
        known = ", ".join(camera.name for camera in dataset.contract.cameras)
        raise ContractError(
            f"{dataset.url} has no camera {embedder.camera}, through which the checkpoint sees: {known}"
        )
    texts, codes = dataset.episodes.column("instruction")
    tasks, task_codes = dataset.episodes.column("task")
    shape = next(camera.shape for camera in dataset.contract.cameras if camera.name == embedder.camera)
    ends = np.empty((len(episodes), *shape), np.uint8)
    dataset.read_frames(embedder.camera, dataset.episode_starts[episodes] + dataset.episode_lengths[episodes] - 1, ends)
    images = embedder.images(ends)
    found = np.zeros(len(episodes))
    asked = np.stack([codes[episodes], task_codes[episodes]], axis=1)
    for instruction, task in np.unique(asked, axis=0):
        rows = (asked == (instruction, task)).all(axis=1)
        said = prompts or lookup("task with prompts of its own", tasks[task], PROMPTS)
        # What the checkpoint was never told of, nobody mistakes anything for.
        said = replace(said, others=tuple(other for other in said.others if not embedder.unknown([other])))
        success, failure = said.filled(texts[instruction])
        if unknown := embedder.unknown([*success, *failure]):
            raise ConfigError(
                f"prompts: the checkpoint was never told the words {', '.join(unknown)}, of {success[0]!r} and its "
                "alternatives; say it in words of the captions that it learned from"
            )
        near = embedder.logits(images[rows], embedder.texts([*success, *failure])).astype(np.float64)
        pros, cons = near[:, : len(success)], near[:, len(success) :]
        found[rows] = np.logaddexp.reduce(pros, axis=1) - np.logaddexp.reduce(cons, axis=1)
    return found
