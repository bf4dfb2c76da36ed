"""Fitting an image codec to a dataset: read pictures, fit, measure on what was held out, write a sealed folder."""

import time
from pathlib import Path

from vla.core.config import to_dict
from vla.core.errors import CheckpointError
from vla.core.provenance import provenance
from vla.datasets.dataset import Dataset
from vla.datasets.storage.storage import location_name
from vla.models.pictures.config import ImageCodecConfig
from vla.models.pictures.folder import load_image_codec, require_new_folder, write_image_codec
from vla.models.pictures.learning import Progress
from vla.models.pictures.measures import Measured, measure
from vla.models.pictures.sheet import contact_sheet
from vla.training.codes.frames import read_frames
from vla.training.codes.settings import FramesConfig


def fit_image_codec(
    dataset: Dataset,
    out: Path,
    config: ImageCodecConfig,
    frames: FramesConfig,
    *,
    seed: int = 0,
    progress: Progress = lambda fraction, text: None,
) -> Measured:
    """Write a codec for the pictures of ``dataset`` into the new folder ``out``, and say how good it is.

    What is measured is what the folder gives back.
    """
    require_new_folder(out)
    found = read_frames(dataset, frames, seed)
    began = time.monotonic()
    codec = config.fit(found.train, progress).eval()
    seconds = time.monotonic() - began
    measured = measure(codec, found.held_out)
    origin = provenance(
        dataset={"path": location_name(dataset.url), "manifest": dataset.manifest.number},
        frames=to_dict(frames),
        fitted_to=len(found.train),
        held_out_episodes=found.held_out_episodes,
        seed=seed,
        seconds=round(seconds, 2),
    )
    about = {"measured": measured.to_json(), "provenance": origin}
    write_image_codec(out, config, codec, about, contact_sheet(codec, found.held_out))
    if measure(load_image_codec(out), found.held_out) != measured:
        raise CheckpointError(f"{out}: what was written does not code as what was fitted; is the disk damaged?")
    return measured
