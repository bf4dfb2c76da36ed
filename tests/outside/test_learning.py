"""Codecs, heads, readers and whole kinds of models from another package: trained, written, read and acting."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla.core.config import from_dict
from vla.core.lookup import lookup
from vla.core.types import Observation
from vla.models.checkpoint import read_blueprint
from vla.models.codecs.checker import check_codec
from vla.models.codecs.config import CodecConfig
from vla.models.pictures.checker import check_image_codec
from vla.models.pictures.folder import load_image_codec
from vla.policies.learned import LearnedPolicy
from vla.training.engines import train
from vla.training.recipe import TrainConfig

SMALL = {"trunk": {"width": 32, "layers": 1, "heads": 2}, "readers": {"text": {"heads": 2}, "images": {"channels": 8}}}
READERS = {**SMALL["readers"], "colour": {"kind": "example-colour"}}
MODELS: dict[str, dict[str, Any]] = {
    "codec": {**SMALL, "head": {"kind": "tokens", "codec": {"kind": "example-cosine", "levels": 64}}},
    "head": {**SMALL, "head": {"kind": "example-l1"}},
    "reader": {**SMALL, "readers": READERS},
    "model": {"kind": "example-linear", "horizon": 4},
    "module:Name": {"kind": "vla_example.models:LinearConfig"},
}


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_and_acts(name: str, dataset: Path, tmp_path: Path) -> None:
    recipe = {
        "data": {"path": str(dataset), "validation": 0.2},
        "model": MODELS[name],
        "engine": "inline",
        "workers": 1,
        "batch": 8,
        "steps": 3,
        "log_steps": 1,
        "precision": "float32",
    }
    checkpoint = train(from_dict(TrainConfig, recipe, where="a test"), tmp_path / "run")
    blueprint = read_blueprint(checkpoint)
    policy = LearnedPolicy(checkpoint, device="cpu")
    images = {c.name: np.zeros(c.shape, np.uint8) for c in policy.contract.cameras}
    state = np.zeros(len(policy.contract.state), np.float32)
    (chunk,) = policy.act([Observation(images=images, state=state, instruction="go", time_ns=0)])
    assert chunk is not None
    assert chunk.actions.shape == (blueprint.config.horizon, len(policy.contract.action))
    assert np.isfinite(chunk.actions).all()


def test_it_writes(dataset: Path, tmp_path: Path) -> None:
    """Beside actions, from what no file of ours names."""
    MODELS["writer"] = {**SMALL, "writers": {"ends": {"kind": "example-mean"}}}
    try:
        test_it_trains_and_acts("writer", dataset, tmp_path)
    finally:
        del MODELS["writer"]
    policy = LearnedPolicy(tmp_path / "run" / "checkpoint", device="cpu")
    images = {c.name: np.zeros(c.shape, np.uint8) for c in policy.contract.cameras}
    state = np.zeros(len(policy.contract.state), np.float32)
    (picture,) = policy.imagine([Observation(images=images, state=state, instruction="go", time_ns=0)])
    assert picture.shape == policy.contract.cameras[0].shape
    assert np.unique(picture.reshape(-1, 3), axis=0).shape == (1, 3)
    assert policy.camera == policy.contract.cameras[0].name


def test_pictures_are_coded_and_read_by_it(dataset: Path, tmp_path: Path) -> None:
    """On the command line, and by a policy that has no need of the folder any more."""
    command = ["codes", "fit", str(dataset), str(tmp_path / "codes"), "--kind", "example-means", "--cell", "8"]
    run = subprocess.run([sys.executable, "-m", "vla.cli.main", *command], capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    codec = load_image_codec(tmp_path / "codes")
    assert (codec.size, codec.grid) == (216, (4, 4))
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    check_image_codec(codec, images, most_off=90.0)
    readers = {**SMALL["readers"], "images": {"kind": "codes", "path": str(tmp_path / "codes")}}
    MODELS["codes"] = {**SMALL, "readers": readers, "auxiliaries": {"pointing": None}}
    try:
        test_it_trains_and_acts("codes", dataset, tmp_path)
    finally:
        del MODELS["codes"]


def test_the_codec_keeps_what_every_codec_promises() -> None:
    config = lookup("kind of codec", "example-cosine", CodecConfig.table(), group=CodecConfig.group)(levels=4096)
    chunks = torch.rand(50, 8, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    check_codec(config.build(config.fit(chunks)), chunks, tolerance=0.01)
