"""A codec in a folder: read back as it was, and refused with what is wrong where it is not."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.pictures.scenes import pictures, scenes
from tests.models.pictures.test_vq import TINY
from vla.core.errors import CheckpointError, ContractError
from vla.core.sealed import seal_folder
from vla.models.checkpoint import write_tensors
from vla.models.pictures.config import FsqConfig, ImageCodecConfig, PatchCodesConfig, VqConfig
from vla.models.pictures.folder import (
    fitted_codec,
    load_image_codec,
    read_codec_document,
    read_image_codec,
    write_image_codec,
)

CONFIGS: dict[str, ImageCodecConfig] = {
    "patches": PatchCodesConfig(codes=24, side=8),
    "vq": VqConfig(quantiser=FsqConfig(levels=(4, 3)), steps=1, **TINY),
}


def _write(path: Path, kind: str) -> Any:
    codec = CONFIGS[kind].fit(pictures(20), lambda fraction, text: None)
    write_image_codec(path, CONFIGS[kind], codec, {"measured": {"good": 1}}, b"sheet")
    return codec


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codes") / "patches"
    _write(path, "patches")
    return path


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """One to be damaged."""
    return Path(shutil.copytree(written, tmp_path / "codec"))


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_read_back_codes_alike(kind: str, tmp_path: Path) -> None:
    codec = _write(tmp_path / "new" / "codec", kind)
    again = load_image_codec(tmp_path / "new" / "codec")
    images = torch.from_numpy(scenes(4, seed=5))
    ids = codec.encode(images)
    assert torch.equal(again.encode(images), ids)
    assert torch.equal(again.decode(ids), codec.decode(ids))
    assert not any(parameter.requires_grad for parameter in again.parameters())
    spec, _ = read_image_codec(tmp_path / "new" / "codec")
    assert spec.config == CONFIGS[kind]
    assert fitted_codec(json.loads(json.dumps(spec.to_json()))) == spec


def test_the_digest_is_that_of_the_weights_alone(tmp_path: Path) -> None:
    specs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = PatchCodesConfig(codes=24, seed=seed)
        codec = config.fit(pictures(20), lambda fraction, text: None)
        specs.append(write_image_codec(tmp_path / name, config, codec, {"measured": {"name": name}}, name.encode()))
    assert specs[0].digest == specs[1].digest != specs[2].digest


def test_documents_beside_it_are_read_through_the_seal(folder: Path) -> None:
    assert read_codec_document(folder, "measured") == {"good": 1}
    (folder / "measured.json").write_text('{"good": 2}')
    with pytest.raises(CheckpointError, match=r"measured\.json fails its checksum"):
        read_codec_document(folder, "measured")


def test_nothing_is_written_over(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        _write(folder, "patches")


def test_every_flipped_byte_is_noticed(folder: Path) -> None:
    files = [folder / name for name in ("codec.json", "weights.safetensors", "COMMIT.json")]
    for file in files:
        whole = file.read_bytes()
        for place in np.linspace(0, len(whole) - 1, 12).astype(int):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises(CheckpointError, match=str(folder)):
                load_image_codec(folder)
        file.write_bytes(whole)
    load_image_codec(folder)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing does not exist; fit one with: vla codes fit DATA"):
        load_image_codec(tmp_path / "nothing")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights.safetensors is missing"):
        load_image_codec(folder)
    (folder / "COMMIT.json").unlink()
    with pytest.raises(CheckpointError, match=r"is no image codec: it has no COMMIT.json"):
        load_image_codec(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"codec": {"kind": "ptches"}}, "did you mean 'patches'"),
        ({"codec": {"kind": "patches", "sides": 8}}, "sides"),
        ({"codec": {"kind": "patches", "codes": "many"}}, "codes must be int"),
        ({"codec": 3}, "codec: expected a mapping"),
        ({"image_size": [32]}, "two sides of at least 1 pixel"),
        ({"image_size": [32, 0]}, "two sides of at least 1 pixel"),
        ({"image_size": [32, 2**40]}, "image_size: expected at most"),
        ({"image_size": [32, 36]}, "do not fill pictures of 32 x 36"),
        ({"codec": {"kind": "patches", "codes": 25}}, "wrong shape"),
        ({"codec": {"kind": "patches", "codes": 2**40}}, "describes a codec of more than"),
        ({"codec": {"kind": "vq"}}, "missing"),
        ({"codec": {"kind": "vq", "channels": 2**20}}, "describes a codec of more than"),
        ({"digest": "0" * 32}, "is not what codec.json names"),
    ],
)
def test_documents_that_lie_are_refused(damage: dict[str, Any], message: str, folder: Path) -> None:
    """Sealed again by whoever changed them."""
    file = folder / "codec.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    seal_folder(folder)
    with pytest.raises(CheckpointError, match=message):
        load_image_codec(folder)


def test_weights_that_lie_are_refused(folder: Path) -> None:
    write_tensors(folder / "weights.safetensors", {"codebook": torch.zeros(24, 192, dtype=torch.uint8)})
    seal_folder(folder)
    with pytest.raises(CheckpointError, match=r"weights.safetensors is not what codec.json names"):
        load_image_codec(folder)


def test_a_contract_that_is_damaged_is_refused() -> None:
    with pytest.raises(ContractError, match="image codec in the contract: codec: expected a mapping"):
        fitted_codec({})
