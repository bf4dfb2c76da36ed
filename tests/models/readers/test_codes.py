"""Pictures read as codes: rows of the table, by a codec that travels with the model and never learns in it."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.learning import learn, scaled
from tests.models.pictures.scenes import pictures, scenes
from vla.core.errors import CheckpointError, ConfigError, ContractError
from vla.models.kinds.unified import UnifiedConfig
from vla.models.model import Model
from vla.models.pictures.config import FsqConfig, ImageCodecConfig, PatchCodesConfig, VqConfig
from vla.models.pictures.folder import load_image_codec, write_image_codec
from vla.models.readers.codes import CodesReader
from vla.models.readers.config import CodesConfig, StateConfig, TextConfig
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary

MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., Model]
KINDS: Mapping[str, ImageCodecConfig] = {
    "patches": PatchCodesConfig(codes=24, side=8),
    "vq": VqConfig(
        quantiser=FsqConfig(levels=(4, 4)), channels=8, multipliers=(1,), stem=8, latent=8, groups=4, steps=1
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A codec of each kind, and another codebook."""
    root = tmp_path_factory.mktemp("codes")
    for name, config in (*KINDS.items(), ("other", PatchCodesConfig(codes=24, side=8, seed=1))):
        codec = config.fit(pictures(30), lambda fraction, text: None)
        write_image_codec(root / name, config, codec, {}, b"")
    return {name: root / name for name in (*KINDS, "other")}


@pytest.fixture
def batch(make_batch: MakeBatch) -> Batch:
    """Pictures of the codec's size, of two cameras."""
    found = make_batch(size=4)
    images = torch.from_numpy(scenes(8, seed=7)).view(4, 1, 2, 32, 32, 3)
    return replace(found, inputs=replace(found.inputs, images=images))


def _readers(path: Path) -> dict[str, Any]:
    return {"text": TextConfig(heads=3), "images": CodesConfig(path=str(path)), "state": StateConfig(dropout=0.0)}


def _model(make_model: MakeModel, path: Path, **changes: Any) -> Model:
    model = make_model(readers=_readers(path), **({"auxiliaries": {}} | changes))
    model.begin()
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_is_the_row_of_its_code(
    kind: str, folders: dict[str, Path], interface: Interface, batch: Batch
) -> None:
    config = CodesConfig(path=str(folders[kind]))
    torch.manual_seed(0)
    reader = config.build(interface, 6, config.fit())
    assert isinstance(reader, CodesReader)
    scaled(reader)
    reader.begin()  # behind, since it fills the codec
    table = scaled(TokenTable(Vocabulary({"special": len(SPECIALS), **reader.ranges}), 6))
    segment = reader(batch.inputs, {}, table, {})
    codec = load_image_codec(folders[kind])
    assert segment.x.shape == (4, 2 * 16, 6)
    x = segment.x.view(4, 2, 16, 6)
    ids = codec.encode(batch.inputs.images.view(8, 32, 32, 3)).view(4, 2, 16)
    moved = x - table.rows("image")[ids]
    torch.testing.assert_close(moved, moved[:1].expand_as(moved))  # what is left says place and camera
    assert not torch.allclose(moved[0, 0], moved[0, 1])
    assert not torch.allclose(moved[0, 0, 0], moved[0, 0, 1])
    assert segment.position is not None
    assert segment.position[16 + 5].tolist() == [4, 4 + 1, 4 + 1]


def test_what_is_not_there_is_not_valid(folders: dict[str, Path], make_model: MakeModel, batch: Batch) -> None:
    batch.inputs.camera_valid[1, 1] = False
    batch.inputs.observed[2, 0] = False
    model = _model(make_model, folders["patches"])
    segments, _ = model._read_inputs(batch.inputs)  # type: ignore[operator]
    valid = segments["images"].valid.view(4, 2, 16)
    assert not valid[1, 1].any()
    assert not valid[2].any()
    assert int((~valid).sum()) == 16 + 32


def test_the_range_is_called_image_and_counts_the_codes(folders: dict[str, Path], make_model: MakeModel) -> None:
    vocabulary = _model(make_model, folders["patches"]).table.vocabulary  # type: ignore[union-attr]
    assert list(vocabulary) == ["text", "special", "image", "action"]  # type: ignore[arg-type]
    assert len(vocabulary.range("image")) == 24  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_learned_and_the_codec_is_not(
    kind: str, folders: dict[str, Path], make_model: MakeModel, batch: Batch
) -> None:
    model = _model(make_model, folders[kind])
    model.train()
    before = {name: value.clone() for name, value in model.readers["images"].codec.state_dict().items()}  # type: ignore[index, union-attr]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    first, *_, last = learn(model, batch, steps=30, lr=1e-2)
    assert last["action_loss"] < 0.75 * first["action_loss"]
    after = model.readers["images"].codec.state_dict()  # type: ignore[index, union-attr]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is not None for p in trainable)
    table, own = model.get_parameter("table.weight"), model.table.vocabulary.range("image")  # type: ignore[union-attr]
    ids = load_image_codec(folders[kind]).encode(batch.inputs.images.view(8, 32, 32, 3))
    assert table.grad is not None
    touched = table.grad[own.start : own.stop].abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert set(touched) == set(ids.unique().tolist())


def test_codes_matter_to_what_is_done(folders: dict[str, Path], make_model: MakeModel, batch: Batch) -> None:
    model = scaled(make_model(readers=_readers(folders["patches"]), auxiliaries={}))
    model.begin()
    other = replace(batch.inputs, images=batch.inputs.images.flip(0))
    assert not torch.equal(model.act(batch.inputs).actions, model.act(other).actions)


def test_autocast_changes_no_code(folders: dict[str, Path], make_model: MakeModel, batch: Batch) -> None:
    """Of a model that trains in bfloat16."""
    codec = _model(make_model, folders["patches"]).readers["images"].codec  # type: ignore[index, union-attr]
    images = batch.inputs.images.view(8, 32, 32, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = codec.encode(images)
    assert torch.equal(inside, codec.encode(images))


def test_the_codec_travels_with_the_model(folders: dict[str, Path], interface: Interface, tmp_path: Path) -> None:
    """What is built of configuration, what was fitted, and weights needs no folder."""
    shutil.copytree(folders["patches"], tmp_path / "codec")
    trunk = TransformerConfig(width=24, layers=1, heads=3)
    config = UnifiedConfig(readers=_readers(tmp_path / "codec"), auxiliaries={}, horizon=3, trunk=trunk)
    chunks = torch.rand(50, 3, 4, generator=torch.Generator().manual_seed(0))
    fitted = config.fit(chunks)
    assert fitted["readers"]["images"]["codec"]["kind"] == "patches"
    model = config.build(interface, fitted)
    model.begin()
    shutil.rmtree(tmp_path / "codec")
    again = config.build(interface, fitted)
    again.load_state_dict(model.state_dict())
    images = torch.from_numpy(scenes(3, seed=1))
    codec = load_image_codec(folders["patches"])
    assert torch.equal(again.readers["images"].codec.encode(images), codec.encode(images))  # type: ignore[index, union-attr]


def test_models_without_codes_have_nothing_fitted_for_readers() -> None:
    """Or their contracts would differ from those that were written before there were codes."""
    assert list(UnifiedConfig(horizon=3).fit(torch.rand(50, 3, 4))) == ["head"]


def test_ids_and_weights_of_another_codec_mean_something_else(folders: dict[str, Path], make_model: MakeModel) -> None:
    one, same, other = (_model(make_model, folders[name]) for name in ("patches", "patches", "other"))
    name = "readers.images.codec.codebook"
    assert name in one.state_dict()
    assert one.meaning(name) == same.meaning(name) != other.meaning(name)
    assert one.meaning("readers.images.view.weight") == "readers.images.view.weight"
    rows = [set(model.rows([], ["arm"])["table.weight"]) for model in (one, same, other)]
    assert rows[0] == rows[1]
    shared = {row for row in rows[0] & rows[2] if row.startswith("image")}
    assert not shared
    assert sum(row.startswith("image of ") for row in rows[0]) == 24


def test_pictures_of_another_size_are_refused_with_both(
    folders: dict[str, Path], make_model: MakeModel, make_batch: MakeBatch
) -> None:
    batch = make_batch()
    with pytest.raises(ConfigError, match=r"was fitted to pictures of 32 x 32, and these are 20 x 24"):
        _model(make_model, folders["patches"]).loss(batch.inputs, batch.targets)


def test_what_is_missing_or_changed_is_said(folders: dict[str, Path], make_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.readers\.codes\.path: which codec\?"):
        make_model(readers=_readers(Path()) | {"images": CodesConfig()})
    with pytest.raises(CheckpointError, match=r"nothing does not exist; fit one with: vla codes fit"):
        make_model(readers=_readers(tmp_path / "nothing"))
    shutil.copytree(folders["patches"], tmp_path / "codec")
    model = make_model(readers=_readers(tmp_path / "codec"), auxiliaries={})
    shutil.rmtree(tmp_path / "codec")
    shutil.copytree(folders["other"], tmp_path / "codec")
    with pytest.raises(ConfigError, match="holds another codec than when its settings were read"):
        model.begin()


def test_a_damaged_contract_is_refused(folders: dict[str, Path], interface: Interface) -> None:
    config = CodesConfig(path=str(folders["patches"]))
    for damage in ({}, config.fit() | {"image_size": [0, 1]}, config.fit() | {"codec": {"kind": "nothing"}}):
        with pytest.raises(ContractError, match="image codec in the contract"):
            config.build(interface, 6, damage)


def test_two_readers_cannot_both_have_the_range(folders: dict[str, Path], make_model: MakeModel) -> None:
    readers = _readers(folders["patches"])
    with pytest.raises(ConfigError, match=r"readers.images and readers.again both ask for the range 'image'"):
        make_model(readers=readers | {"again": CodesConfig(path=str(folders["other"]))})


def test_paths_hold_in_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = UnifiedConfig(readers=_readers(Path("codes/place"))).resolved()
    assert config.readers["images"] == CodesConfig(path=str(tmp_path / "codes/place"))
    assert config.readers["text"] == TextConfig(heads=3)
    assert CodesConfig().resolved() == CodesConfig()
