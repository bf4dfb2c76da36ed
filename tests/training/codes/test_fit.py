"""From a dataset to a codec in a folder, and from that to a policy that carries it."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import TINY
from vla.core.config import from_dict, nested
from vla.core.errors import CheckpointError, ConfigError
from vla.core.types import Observation
from vla.datasets.dataset import Dataset
from vla.models.checkpoint import load_model
from vla.models.info import checkpoint_damage
from vla.models.pictures.config import PatchCodesConfig
from vla.models.pictures.folder import load_image_codec, read_codec_document
from vla.models.pictures.measures import Measured
from vla.policies.learned import LearnedPolicy
from vla.training.codes.fit import fit_image_codec
from vla.training.codes.settings import FramesConfig
from vla.training.engines import train
from vla.training.recipe import TrainConfig

FRAMES = FramesConfig(pictures=60)


def _fit(dataset: Path, out: Path, **settings: int) -> Measured:
    return fit_image_codec(Dataset.open(dataset), out, PatchCodesConfig(**({"codes": 32} | settings)), FRAMES)


@pytest.fixture(scope="module")
def codes(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("codes") / "place"
    _fit(dataset, out)
    return out


def test_what_is_written_says_where_it_comes_from_and_how_good_it_is(dataset: Path, tmp_path: Path) -> None:
    measured = _fit(dataset, tmp_path / "codes")
    assert measured.coded.objects > measured.mean_image.objects
    assert read_codec_document(tmp_path / "codes", "measured") == json.loads(json.dumps(measured.to_json()))
    origin = read_codec_document(tmp_path / "codes", "provenance")
    assert origin["dataset"] == {"path": "place", "manifest": 1}
    assert origin["fitted_to"] == 120
    assert origin["held_out_episodes"]
    sheet = Image.open(io.BytesIO((tmp_path / "codes" / "sheet.png").read_bytes()))
    assert sheet.size[0] > 200
    again = _fit(dataset, tmp_path / "again")
    assert again == measured


def test_it_is_refused_before_anything_is_read(dataset: Path, codes: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        _fit(dataset, codes)
    with pytest.raises(ConfigError, match="patches of 5 x 5 pixels do not fill pictures of 32 x 32"):
        _fit(dataset, tmp_path / "codes", side=5)
    assert not (tmp_path / "codes").exists()


def _recipe(dataset: Path, codes: Path, **changes: Any) -> TrainConfig:
    readers = {"images": {"kind": "codes", "path": str(codes)}}
    value = {"data": {"path": str(dataset), "validation": 0.2}, "model": {"readers": readers}}
    tiny = nested(TINY, {"model": {"readers": {"images": None}, "auxiliaries": {"pointing": None}}})
    tiny["model"]["readers"].pop("images")
    return from_dict(TrainConfig, nested(nested(tiny, value), changes), where="a test")


def test_a_policy_carries_its_codec_and_hands_it_on(dataset: Path, codes: Path, tmp_path: Path) -> None:
    """Trained, stopped and gone on with, read, and begun from, the folder of the codec being gone for the reading."""
    copy = Path(shutil.copytree(codes, tmp_path / "codes"))
    checkpoint = train(_recipe(dataset, copy), tmp_path / "run")
    longer = train(_recipe(dataset, copy, steps=3), tmp_path / "run", prolong=True)
    assert checkpoint == longer
    shutil.rmtree(copy)
    assert checkpoint_damage(checkpoint) == []
    _, model = load_model(checkpoint)
    images = torch.from_numpy(Dataset.open(dataset).frame("front", 3)[None])
    expected = load_image_codec(codes).encode(images)
    assert torch.equal(model.readers["images"].codec.encode(images), expected)  # type: ignore[index, union-attr]
    assert len(expected.unique()) > 1
    policy = LearnedPolicy(checkpoint, device="cpu")
    black = {c.name: np.zeros(c.shape, np.uint8) for c in policy.contract.cameras}
    state = np.zeros(len(policy.contract.state), np.float32)
    (chunk,) = policy.act([Observation(images=black, state=state, instruction="go", time_ns=0)])
    assert chunk is not None
    shutil.copytree(codes, copy)
    begun = train(_recipe(dataset, copy, init=str(checkpoint)), tmp_path / "next")
    fates = json.loads((begun / "provenance.json").read_text())["init"]["fates"]
    assert [fate["part"] for fate in fates if fate["verdict"] == "new"] == []


def test_rows_of_another_codec_are_not_taken_for_these(dataset: Path, codes: Path, tmp_path: Path) -> None:
    checkpoint = train(_recipe(dataset, codes), tmp_path / "run")
    _fit(dataset, tmp_path / "other", seed=5)
    begun = train(_recipe(dataset, tmp_path / "other", init=str(checkpoint)), tmp_path / "next")
    _, model = load_model(begun)
    images = torch.from_numpy(Dataset.open(dataset).frame("front", 3)[None])
    other = load_image_codec(tmp_path / "other")
    assert torch.equal(model.readers["images"].codec.encode(images), other.encode(images))  # type: ignore[index, union-attr]
    fates = json.loads((begun / "provenance.json").read_text())["init"]["fates"]
    new = [fate for fate in fates if fate["verdict"] in ("new", "partly")]
    assert any("codebook" in fate["part"] for fate in new)
    assert any(fate["part"] == "table.weight" and "image of" in fate["why"] for fate in new)


def test_the_same_is_a_call_of_the_library(dataset: Path, codes: Path, tmp_path: Path) -> None:
    import vla

    measured = vla.fit_image_codec(dataset, tmp_path / "codes", settings={"codes": 32}, pictures=60)
    assert measured.codes == 32
    images = torch.from_numpy(Dataset.open(dataset).frame("front", 3)[None])
    assert torch.equal(vla.load_image_codec(tmp_path / "codes").encode(images), load_image_codec(codes).encode(images))
    with pytest.raises(ConfigError, match="settings: unknown key 'sidde'"):
        vla.fit_image_codec(dataset, tmp_path / "more", settings={"sidde": 4})
